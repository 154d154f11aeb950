"""Mounting on Quart, and reading the user. Type-checked, not run."""

from __future__ import annotations

from quart import Quart, Response, jsonify, request, websocket

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, User, get_user, require_user

auth = StackAuthConfig(rules=[Rule("/healthz", "public")])
app = Quart(__name__)
app.asgi_app = StackAuthASGIMiddleware(app.asgi_app, auth)  # type: ignore[method-assign]

other = Quart(__name__)
other.asgi_app = StackAuthASGIMiddleware(  # type: ignore[method-assign]
    other.asgi_app, project_id="internal", rules=[Rule("/me")], cors_origins=["https://app.example.com"]
)


@app.get("/me")
async def me() -> Response:
    user: User = require_user(request)
    return jsonify(user)


@app.websocket("/chat")
async def chat() -> None:
    user: User | None = get_user(websocket)
    await websocket.send(user.id if user else "unauthenticated")
