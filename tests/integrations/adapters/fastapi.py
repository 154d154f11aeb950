"""The app of the conformance suite in FastAPI: dependencies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, StreamingResponse

from stackauth_middleware import StackAuthASGIMiddleware, User, require_user
from stackauth_middleware.contrib.fastapi import (
    CurrentProfile,
    CurrentUser,
    OptionalApiKey,
    OptionalUser,
    current_user,
    require_permission,
)

from ..cases import ORIGIN, seen, seen_key, seen_profile
from . import OWN_ERRORS, App, OutOfStock, native, raised


@contextmanager
def serve(site: App) -> Iterator[Any]:
    app = FastAPI()
    if site.cors:
        app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN])
    if site.config is not None:
        app.add_middleware(StackAuthASGIMiddleware, config=site.config)

    async def me(user: CurrentUser) -> User:
        site.ran.append(user)
        return user

    def plain_me(user: CurrentUser) -> User:
        site.ran.append(user)
        return user

    def guarded(user: Annotated[User, Depends(current_user)]) -> dict[str, Any]:
        site.ran.append(user)
        return seen(user)

    for path in ("/me", "/admin", "/permitted"):
        app.get(path)(plain_me if site.plain else me)
    for path in ("/public/guarded", "/optional/guarded", "/v1/guarded"):
        app.get(path)(guarded)

    @app.get("/optional/permitted")
    async def permitted(user: Annotated[User, Depends(require_permission("admin"))]) -> dict[str, Any]:
        return guarded(user)

    @app.get("/optional/teams/{team_id}")
    async def in_team(
        user: Annotated[User, Depends(require_permission("read", team="team_id"))], team_id: str
    ) -> dict[str, Any]:
        return guarded(user)

    @app.get("/v1/hello")
    async def key(key: OptionalApiKey, user: OptionalUser) -> dict[str, Any]:
        site.ran.append(key)
        return seen_key(key, user)

    @app.get("/public/hello")
    @app.get("/optional/hello")
    async def hello(user: OptionalUser) -> dict[str, Any]:
        return {"email": user and user.email}

    @app.get("/optional/profile")
    async def profile(profile: CurrentProfile) -> dict[str, Any]:
        site.ran.append(profile)
        return seen_profile(profile)

    @app.get("/stream")
    async def stream(request: Request, user: CurrentUser) -> StreamingResponse:
        return StreamingResponse(f"{require_user(request).email}\n" for _ in range(3))

    @app.get("/later")
    async def later(request: Request, tasks: BackgroundTasks) -> None:
        tasks.add_task(lambda: site.ran.append(require_user(request).email))

    @app.get("/buy")
    async def buy() -> None:
        raise OutOfStock

    @app.get("/gone")
    async def gone() -> None:
        raise HTTPException(410)

    for each in OWN_ERRORS:
        app.add_exception_handler(each, lambda _, error: JSONResponse(raised(error), 409))
    if site.own:

        @app.exception_handler(HTTPException)
        async def own(_: Request, error: HTTPException) -> JSONResponse:
            return JSONResponse(native(error), error.status_code, error.headers)

    @app.websocket("/socket")
    @app.websocket("/optional/socket")
    async def socket(websocket: WebSocket, user: CurrentUser) -> None:
        await websocket.accept()
        await websocket.send_json(seen(user))
        await websocket.close()

    @app.websocket("/public/socket")
    async def public_socket(websocket: WebSocket, user: OptionalUser) -> None:
        await websocket.accept()
        await websocket.send_json(user and seen(user))
        await websocket.close()

    yield app
