"""Litestar: a guard, and request types whose ``user`` is typed.

::

    auth = StackAuthConfig(request_user=True)

    @get("/me", guards=[require_auth])
    async def me(request: AuthRequest) -> User:
        return request.user

    app = Litestar([me], middleware=[DefineMiddleware(StackAuthASGIMiddleware, config=auth)])

Litestar makes one middleware per route. Pass them a `config`, through which they share caches and connections.
Handlers that call `require_user` or `aload_profile` directly need ``exception_handlers=refusal_handlers``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

from litestar import Request, Response, WebSocket
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.exceptions import (
    ClientException,
    HTTPException,
    InternalServerException,
    NotAuthorizedException,
    PermissionDeniedException,
    ServiceUnavailableException,
    WebSocketException,
)
from litestar.handlers import BaseRouteHandler
from litestar.utils.scope.state import ScopeState

from .._core.users import Permissions, User
from ..errors import AuthServerError, RefusedError
from ._shared import Demand, refusal_of, respond_to

__all__ = ["AuthRequest", "AuthSocket", "refusal_handlers", "require_auth", "require_permission"]

AuthRequest: TypeAlias = Request[User, Permissions, State]
"""Type of a request with a user: behind `require_auth` or a ``required`` rule, with ``request_user=True``."""
AuthSocket: TypeAlias = WebSocket[User, Permissions, State]
"""Same as `AuthRequest`, but for WebSockets."""

_EXCEPTIONS: dict[int, type[HTTPException]] = {
    400: ClientException,
    401: NotAuthorizedException,
    403: PermissionDeniedException,
    500: InternalServerException,
    503: ServiceUnavailableException,
}


async def require_auth(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """Require a signed-in user; a guard for handlers, controllers, routers and apps.

    ::

        @get("/me", guards=[require_auth])
        async def me(request: AuthRequest) -> User:
            return request.user

    Args:
        connection: the request or WebSocket.
        _handler: not used; Litestar passes it to guards.

    Raises:
        HTTPException: the request is unauthenticated: the subclass for the status, with the error code in ``extra``.
            The exception handlers of the app see it; without one, the client gets the response that the middleware
            would send.
        WebSocketException: the same on a WebSocket, with the close code of the middleware.
        ConfigError: no Stack Auth middleware saw this request.
    """
    await _guard(Demand(), connection)


def require_permission(
    permission: str, *, team: str | None = None
) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]:
    """Return a guard that requires a signed-in user who holds a permission.

    ::

        @get("/teams/{team_id:uuid}/reports", guards=[require_permission("read_reports", team="team_id")])
        async def reports(request: AuthRequest) -> list[str]: ...

    Args:
        permission: id of the permission.
        team: name of the path parameter that is the id of the team; None for a permission of the project.

    Raises:
        HTTPException: from the guard, as `require_auth` does, and with 403 if the user does not hold the permission.
        WebSocketException: the same on a WebSocket, with the close code of the middleware.
        ConfigError: `permission` is not a permission id; or from the guard, as `require_auth` does, and if the path
            has no parameter `team`.
    """
    demand = Demand.of(permission, team)

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        await _guard(demand, connection)

    return guard


async def _guard(demand: Demand, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    try:
        await demand.auser(connection, connection.path_params)
    except (RefusedError, AuthServerError) as error:
        if connection.scope["type"] == ScopeType.WEBSOCKET:
            refusal = refusal_of(connection, error)
            raise WebSocketException(detail=error.code.value, code=refusal.close_code) from error
        exception = _exception(connection, error)
        _respond_unless_app_does(connection, exception)
        raise exception from error


def _exception(connection: ASGIConnection[Any, Any, Any, Any], error: RefusedError | AuthServerError) -> HTTPException:
    """Return `error` as a Litestar exception."""
    refusal = refusal_of(connection, error)
    extra = {name: value for name, value in refusal.detail.items() if name != "error"}
    return _EXCEPTIONS[refusal.status](detail=refusal.message, headers=refusal.headers, extra=extra)


def _respond_unless_app_does(connection: ASGIConnection[Any, Any, Any, Any], exception: HTTPException) -> None:
    """Register a handler that sends the middleware's response, unless the app has a handler for `exception`.

    Litestar's default handler sends a body of its own. The handlers that apply to a request are kept in the state of
    its scope, which is not a public interface: if they are not found there, the default handler responds.
    """
    handlers: Any = getattr(ScopeState.from_scope(connection.scope), "exception_handlers", None)
    if isinstance(handlers, dict) and not handlers.keys() & {exception.status_code, *type(exception).__mro__}:
        handlers[type(exception)] = _refuse


def _refuse(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    cause = error.__cause__ if isinstance(error, HTTPException) else error
    response = respond_to(request, cast("RefusedError | AuthServerError", cause))
    headers = dict(response.headers)
    return Response(response.body, status_code=response.status, media_type=headers.pop("Content-Type"), headers=headers)


refusal_handlers: dict[type[Exception] | int, Any] = {RefusedError: _refuse, AuthServerError: _refuse}
"""Exception handlers for an app whose handlers call `require_user` or `aload_profile` directly:
``Litestar(..., exception_handlers=refusal_handlers)``. Clients get the responses that the middleware would send. HTTP
only: Litestar has no exception handlers for WebSockets.
"""
