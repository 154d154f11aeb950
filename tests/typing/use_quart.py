"""Quart: mounting, the user, and `contrib`. Type-checked, not run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from quart import Quart, Response, jsonify, request, websocket
from quart.typing import ResponseReturnValue
from typing_extensions import assert_type

from stackauth_middleware import (
    AuthServerError,
    RefusedError,
    Rule,
    StackAuthASGIMiddleware,
    User,
    get_user,
    require_user,
)
from stackauth_middleware.contrib.quart import refuse, require_auth, require_permission

app = Quart(__name__)
app.asgi_app = StackAuthASGIMiddleware(  # type: ignore[method-assign]
    app.asgi_app, project_id="internal", rules=[Rule("/me")], cors_origins=["https://app.example.com"]
)
app.register_error_handler(RefusedError, refuse)
app.register_error_handler(AuthServerError, refuse)


@app.get("/me")
@require_auth
async def me(user: User) -> dict[str, str | None]:
    return {"email": user.email}


@app.get("/items/<int:number>")
@require_auth(profile=True)
async def item(user: User, number: int) -> ResponseReturnValue:
    return [user.user_id, number]


@app.get("/thread/<name>")
@require_auth
def in_a_thread(user: User, name: str) -> Response:
    return Response(name)


@app.websocket("/socket")
@require_auth
async def socket(user: User) -> None:
    assert_type(get_user(websocket), User | None)
    await websocket.send(user.user_id)


@app.get("/hello")
async def hello() -> Response:
    assert_type(get_user(request), User | None)
    return jsonify(require_user(request))


async def guarded(user: User, name: str, *, loud: bool = False) -> int:
    return len(name)


def plain(user: User) -> str:
    return user.user_id


def no_user(name: str) -> str:
    return name


assert_type(require_auth(plain), Callable[[], Coroutine[Any, Any, str]])
require_auth(no_user)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def call() -> None:
    assert_type(await require_auth(guarded)("name", loud=True), int)
    await require_auth(guarded)(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@app.get("/teams/<team_id>")
@require_permission("read", team="team_id")
async def in_team(user: User, team_id: str) -> str:
    return user.user_id
