"""Starlette: typed state, and refusals from inside a handler as responses.

::

    async def me(request: Request[AuthState]) -> Response:
        user = request.state["user"]     # User | None
        user = require_user(request)     # User; else the refusal, by `refusal_handlers`

    app = Starlette(routes=…, exception_handlers=refusal_handlers)

``@requires("authenticated")`` looks at ``request.auth``: give the middleware ``request_user=True``.
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
    """What the middleware writes into ``request.state``, under the default ``state_key``.

    Inherit from it to type what a lifespan adds beside it.
    """

    user: User | None


async def _refuse(request: HTTPConnection, error: RefusedError | AuthServerError) -> Response | None:
    """Answer what a handler raised; a WebSocket that has been accepted is closed."""
    refusal = refusal_of(request, error)
    if isinstance(request, WebSocket):
        is_open = request.application_state is not WebSocketState.CONNECTING
        if is_open or not can_respond(request.scope):
            await request.close(refusal.close_code, error.code.value)
            return None
    return response_of(refusal.response)


refusal_handlers: dict[type[Exception], Any] = {RefusedError: _refuse, AuthServerError: _refuse}
"""For ``exception_handlers=`` of a Starlette or FastAPI app whose handlers call `require_user` or
`load_profile` themselves: the answers are those of the middleware."""
