"""Starlette: mounting in every form, the user, and `contrib`. Type-checked, not run."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from typing_extensions import assert_type

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, User, get_user, require_user
from stackauth_middleware.contrib.starlette import AuthState, refusal_handlers, require_permission


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


auth = StackAuthConfig(request_user=True)
app = Starlette(
    routes=[Route("/me", me), Route("/hello", hello)],
    middleware=[Middleware(StackAuthASGIMiddleware, config=auth)],
    exception_handlers=refusal_handlers,
)
app.add_middleware(StackAuthASGIMiddleware, config=auth)
app.add_middleware(StackAuthASGIMiddleware, project_id="internal", rules=[Rule("/me")], leeway=1)
mounted = Starlette(routes=[Mount("/api", StackAuthASGIMiddleware(app, auth)), Mount("/v2", app=app)])
application: ASGIApp = StackAuthASGIMiddleware(app, auth)


@require_permission("read", team="team_id")
async def in_team(request: Request[AuthState]) -> JSONResponse:
    return JSONResponse({})


routes = [Route("/teams/{team_id}", in_team)]
