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
from stackauth_middleware.contrib.litestar import AuthRequest, AuthSocket, refusal_handlers, require_auth
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
            assert request.state["user"] == user
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
            exception_handlers={**refusal_handlers, OutOfStock: sold_out, **(exception_handlers or {})},
            openapi_config=None,
            logging_config=None,
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


def test_the_async_test_client_does_too(site: Site, stackauth: LocalStackAuth) -> None:
    async def ask() -> None:
        async with AsyncTestClient(site.app) as http:
            assert (await http.get("/me", headers=stackauth.headers())).json()["email"] == JANE["email"]
            assert (await http.get("/me")).json()["code"] == "missing_token"

    asyncio.run(ask())


@pytest.mark.parametrize("path", ["/public/hello", "/optional/hello"])
def test_nobody_is_a_guest_where_nobody_need_be(path: str, http: TestClient[Any]) -> None:
    assert answered(http.get(path))[::2] == (200, {"hello": None, "authenticated": False})


def test_an_optional_route_gets_the_user(http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    told = http.get("/optional/hello", headers=stackauth.headers()).json()
    assert told == {"hello": JANE["email"], "authenticated": True}


def test_a_public_route_looks_at_no_token(http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    assert http.get("/public/hello", headers=stackauth.headers()).json()["hello"] is None
    assert stackauth.requests.count() == 0


def test_a_guarded_handler_gets_the_user(http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    assert http.get("/optional/guarded", headers=stackauth.headers()).json() == {**JANE, "profile": False}


def test_the_profile_comes_on_demand(http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    stackauth.users.create(JANE["id"], primary_email="new@example.com")
    told = http.get("/optional/profile", headers=stackauth.headers()).json()
    assert told["primary_email"] == "new@example.com"


def test_the_middlewares_of_all_routes_share_one_config(http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    """The keys are asked for once, whatever the route."""
    for path in ("/me", "/optional/hello", "/optional/guarded", "/stream"):
        assert http.get(path, headers=stackauth.headers()).status_code == 200
    assert stackauth.requests.count() == 1


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases.REFUSED)
def test_the_middleware_refuses(name: str, site: Site, http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(case.path, headers=headers)) == case.answer()
    assert site.ran == []
    assert case.asks or stackauth.requests.count() == 0


def inside(case: Case) -> Answer:
    """Return the answer in Litestar's own form, which says nothing of a 500."""
    detail = "Internal Server Error" if case.status == 500 else case.message
    body = {"status_code": case.status, "detail": detail, "extra": {"code": case.code, **case.more}}
    return case.answer(body, (",", ":"))


@pytest.mark.parametrize("name", cases.REFUSED_INSIDE)
def test_the_guard_refuses(name: str, site: Site, http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED_INSIDE[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(case.path, headers=headers)) == inside(case)
    assert site.ran == []


@pytest.mark.parametrize("name", cases.NO_PROFILE)
def test_no_profile_is_a_refusal(name: str, http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    case = cases.NO_PROFILE[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(case.path, headers=headers)) == inside(case)


@pytest.mark.parametrize("key", [NotAuthorizedException, 401])
def test_a_refusal_inside_goes_through_the_apps_own_handler(key: Any, stackauth: LocalStackAuth) -> None:
    """By Litestar's class for it, or by the status; the cause tells the row."""

    def own(request: AnyRequest, error: HTTPException) -> Response[Any]:
        assert isinstance(error.__cause__, RefusedError)
        return Response({"oops": error.__cause__.code.value}, status_code=error.status_code, headers=error.headers)

    with TestClient(Site(exception_handlers={key: own}).app) as http:
        refusal = answered(http.get("/public/guarded"))
    assert refusal.body == {"oops": "missing_token"}
    assert refusal.headers["www-authenticate"] == 'Bearer realm="stack-auth"'


def test_without_a_middleware_the_mistake_is_named(stackauth: LocalStackAuth) -> None:
    """It is no 401: nobody could ever be let in. Litestar answers 500 and tells its hooks."""
    raised: list[Exception] = []

    async def note(error: Exception, scope: Any) -> None:
        raised.append(error)

    @get("/", guards=[require_auth])
    async def guarded() -> None: ...

    app = Litestar([guarded], after_exception=[note], openapi_config=None, logging_config=None)
    with TestClient(app) as http:
        assert http.get("/", headers=stackauth.headers()).status_code == 500
    (error,) = raised
    assert isinstance(error, ConfigError)
    assert "no Stack Auth middleware saw this request" in str(error)


# -- the rest of an app -------------------------------------------------------------------------------


def test_the_apps_own_exceptions_are_its_own(http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    assert answered(http.get("/buy", headers=headers))[::2] == (409, {"sold_out": True})
    gone = {"status_code": 410, "detail": "No longer here"}
    assert answered(http.get("/gone", headers=headers))[::2] == (410, gone)
    assert answered(http.get("/nowhere", headers=headers))[::2] == (404, {"status_code": 404, "detail": "Not Found"})


def test_a_stream_knows_its_user(http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    with http.stream("GET", "/stream", headers=stackauth.headers()) as response:
        assert list(response.iter_lines()) == [JANE["email"]] * 3


def test_a_background_task_knows_its_user(site: Site, http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    assert http.post("/later", headers=stackauth.headers()).text == "accepted"
    assert site.ran == [JANE["email"]]


@pytest.mark.parametrize("door", ["in", "around"])
def test_a_browser_elsewhere_can_read_a_refusal(door: str, stackauth: LocalStackAuth) -> None:
    """In the app Litestar's CORS lies outside; around it ours speaks for the refusals; and never both."""
    with TestClient(Site(door=door, cors_origins=[ORIGIN]).app) as http:
        http.headers["origin"] = ORIGIN
        for path in ("/me", "/optional/guarded"):
            refusal = answered(http.get(path))
            assert refusal.status == 401
            assert refusal.headers["access-control-allow-origin"] == ORIGIN
            assert "Origin" in refusal.headers["vary"]
        assert http.get("/me", headers=stackauth.headers()).headers["access-control-allow-origin"] == ORIGIN
        asking = {"access-control-request-method": "GET", "access-control-request-headers": "x-stack-access-token"}
        preflight = http.options("/me", headers=asking)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, ORIGIN)


# -- WebSockets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/socket", "/optional/socket"])
def test_a_socket_gets_the_user(path: str, http: TestClient[Any], stackauth: LocalStackAuth) -> None:
    with http.websocket_connect(path, headers=stackauth.headers()) as socket:
        assert socket.receive_json() == {**JANE, "profile": False}


def test_a_public_socket_is_anybodys(http: TestClient[Any]) -> None:
    with http.websocket_connect("/public/socket") as socket:
        assert socket.receive_json() is True


@pytest.mark.parametrize(
    ("path", "trouble", "code"),
    [("/socket", False, 3000), ("/optional/socket", False, 3000), ("/optional/socket", True, 1013)],
)
def test_a_socket_is_refused_with_a_code(
    path: str, trouble: bool, code: int, site: Site, http: TestClient[Any], stackauth: LocalStackAuth
) -> None:
    """Litestar's test client offers no extension for a response, and Litestar would not use one."""
    headers = stackauth.headers() if trouble else {}
    connecting = http.websocket_connect(path, headers=headers)
    with stackauth.down(cold=True), pytest.raises(WebSocketDisconnect) as caught, connecting:
        raise AssertionError("let in")
    assert caught.value.code == code
    assert site.ran == []


# -- a real server, and the example -------------------------------------------------------------------


def test_behind_uvicorn(site: Site, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED_INSIDE["nobody"]
    with uvicorn_serving(site.app) as url, client(url) as http:
        assert http.get("/me", headers=stackauth.headers()).json()["email"] == JANE["email"]
        assert http.get("/stream", headers=stackauth.headers()).text == f"{JANE['email']}\n" * 3
        refusal = answered(http.get(case.path))
        assert (refusal.status, refusal.body) == inside(case)[::2]
        assert refusal.headers.items() >= inside(case).headers.items()
    assert stackauth.requests.count("jwks") == 1


EXAMPLE = "contrib_litestar.py"


@pytest.fixture(autouse=True)
def no_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Litestar's default from setting up the logging of this process, with a thread that stays."""
    monkeypatch.setattr("logging.config.dictConfig", lambda config: None)


def test_the_example_with_the_test_client(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(example(EXAMPLE, monkeypatch).app) as http:
        headers = stackauth.headers()
        assert http.get("/healthz").json() == {"status": "ok"}
        assert http.get("/hello").json() == {"hello": "stranger"}
        assert http.get("/hello", headers=headers).json() == {"hello": "Jane Doe"}
        assert http.get("/me").json()["extra"]["code"] == "missing_token"
        assert http.get("/me", headers=headers).json()["email"] == JANE["email"]


def test_the_example_behind_uvicorn(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    with uvicorn_serving(example(EXAMPLE, monkeypatch).app) as url, client(url) as http:
        assert http.get("/me", headers=stackauth.headers()).json()["email"] == JANE["email"]
        refusal = http.get("/api/orders", headers={"origin": "http://localhost:3000"})
        assert (refusal.status_code, refusal.json()["code"]) == (401, "missing_token")
        assert refusal.headers["access-control-allow-origin"] == "http://localhost:3000"
