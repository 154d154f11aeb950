"""The app of the conformance suite in Starlette: exception handlers for what `require_user` raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from stackauth_middleware import StackAuthASGIMiddleware, aload_profile, get_api_key, get_user, require_user
from stackauth_middleware.contrib.starlette import AuthState, refusal_handlers, require_permission

from ..cases import ORIGIN, seen, seen_key, seen_profile
from . import OWN_ERRORS, App, OutOfStock, raised


@contextmanager
def serve(site: App) -> Iterator[Any]:
    async def me(request: Request[AuthState]) -> JSONResponse:
        user = request.state["user"]
        assert user is not None
        site.ran.append(user)
        return JSONResponse(user.to_dict())

    async def hello(request: Request) -> JSONResponse:
        user = get_user(request)
        return JSONResponse({"email": user and user.email})

    async def guarded(request: Request) -> JSONResponse:
        user = require_user(request)
        site.ran.append(user)
        return JSONResponse(seen(user))

    async def key(request: Request) -> JSONResponse:
        site.ran.append(get_api_key(request))
        return JSONResponse(seen_key(get_api_key(request), get_user(request)))

    async def profile(request: Request) -> JSONResponse:
        loaded = await aload_profile(request)
        site.ran.append(loaded)
        return JSONResponse(seen_profile(loaded))

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(f"{require_user(request).email}\n" for _ in range(3))

    async def later(request: Request) -> JSONResponse:
        return JSONResponse(None, background=BackgroundTask(lambda: site.ran.append(require_user(request).email)))

    async def buy(request: Request) -> None:
        raise OutOfStock

    async def gone(request: Request) -> None:
        raise HTTPException(410)

    async def socket(websocket: WebSocket) -> None:
        user = get_user(websocket) if "public" in websocket.url.path else require_user(websocket)
        await websocket.accept()
        await websocket.send_json(user and seen(user))
        await websocket.close()

    async def own_error(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(raised(error), 409)

    pages = {
        me: ("/me", "/admin", "/permitted"),
        hello: ("/public/hello", "/optional/hello"),
        guarded: ("/public/guarded", "/optional/guarded", "/v1/guarded"),
        require_permission("admin")(guarded): ("/optional/permitted",),
        require_permission("read", team="team_id")(guarded): ("/optional/teams/{team_id}",),
        key: ("/v1/hello",),
        profile: ("/optional/profile",),
        stream: ("/stream",),
        later: ("/later",),
        buy: ("/buy",),
        gone: ("/gone",),
    }
    app = Starlette(
        routes=[
            *(Route(path, page) for page, paths in pages.items() for path in paths),
            *(WebSocketRoute(path, socket) for path in ("/public/socket", "/optional/socket", "/socket")),
        ],
        exception_handlers={**refusal_handlers, **dict.fromkeys(OWN_ERRORS, own_error)},
    )
    if site.cors:
        app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN])
    if site.config is not None:
        app.add_middleware(StackAuthASGIMiddleware, config=site.config)
    yield app
