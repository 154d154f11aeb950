"""Mounting on Litestar in every form, and reading the user. Type-checked, not run."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, WebSocket, get, websocket
from litestar.middleware import DefineMiddleware
from litestar.types import ASGIApp

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, User, get_user, require_user

auth = StackAuthConfig(rules=[Rule("/healthz", "public")])


@get("/me", sync_to_thread=False)
def me(request: Request[Any, Any, Any]) -> User:
    return require_user(request)


@websocket("/chat")
async def chat(socket: WebSocket[Any, Any, Any]) -> None:
    user: User | None = get_user(socket)
    await socket.accept()
    await socket.send_text(user.id if user else "unauthenticated")


app = Litestar([me, chat], middleware=[DefineMiddleware(StackAuthASGIMiddleware, config=auth)])
other = Litestar([me], middleware=[DefineMiddleware(StackAuthASGIMiddleware, project_id="internal", leeway=1)])
application: ASGIApp = StackAuthASGIMiddleware(app, auth)
