"""Types of `contrib` for Quart. Type-checked, not run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from quart import Quart, Response, websocket
from quart.typing import ResponseReturnValue
from typing_extensions import assert_type

from stackauth_middleware import AuthServerError, RefusedError, StackAuthASGIMiddleware, User
from stackauth_middleware.contrib.quart import refuse, require_auth

app = Quart(__name__)
app.asgi_app = StackAuthASGIMiddleware(app.asgi_app)  # type: ignore[method-assign]
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
    await websocket.send(user.user_id)


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
