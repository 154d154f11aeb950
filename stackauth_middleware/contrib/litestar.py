"""Litestar: a guard, and a request whose ``user`` is typed.

::

    auth = StackAuthConfig(request_user=True)

    @get("/me", guards=[require_auth])
    async def me(request: AuthRequest) -> User:
        return request.user

    app = Litestar([me], middleware=[DefineMiddleware(StackAuthASGIMiddleware, config=auth)])

Litestar makes one middleware for each route; through `config` they share what lives. For handlers
that call `require_user` or `aload_profile` themselves: ``exception_handlers=refusal_handlers``.
"""

from __future__ import annotations

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
from .._handler_api import require_user
from ..errors import AuthServerError, RefusedError
from ._shared import refusal_of, respond_to

__all__ = ["AuthRequest", "AuthSocket", "refusal_handlers", "require_auth"]

AuthRequest: TypeAlias = Request[User, Permissions, State]
"""A request behind `require_auth` or a ``required`` rule, with ``request_user=True``."""
AuthSocket: TypeAlias = WebSocket[User, Permissions, State]
"""The same for a WebSocket."""

_EXCEPTIONS: dict[int, type[HTTPException]] = {
    400: ClientException,
    401: NotAuthorizedException,
    403: PermissionDeniedException,
    500: InternalServerException,
    503: ServiceUnavailableException,
}


async def require_auth(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """Guard a handler, controller, router or app: refuse unauthenticated requests.

    Raises:
        HTTPException: the request is unauthenticated; the subclass of the status, with the error code in ``extra``.
            Where no exception handler of the app takes it, the middleware's own response is sent. On a WebSocket
            a `WebSocketException` with the middleware's close code.
        ConfigError: no Stack Auth middleware saw this request.
    """
    try:
        require_user(connection)
    except (RefusedError, AuthServerError) as error:
        if connection.scope["type"] == ScopeType.WEBSOCKET:
            refusal = refusal_of(connection, error)
            raise WebSocketException(detail=error.code.value, code=refusal.close_code) from error
        exception = _exception(connection, error)
        _answer_unless_app_does(connection, exception)
        raise exception from error


def _exception(connection: ASGIConnection[Any, Any, Any, Any], error: RefusedError | AuthServerError) -> HTTPException:
    """Return `error` in Litestar's form."""
    refusal = refusal_of(connection, error)
    extra = {name: value for name, value in refusal.detail.items() if name != "error"}
    return _EXCEPTIONS[refusal.status](detail=refusal.message, headers=refusal.headers, extra=extra)


def _answer_unless_app_does(connection: ASGIConnection[Any, Any, Any, Any], exception: HTTPException) -> None:
    """Have `exception` answered as the middleware would, where no handler of the app takes it.

    Litestar's default handler can send no body but its own; what handles the exceptions of a request stands in the
    state of that request, which is no public interface: where it is not there, the default handler answers.
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
"""For ``exception_handlers=``: what `require_user` and `aload_profile` raise in a handler is answered as the
middleware would. HTTP only: Litestar has no exception handlers for a WebSocket.
"""
