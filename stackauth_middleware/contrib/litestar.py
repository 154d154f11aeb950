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

from typing import Any, TypeAlias

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
from litestar.exceptions.responses import create_exception_response
from litestar.handlers import BaseRouteHandler

from .._door import require_user
from .._user import Permissions, User
from ..errors import AuthServerError, RefusedError
from ._shared import refusal_of

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
    """Guard a handler, controller, router or app: let nobody in whom the middleware does not know.

    Raises:
        HTTPException: nobody is there; the subclass of the row's status, with the code in ``extra``.
            On a WebSocket a `WebSocketException` with the middleware's own close code.
        ConfigError: no Stack Auth middleware saw this request.
    """
    try:
        require_user(connection)
    except (RefusedError, AuthServerError) as error:
        if connection.scope["type"] == ScopeType.WEBSOCKET:
            refusal = refusal_of(error)
            raise WebSocketException(detail=refusal.code, code=refusal.close_code) from error
        raise _exception(error) from error


def _exception(error: RefusedError | AuthServerError) -> HTTPException:
    refusal = refusal_of(error)
    extra = {name: value for name, value in refusal.body.items() if name != "error"}
    return _EXCEPTIONS[refusal.status](detail=refusal.message, headers=refusal.headers, extra=extra)


def _refuse(request: Request[Any, Any, Any], error: RefusedError | AuthServerError) -> Response[Any]:
    return create_exception_response(request, _exception(error))


refusal_handlers: dict[type[Exception] | int, Any] = {RefusedError: _refuse, AuthServerError: _refuse}
"""For ``exception_handlers=``, so that what `require_user` and `aload_profile` raise in a handler is
answered as what the guard raises. HTTP only: Litestar has no exception handlers for a WebSocket.
"""
