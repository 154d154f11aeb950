"""A Quart app: `require_auth` passes the user to views for requests and WebSockets.

Run: STACK_PROJECT_ID=<your project's id> hypercorn quart_app:app
"""

from typing import Any

from quart import Quart, request, websocket

from stackauth_middleware import Rule, StackAuthASGIMiddleware, User, get_user
from stackauth_middleware.contrib.quart import require_auth

app = Quart(__name__)
app.asgi_app = StackAuthASGIMiddleware(  # type: ignore[method-assign]
    app.asgi_app, rules=[Rule("/healthz", "public"), Rule("/hello", "optional")]
)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/hello")
async def hello() -> dict[str, str | None]:
    user = get_user(request)
    return {"hello": user.display_name if user else "stranger"}


@app.get("/me")
@require_auth
async def me(user: User) -> dict[str, Any]:
    return user.to_dict()


@app.websocket("/socket")
@require_auth
async def socket(user: User) -> None:
    await websocket.send(f"hello {user.display_name}")
