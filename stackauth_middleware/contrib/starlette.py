"""Starlette: typed request state, and exception handlers for refusals inside a handler.

::

    async def me(request: Request[AuthState]) -> Response:
        user = request.state["user"]     # User | None
        user = require_user(request)         # User, or a 401 sent by `refusal_handlers`

    app = Starlette(routes=…, exception_handlers=refusal_handlers)

``@requires("authenticated")`` reads ``request.auth``, which the middleware sets with ``request_user=True``.
"""

from __future__ import annotations

from typing import Any, TypedDict

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from .._core.users import User
from ..errors import AuthServerError, RefusedError
from ._shared import can_respond, refusal_of
from ._starlette import response_of

__all__ = ["AuthState", "refusal_handlers"]


class AuthState(TypedDict):
    """Type of ``request.state`` behind the middleware, with the default ``state_key``.

    Inherit from it to type what the lifespan of the app adds to the state.

    Example::

        class State(AuthState):
            database: Database


        async def me(request: Request[State]) -> Response:
            user = request.state["user"]
    """

    user: User | None


async def _refuse(request: HTTPConnection, error: RefusedError | AuthServerError) -> Response | None:
    """Return the response for an exception of a handler, or close a WebSocket that cannot get one."""
    refusal = refusal_of(request, error)
    if isinstance(request, WebSocket):
        is_open = request.application_state is not WebSocketState.CONNECTING
        if is_open or not can_respond(request.scope):
            await request.close(refusal.close_code, error.code.value)
            return None
    return response_of(refusal.response)


refusal_handlers: dict[type[Exception], Any] = {RefusedError: _refuse, AuthServerError: _refuse}
"""Exception handlers for a Starlette or FastAPI app whose handlers call `require_user` or `load_profile` directly:
``Starlette(..., exception_handlers=refusal_handlers)``. Clients get the responses that the middleware would send; an
accepted WebSocket is closed with 3000, 3003 or 1013 and the error code as the reason."""
