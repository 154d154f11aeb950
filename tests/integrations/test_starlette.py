"""Starlette: `requires`, functions in threads, exception handlers, and open WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from stackauth_middleware import RefusedError, StackAuthASGIMiddleware, Verifier, load_profile, require_user
from stackauth_middleware.contrib.starlette import refusal_handlers
from stackauth_middleware.testing import LocalStackAuth
from tests.frameworks.ask import Ask, scope_of

from . import cases
from .cases import JANE, answered
from .clients import TestClient


@requires("authenticated")
def required(request: Request) -> JSONResponse:
    return JSONResponse([request.user.display_name, request.user.identity, request.auth.scopes])


@requires("authenticated")
async def required_socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(websocket.user.identity)
    await websocket.close()


def profile_in_thread(request: Request) -> JSONResponse:
    return JSONResponse(load_profile(request).to_dict())


async def open_socket(websocket: WebSocket) -> None:
    await websocket.accept()
    require_user(websocket)


def client(handlers: Any = refusal_handlers, **settings: Any) -> TestClient:
    return TestClient(
        Starlette(
            routes=[
                Route("/optional/required", required),
                Route("/optional/profile", profile_in_thread),
                WebSocketRoute("/optional/required-socket", required_socket),
                WebSocketRoute("/optional/open", open_socket),
            ],
            middleware=[Middleware(StackAuthASGIMiddleware, config=cases.config(**settings))],
            exception_handlers=handlers,
        )
    )


def test_requires_accepts_the_user(stackauth: LocalStackAuth) -> None:
    """``request_user=True`` sets ``request.user`` and ``request.auth``, which Starlette reads."""
    http, headers = client(request_user=True), stackauth.headers()
    assert http.get("/optional/required", headers=headers).json() == ["Jane Doe", JANE["id"], ["authenticated"]]
    with http.websocket_connect("/optional/required-socket", headers=headers) as socket:
        assert socket.receive_json() == JANE["id"]


def test_requires_refuses_with_starlettes_response(stackauth: LocalStackAuth) -> None:
    http = client(request_user=True)
    refusal = http.get("/optional/required")
    assert (refusal.status_code, refusal.text) == (403, "Forbidden")
    with pytest.raises(WebSocketDisconnect), http.websocket_connect("/optional/required-socket"):
        raise AssertionError("accepted")


def test_requires_needs_the_setting(stackauth: LocalStackAuth) -> None:
    with pytest.raises(AssertionError, match=r"request\.auth"):
        client().get("/optional/required", headers=stackauth.headers())


def test_plain_function_loads_the_profile_in_its_thread(stackauth: LocalStackAuth) -> None:
    stackauth.users.create(JANE["id"], primary_email="new@example.com")
    sent = client().get("/optional/profile", headers=stackauth.headers()).json()
    assert sent["primary_email"] == "new@example.com"


def test_without_the_handlers_a_refusal_is_raised(stackauth: LocalStackAuth) -> None:
    with pytest.raises(RefusedError, match="missing_token"):
        client({}).get("/optional/profile")


def test_open_websocket_is_closed(stackauth: LocalStackAuth) -> None:
    """A response can no longer be sent."""
    http = client()
    with http.websocket_connect("/optional/open") as socket, pytest.raises(WebSocketDisconnect) as caught:
        socket.receive_json()
    assert (caught.value.code, caught.value.reason) == (3000, "missing_token")


def test_handlers_respond_for_a_verifier_without_a_middleware(stackauth: LocalStackAuth) -> None:
    """With the default settings: without a middleware the settings are unknown."""
    config = cases.config(realm="shop")

    def verify(request: Request) -> None:
        Verifier(config=config).verify("no token")

    http = TestClient(Starlette(routes=[Route("/", verify)], exception_handlers=refusal_handlers))
    assert answered(http.get("/")) == cases.REFUSED["garbage"].answer()


def test_stream_is_passed_on_as_it_is_made(stackauth: LocalStackAuth) -> None:
    """The first chunk is sent while the handler waits with the second, and headers of the app are left unchanged."""
    sent: list[Any] = []

    async def run() -> None:
        first_sent = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            await first_sent.wait()
            yield b"two"

        async def stream(request: Request) -> StreamingResponse:
            return StreamingResponse(chunks(), headers={"cache-control": "max-age=60"})

        async def receive() -> Any:
            await asyncio.sleep(60)

        async def send(message: Any) -> None:
            sent.append(message)
            if message.get("body") == b"one":
                first_sent.set()

        middleware = StackAuthASGIMiddleware(Starlette(routes=[Route("/stream", stream)]), cases.config())
        scope = scope_of(Ask("/stream", headers=stackauth.headers()))
        await asyncio.wait_for(middleware(scope, receive, send), 5)

    asyncio.run(run())
    assert [message.get("body") for message in sent] == [None, b"one", b"two", b""]
    assert dict(sent[0]["headers"]) == {b"cache-control": b"max-age=60"}
