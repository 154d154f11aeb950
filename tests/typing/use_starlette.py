"""Mounting on Starlette in every form, and reading the user. Type-checked, not run."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, User, get_user, require_user

auth = StackAuthConfig(rules=[Rule("/healthz", "public")])


async def me(request: Request) -> JSONResponse:
    user: User = require_user(request)
    return JSONResponse(user.to_dict())


async def chat(websocket: WebSocket) -> None:
    user: User | None = get_user(websocket)
    await websocket.accept()
    await websocket.send_text(user.id if user else "unauthenticated")


routes = [Route("/me", me), WebSocketRoute("/chat", chat)]
app = Starlette(routes=routes)
app.add_middleware(StackAuthASGIMiddleware, config=auth)
app.add_middleware(StackAuthASGIMiddleware, project_id="internal", rules=[Rule("/me")], leeway=1)

listed = Starlette(routes=routes, middleware=[Middleware(StackAuthASGIMiddleware, config=auth)])
mounted = Starlette(routes=[Mount("/api", StackAuthASGIMiddleware(app, auth)), Mount("/v2", app=app)])
application: ASGIApp = StackAuthASGIMiddleware(app, auth)
