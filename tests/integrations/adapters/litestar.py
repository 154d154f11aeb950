"""The app of the conformance suite in Litestar: a guard, and exception handlers for what `aload_profile` raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from litestar import Litestar, Request, Response, WebSocket, get, websocket
from litestar.background_tasks import BackgroundTask
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.middleware import DefineMiddleware
from litestar.response import Stream

from stackauth_middleware import StackAuthASGIMiddleware, User, aload_profile, get_api_key, get_user, require_user
from stackauth_middleware.contrib.litestar import (
    AuthRequest,
    AuthSocket,
    refusal_handlers,
    require_auth,
    require_permission,
)

from ..cases import ORIGIN, seen, seen_key, seen_profile
from . import OWN_ERRORS, App, OutOfStock, native, raised

AnyRequest = Request[Any, Any, Any]


@contextmanager
def serve(site: App) -> Iterator[Any]:
    @get(["/me", "/admin", "/permitted"])
    async def me(request: AuthRequest) -> User:
        site.ran.append(request.user)
        return request.user

    @get(["/public/hello", "/optional/hello"])
    async def hello(request: AnyRequest) -> dict[str, Any]:
        assert request.user.is_authenticated is (get_user(request) is not None)
        user = get_user(request)
        return {"email": user and user.email}

    @get(["/public/guarded", "/optional/guarded", "/v1/guarded"], guards=[require_auth])
    async def guarded(request: AuthRequest) -> dict[str, Any]:
        site.ran.append(request.user)
        return seen(request.user)

    @get("/optional/permitted", guards=[require_permission("admin")])
    async def permitted(request: AuthRequest) -> dict[str, Any]:
        site.ran.append(request.user)
        return seen(request.user)

    @get("/optional/teams/{team_id:str}", guards=[require_permission("read", team="team_id")])
    async def in_team(request: AuthRequest) -> dict[str, Any]:
        site.ran.append(request.user)
        return seen(request.user)

    @get("/v1/hello")
    async def key(request: AnyRequest) -> dict[str, Any]:
        site.ran.append(get_api_key(request))
        return seen_key(get_api_key(request), get_user(request))

    @get("/optional/profile", guards=[require_auth])
    async def profile(request: AuthRequest) -> dict[str, Any]:
        loaded = await aload_profile(request)
        site.ran.append(loaded)
        return seen_profile(loaded)

    @get("/stream")
    async def stream(request: AuthRequest) -> Stream:
        return Stream(f"{request.user.email}\n" for _ in range(3))

    @get("/later")
    async def later(request: AuthRequest) -> Response[None]:
        async def task() -> None:
            site.ran.append(require_user(request).email)

        return Response(None, background=BackgroundTask(task))

    @get("/buy")
    async def buy() -> None:
        raise OutOfStock

    @get("/gone")
    async def gone() -> None:
        raise HTTPException(status_code=410)

    async def answer(socket: WebSocket[Any, Any, Any]) -> None:
        user = get_user(socket)
        await socket.accept()
        await socket.send_json(user and seen(user))
        await socket.close()

    @websocket(["/socket", "/optional/socket"], guards=[require_auth])
    async def guarded_socket(socket: AuthSocket) -> None:
        await answer(socket)

    @websocket("/public/socket")
    async def public_socket(socket: WebSocket[Any, Any, Any]) -> None:
        await answer(socket)

    def own_error(request: AnyRequest, error: Exception) -> Response[Any]:
        return Response(raised(error), status_code=409)

    def own(request: AnyRequest, error: HTTPException) -> Response[Any]:
        return Response(native(error), status_code=error.status_code, headers=error.headers)

    auth = [] if site.config is None else [DefineMiddleware(StackAuthASGIMiddleware, config=site.config)]
    yield Litestar(
        [me, hello, guarded, permitted, in_team, key, profile, stream, later, buy, gone, guarded_socket, public_socket],
        middleware=auth,
        cors_config=CORSConfig(allow_origins=[ORIGIN]) if site.cors else None,
        exception_handlers={
            **refusal_handlers,
            **dict.fromkeys(OWN_ERRORS, own_error),
            **({NotAuthorizedException: own} if site.own else {}),
        },
        openapi_config=None,
        logging_config=None,
    )
