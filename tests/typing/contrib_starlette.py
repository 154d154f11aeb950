"""Types of `contrib` for Starlette. Type-checked, not run."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.websockets import WebSocket
from typing_extensions import assert_type

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig, User, get_user, require_user
from stackauth_middleware.contrib.starlette import AuthState, refusal_handlers


class State(AuthState):
    """With what the app's own lifespan adds."""

    greeting: str


async def me(request: Request[AuthState]) -> JSONResponse:
    assert_type(request.state["user"], User | None)
    assert_type(get_user(request), User | None)
    return JSONResponse(require_user(request).to_dict())


async def hello(request: Request[State]) -> JSONResponse:
    assert_type(request.state["greeting"], str)
    assert_type(request.state["user"], User | None)
    return JSONResponse(request.state["greeting"])


async def socket(websocket: WebSocket[AuthState]) -> None:
    assert_type(websocket.state["user"], User | None)
    assert_type(require_user(websocket), User)


app = Starlette(
    routes=[Route("/me", me), Route("/hello", hello)],
    middleware=[Middleware(StackAuthASGIMiddleware, config=StackAuthConfig(request_user=True))],
    exception_handlers=refusal_handlers,
)
