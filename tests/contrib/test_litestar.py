"""Litestar: the guard, the typed request, and one config for the many middlewares that Litestar makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from litestar import Litestar, Request, Response, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException, NotAuthorizedException, WebSocketDisconnect
from litestar.middleware import DefineMiddleware
from litestar.response import Stream
from litestar.testing import AsyncTestClient, TestClient

from stackauth_middleware import (
    ConfigError,
    RefusedError,
    StackAuthASGIMiddleware,
    User,
    aload_profile,
    get_user,
    require_user,
)
from stackauth_middleware.contrib.litestar import AuthRequest, AuthSocket, require_auth
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE, ORIGIN, Answer, Case, answered, seen
from .examples import example
from .serving import client, uvicorn_serving

AnyRequest = Request[Any, Any, Any]


class OutOfStock(Exception):
    """An exception of the app's own."""


def sold_out(request: AnyRequest, error: OutOfStock) -> Response[dict[str, bool]]:
    return Response({"sold_out": True}, status_code=409)


class Site:
    """An app with a route of each kind, and what its handlers did."""

    def __init__(self, *, exception_handlers: dict[Any, Any] | None = None, door: str = "in", **settings: Any) -> None:
        self.ran: list[Any] = []
        ran = self.ran
        auth = cases.config(**({"request_user": True} | settings))

        @get(["/me", "/admin"])
        async def me(request: AuthRequest) -> User:
            ran.append(request.user)
            assert request.user is require_user(request)
            return request.user

        @get(["/public/hello", "/optional/hello"])
        async def hello(request: AnyRequest) -> dict[str, Any]:
            user = get_user(request)
            assert request.state["user"] is user
            return {"hello": user.email if user else None, "authenticated": request.user.is_authenticated}

        @get(["/public/guarded", "/optional/guarded"], guards=[require_auth])
        async def guarded(request: AuthRequest) -> dict[str, Any]:
            ran.append("guarded")
            return seen(request.user)

        @get("/optional/profile", guards=[require_auth])
        async def profile(request: AuthRequest) -> dict[str, Any]:
            return (await aload_profile(request)).to_dict()

        @get("/stream")
        async def stream(request: AuthRequest) -> Stream:
            async def lines() -> AsyncIterator[str]:
                for _ in range(3):
                    await asyncio.sleep(0)
                    yield f"{request.user.email}\n"

            return Stream(lines())

        @post("/later")
        async def later(request: AuthRequest) -> Response[str]:
            async def task() -> None:
                ran.append(require_user(request).email)

            return Response("accepted", background=BackgroundTask(task))

        @get("/buy")
        async def buy() -> None:
            raise OutOfStock

        @get("/gone")
        async def gone() -> None:
            raise HTTPException("No longer here", status_code=410)

        @websocket(["/socket", "/optional/socket"], guards=[require_auth])
        async def socket(socket: AuthSocket) -> None:
            ran.append(socket.user)
            await socket.accept()
            await socket.send_json(seen(socket.user))
            await socket.close()

        @websocket("/public/socket")
        async def anybody(socket: WebSocket[Any, Any, Any]) -> None:
            await socket.accept()
            await socket.send_json(get_user(socket) is None)
            await socket.close()

        app = Litestar(
            [me, hello, guarded, profile, stream, later, buy, gone, socket, anybody],
            middleware=[DefineMiddleware(StackAuthASGIMiddleware, config=auth)] if door == "in" else [],
            cors_config=CORSConfig(allow_origins=[ORIGIN], allow_headers=["x-stack-access-token"]),
            exception_handlers={OutOfStock: sold_out, **(exception_handlers or {})},
            openapi_config=None,
        )
        self.app: Any = app if door == "in" else StackAuthASGIMiddleware(app, config=auth)


@pytest.fixture
def site(stackauth: LocalStackAuth) -> Site:
    return Site()


@pytest.fixture
def http(site: Site) -> Iterator[TestClient[Any]]:
    with TestClient(site.app) as client:
        yield client


# -- the user arrives ---------------------------------------------------------------------------------


def test_the_request_has_the_user(site: Site, http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    """And returning the user tells the fields, no more: neither token nor claims."""
    answer = answered(http.get("/me", headers=stackauth.headers()))
    (user,) = site.ran
    assert answer.status == 200
    assert answer.body == user.to_dict()
    assert user.email == JANE["email"]


async def test_the_async_test_client_does_too(site: Site, stackauth: LocalStackAuth) -> None:
    async with AsyncTestClient(site.app) as http:
        assert (await http.get("/me", headers=stackauth.headers())).json()["email"] == JANE["email"]
        assert (await http.get("/me")).status_code == 401
