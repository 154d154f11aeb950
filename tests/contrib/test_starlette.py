"""Starlette: typed state, `requires`, and refusals from inside a handler, behind the middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from stackauth_middleware import (
    RefusedError,
    StackAuthASGIMiddleware,
    aload_profile,
    get_user,
    load_profile,
    require_user,
)
from stackauth_middleware.contrib.starlette import AuthState, refusal_handlers
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE, ORIGIN, answered, seen
from .clients import TestClient, WebSocketDenialResponse
from .examples import example
from .serving import client, uvicorn_serving


class OutOfStock(Exception):
    """An exception of the app's own."""


async def sold_out(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"sold_out": True}, 409)


class Site:
    """An app with a route of each kind, and what its handlers did."""

    def __init__(self, *, cors: str = "", **settings: Any) -> None:
        self.ran: list[Any] = []
        auth = Middleware(StackAuthASGIMiddleware, config=cases.config(**settings))
        allowing = Middleware(CORSMiddleware, allow_origins=[ORIGIN], allow_headers=["x-stack-access-token"])
        self.app = Starlette(
            routes=[
                Route("/me", self.me),
                Route("/admin", self.me),
                Route("/public/hello", self.hello),
                Route("/optional/hello", self.hello),
                Route("/public/guarded", self.guarded),
                Route("/optional/guarded", self.guarded),
                Route("/optional/profile", self.profile),
                Route("/optional/profile-in-thread", self.profile_in_thread),
                Route("/optional/required", self.required),
                Route("/stream", self.stream),
                Route("/later", self.later, methods=["POST"]),
                Route("/buy", self.buy),
                Route("/gone", self.gone),
                WebSocketRoute("/socket", self.socket),
                WebSocketRoute("/optional/socket", self.socket),
                WebSocketRoute("/optional/open", self.open_socket),
                WebSocketRoute("/optional/required-socket", self.required_socket),
            ],
            middleware={"": [auth], "outside": [allowing, auth], "inside": [auth, allowing]}[cors],
            exception_handlers={**refusal_handlers, OutOfStock: sold_out},
        )

    async def me(self, request: Request[AuthState]) -> JSONResponse:
        user = request.state["user"]
        assert user is not None
        assert user is require_user(request)
        self.ran.append(user)
        return JSONResponse(user.to_dict())

    async def hello(self, request: Request) -> JSONResponse:
        user = get_user(request)
        return JSONResponse(user.email if user else None)

    async def guarded(self, request: Request) -> None:
        require_user(request)
        self.ran.append("guarded")

    async def profile(self, request: Request) -> JSONResponse:
        profile = await aload_profile(request)
        self.ran.append(profile)
        return JSONResponse(profile.to_dict())

    def profile_in_thread(self, request: Request) -> JSONResponse:
        return JSONResponse(load_profile(request).to_dict())

    @requires("authenticated")
    def required(self, request: Request) -> JSONResponse:
        self.ran.append(request.user)
        return JSONResponse([request.user.display_name, request.user.identity, request.auth.scopes])

    @requires("authenticated")
    async def required_socket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(websocket.user.identity)
        await websocket.close()

    async def stream(self, request: Request) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            for _ in range(3):
                await asyncio.sleep(0)
                yield f"{require_user(request).email}\n"

        return StreamingResponse(lines())

    async def later(self, request: Request) -> JSONResponse:
        def task() -> None:
            self.ran.append(require_user(request).email)

        return JSONResponse("accepted", background=BackgroundTask(task))

    async def buy(self, request: Request) -> None:
        raise OutOfStock

    async def gone(self, request: Request) -> None:
        raise HTTPException(410, "No longer here")

    async def socket(self, websocket: WebSocket) -> None:
        user = require_user(websocket)
        self.ran.append(user)
        await websocket.accept()
        await websocket.send_json(seen(user))
        await websocket.close()

    async def open_socket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(seen(require_user(websocket)))


@pytest.fixture
def site(stackauth: LocalStackAuth) -> Site:
    return Site(request_user=True)


@pytest.fixture
def http(site: Site) -> Iterator[TestClient]:
    with TestClient(site.app) as client:
        yield client


# -- the user arrives ---------------------------------------------------------------------------------


def test_the_state_holds_the_user(site: Site, http: TestClient, stackauth: LocalStackAuth) -> None:
    answer = answered(http.get("/me", headers=stackauth.headers()))
    (user,) = site.ran
    assert answer.status == 200
    assert answer.body == user.to_dict()
    assert user.email == JANE["email"]


@pytest.mark.parametrize("path", ["/public/hello", "/optional/hello"])
def test_nobody_is_none_where_nobody_need_be(path: str, http: TestClient) -> None:
    assert answered(http.get(path))[::2] == (200, None)


def test_an_optional_route_gets_the_user(http: TestClient, stackauth: LocalStackAuth) -> None:
    assert http.get("/optional/hello", headers=stackauth.headers()).json() == JANE["email"]


def test_a_public_route_looks_at_no_token(http: TestClient, stackauth: LocalStackAuth) -> None:
    assert http.get("/public/hello", headers=stackauth.headers()).json() is None
    assert stackauth.requests.count() == 0


@pytest.mark.parametrize("path", ["/optional/profile", "/optional/profile-in-thread"])
def test_the_profile_comes_on_demand(path: str, http: TestClient, stackauth: LocalStackAuth) -> None:
    stackauth.users.create(JANE["id"], primary_email="new@example.com")
    assert http.get(path, headers=stackauth.headers()).json()["primary_email"] == "new@example.com"


def test_requires_lets_the_user_in(http: TestClient, stackauth: LocalStackAuth) -> None:
    """With ``request_user=True``, what Starlette looks at is there, in the form that it expects."""
    told = http.get("/optional/required", headers=stackauth.headers()).json()
    assert told == ["Jane Doe", JANE["id"], ["authenticated"]]
    with http.websocket_connect("/optional/required-socket", headers=stackauth.headers()) as socket:
        assert socket.receive_json() == JANE["id"]


def test_requires_keeps_nobody_out(site: Site, http: TestClient) -> None:
    """In Starlette's words: it is Starlette that refuses here."""
    refusal = http.get("/optional/required")
    assert (refusal.status_code, refusal.text) == (403, "Forbidden")
    with pytest.raises(WebSocketDisconnect), http.websocket_connect("/optional/required-socket"):
        raise AssertionError("let in")
    assert site.ran == []


def test_requires_needs_the_setting(stackauth: LocalStackAuth) -> None:
    """Without ``request_user`` Starlette says that something is missing, and lets nobody in."""
    with pytest.raises(AssertionError, match=r"request\.auth"):
        TestClient(Site().app).get("/optional/required", headers=stackauth.headers())


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases.REFUSED)
def test_the_middleware_refuses(name: str, site: Site, http: TestClient, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(case.path, headers=headers)) == case.answer()
    assert site.ran == []
    assert case.asks or stackauth.requests.count() == 0


@pytest.mark.parametrize("name", cases.REFUSED_INSIDE)
def test_a_handler_refuses_in_the_same_words(
    name: str, site: Site, http: TestClient, stackauth: LocalStackAuth
) -> None:
    case = cases.REFUSED_INSIDE[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(case.path, headers=headers)) == case.answer(separators=(",", ":"))
    assert site.ran == []


@pytest.mark.parametrize("name", cases.NO_PROFILE)
def test_no_profile_is_a_refusal(name: str, site: Site, http: TestClient, stackauth: LocalStackAuth) -> None:
    case = cases.NO_PROFILE[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(case.path, headers=headers)) == case.answer(separators=(",", ":"))
    assert site.ran == []


def test_without_the_handlers_it_is_an_exception_like_any_other(stackauth: LocalStackAuth) -> None:
    """Nothing is caught behind the app's back."""
    site = Site()
    site.app.exception_handlers.clear()
    with pytest.raises(RefusedError, match="missing_token"):
        TestClient(site.app).get("/optional/guarded")


# -- the rest of an app -------------------------------------------------------------------------------


def test_the_apps_own_exceptions_are_its_own(http: TestClient, stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    assert answered(http.get("/buy", headers=headers))[::2] == (409, {"sold_out": True})
    for path, status, text in (("/gone", 410, "No longer here"), ("/nowhere", 404, "Not Found")):
        response = http.get(path, headers=headers)
        assert (response.status_code, response.text) == (status, text)


def test_a_stream_knows_its_user(http: TestClient, stackauth: LocalStackAuth) -> None:
    with http.stream("GET", "/stream", headers=stackauth.headers()) as response:
        assert list(response.iter_lines()) == [JANE["email"]] * 3


def test_a_background_task_knows_its_user(site: Site, http: TestClient, stackauth: LocalStackAuth) -> None:
    assert http.post("/later", headers=stackauth.headers()).json() == "accepted"
    assert site.ran == [JANE["email"]]


@pytest.mark.parametrize("cors", ["outside", "inside"])
def test_a_browser_elsewhere_can_read_a_refusal(cors: str, stackauth: LocalStackAuth) -> None:
    """Outside it is Starlette's to say so, inside ours, and never both."""
    http = TestClient(Site(cors=cors, cors_origins=[ORIGIN]).app, headers={"origin": ORIGIN})
    for path in ("/me", "/optional/guarded"):
        refusal = answered(http.get(path))
        assert refusal.status == 401
        assert refusal.headers["access-control-allow-origin"] == ORIGIN
        assert "Origin" in refusal.headers["vary"]
    assert http.get("/me", headers=stackauth.headers()).headers["access-control-allow-origin"] == ORIGIN
    asking = {"access-control-request-method": "GET", "access-control-request-headers": "x-stack-access-token"}
    preflight = http.options("/me", headers=asking)
    expected = 200 if cors == "outside" else 204
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (expected, ORIGIN)


# -- WebSockets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/socket", "/optional/socket"])
def test_a_socket_gets_the_user(path: str, http: TestClient, stackauth: LocalStackAuth) -> None:
    with http.websocket_connect(path, headers=stackauth.headers()) as socket:
        assert socket.receive_json() == {**JANE, "profile": False}


@pytest.mark.parametrize(("path", "separators"), [("/socket", (", ", ": ")), ("/optional/socket", (",", ":"))])
def test_a_socket_is_refused_with_a_response(path: str, separators: Any, site: Site, http: TestClient) -> None:
    """Starlette's test client offers the extension for it, as most servers do."""
    with pytest.raises(WebSocketDenialResponse) as caught, http.websocket_connect(path):
        raise AssertionError("let in")
    assert answered(caught.value) == cases.REFUSED["missing"].answer(separators=separators)
    assert site.ran == []


@pytest.mark.parametrize(
    ("path", "trouble", "code"),
    [("/socket", False, 3000), ("/optional/socket", False, 3000), ("/optional/socket", True, 1013)],
)
def test_a_socket_is_refused_with_a_code_where_there_is_no_response(
    path: str, trouble: bool, code: int, site: Site, stackauth: LocalStackAuth
) -> None:
    async def without_extension(scope: Any, receive: Any, send: Any) -> None:
        scope.pop("extensions", None)
        await site.app(scope, receive, send)

    headers = stackauth.headers() if trouble else {}
    connecting = TestClient(without_extension).websocket_connect(path, headers=headers)
    with stackauth.down(cold=True), pytest.raises(WebSocketDisconnect) as caught, connecting:
        raise AssertionError("let in")
    assert caught.value.code == code
    assert site.ran == []


def test_an_open_socket_is_closed(http: TestClient) -> None:
    """It is too late for a response then."""
    with http.websocket_connect("/optional/open") as socket, pytest.raises(WebSocketDisconnect) as caught:
        socket.receive_json()
    assert (caught.value.code, caught.value.reason) == (3000, "missing_token")


# -- a real server, and the example -------------------------------------------------------------------


def test_behind_uvicorn(site: Site, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED_INSIDE["nobody"]
    with uvicorn_serving(site.app) as url, client(url) as http:
        assert http.get("/me", headers=stackauth.headers()).json()["email"] == JANE["email"]
        assert http.get("/stream", headers=stackauth.headers()).text == f"{JANE['email']}\n" * 3
        refusal = answered(http.get(case.path))
        expected = case.answer(separators=(",", ":"))
        assert (refusal.status, refusal.body) == expected[::2]
        assert refusal.headers.items() >= expected.headers.items()
    assert stackauth.requests.count("jwks") == 1


EXAMPLE = "contrib_starlette.py"


def test_the_example_with_the_test_client(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(example(EXAMPLE, monkeypatch).app) as http:
        headers = stackauth.headers()
        assert http.get("/healthz").json() == {"status": "ok"}
        assert http.get("/hello").json() == {"hello": "stranger"}
        assert http.get("/hello", headers=headers).json() == {"hello": "Jane Doe"}
        assert http.get("/me").json()["code"] == "missing_token"
        assert http.get("/me", headers=headers).json()["email"] == JANE["email"]
        assert http.get("/secret").status_code == 401
        assert http.get("/secret", headers=headers).json() == {"for": "Jane Doe"}


def test_the_example_behind_uvicorn(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    with uvicorn_serving(example(EXAMPLE, monkeypatch).app) as url, client(url) as http:
        assert http.get("/secret", headers=stackauth.headers()).json() == {"for": "Jane Doe"}
        assert http.get("/secret").status_code == 401
        assert http.get("/api/whatever").json()["code"] == "missing_token"
