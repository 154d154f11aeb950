"""Litestar: mounting in every form, the user, and `contrib`. Type-checked, not run."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Litestar, Request, Router, get, websocket
from litestar.datastructures import State
from litestar.middleware import DefineMiddleware
from litestar.types import ASGIApp
from typing_extensions import assert_type

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig, User, get_user, require_user
from stackauth_middleware.contrib.litestar import (
    AuthRequest,
    AuthSocket,
    refusal_handlers,
    require_auth,
    require_permission,
)

auth = StackAuthConfig(request_user=True)


@get("/me", guards=[require_auth])
async def me(request: AuthRequest) -> User:
    assert_type(request.user, User)
    assert_type(request.auth.scopes, list[str])
    assert_type(request.state, State)
    return request.user


@get("/hello")
async def hello(request: Request[Any, Any, Any]) -> str:
    assert_type(get_user(request), User | None)
    return require_user(request).user_id


@get("/own", guards=[require_auth])
async def own(request: Request[User, Any, State]) -> str:
    assert_type(request.user, User)
    return request.user.user_id


@websocket("/socket", guards=[require_auth])
async def socket(socket: AuthSocket) -> None:
    assert_type(socket.user, User)
    assert_type(get_user(socket), User | None)


class Guarded(Controller):
    guards = [require_auth]

    @get("/", exception_handlers=refusal_handlers)
    async def index(self, request: AuthRequest) -> str:
        return request.user.user_id


app = Litestar(
    [me, hello, own, socket, Router("/guarded", route_handlers=[Guarded], guards=[require_auth])],
    guards=[require_auth],
    middleware=[DefineMiddleware(StackAuthASGIMiddleware, config=auth)],
    exception_handlers=refusal_handlers,
)
other = Litestar([me], middleware=[DefineMiddleware(StackAuthASGIMiddleware, project_id="internal", leeway=1)])
application: ASGIApp = StackAuthASGIMiddleware(app, auth)


@get("/teams/{team_id:uuid}", guards=[require_permission("read", team="team_id")])
async def in_team(request: AuthRequest) -> str:
    return request.user.user_id
