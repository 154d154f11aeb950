"""Quart: the decorator, on views and WebSockets, behind the middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import anyio
import pytest
from quart import Quart, Response, copy_current_request_context, request, websocket
from quart.testing import WebsocketResponseError
from quart_cors import cors
from werkzeug.exceptions import Gone, HTTPException, Unauthorized

from stackauth_middleware import (
    AuthServerError,
    ConfigError,
    RefusedError,
    StackAuthASGIMiddleware,
    User,
    aload_profile,
    get_user,
    require_user,
)
from stackauth_middleware.contrib.quart import refuse, require_auth
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE, ORIGIN, Answer, answer, answered, seen
from .examples import example
from .serving import client, uvicorn_serving


class OutOfStock(Exception):
    """An exception of the app's own."""


class Site:
    """An app with a view of each kind, and what its views did."""

    def __init__(self, *, with_cors: bool = False, **settings: Any) -> None:
        self.ran: list[Any] = []
        ran = self.ran
        self.app = app = Quart(__name__, static_folder=None)
        if with_cors:
            self.app = app = cors(app, allow_origin=ORIGIN, allow_headers=["x-stack-access-token"])
        app.register_error_handler(RefusedError, refuse)
        app.register_error_handler(AuthServerError, refuse)

        @app.get("/me", endpoint="me")
        @app.get("/admin", endpoint="admin")
        @require_auth
        async def me(user: User) -> dict[str, Any]:
            ran.append(user)
            return user.to_dict()

        @app.get("/in-thread/<name>")
        @require_auth
        def in_thread(user: User, name: str) -> list[Any]:
            """A plain function, with an argument of its own."""
            return [user.email, name, request.path]

        @app.get("/public/hello", endpoint="public")
        @app.get("/optional/hello", endpoint="optional")
        async def hello() -> dict[str, Any]:
            user = get_user(request)
            return {"hello": user.email if user else None}

        @app.get("/public/guarded", endpoint="public_guarded")
        @app.get("/optional/guarded", endpoint="optional_guarded")
        @require_auth
        async def guarded(user: User) -> dict[str, Any]:
            ran.append("guarded")
            return seen(user)

        @app.get("/optional/profile")
        @require_auth(profile=True)
        async def profile(user: User) -> dict[str, Any]:
            ran.append("profile")
            return seen(user)

        @app.get("/optional/own-profile")
        async def own_profile() -> dict[str, Any]:
            return (await aload_profile(request)).to_dict()

        @app.get("/stream")
        @require_auth
        async def stream(user: User) -> AsyncIterator[str]:
            async def lines() -> AsyncIterator[str]:
                for _ in range(3):
                    await asyncio.sleep(0)
                    yield f"{user.email}\n"

            return lines()

        @app.post("/later")
        @require_auth
        async def later(user: User) -> str:
            @copy_current_request_context
            async def task() -> None:
                ran.append((user.email, require_user(request)))

            app.add_background_task(task)
            return "accepted"

        @app.get("/buy")
        async def buy() -> str:
            raise OutOfStock

        @app.get("/gone")
        async def gone() -> str:
            raise Gone("No longer here")

        @app.errorhandler(OutOfStock)
        async def sold_out(error: OutOfStock) -> tuple[dict[str, bool], int]:
            return {"sold_out": True}, 409

        @app.websocket("/socket", endpoint="socket")
        @app.websocket("/optional/socket", endpoint="optional_socket")
        @require_auth
        async def socket(user: User) -> None:
            ran.append(user)
            await websocket.send_json(seen(user))

        @app.websocket("/public/socket")
        async def anybody() -> None:
            await websocket.send_json({"nobody": get_user(websocket) is None})

        app.asgi_app = StackAuthASGIMiddleware(  # type: ignore[method-assign]
            app.asgi_app, config=cases.config(**settings)
        )

    def get(self, path: str, headers: Any = None) -> Answer:
        return run(ask(self.app.test_client().get(path, headers=headers)))

    def text(self, path: str, headers: Any) -> str:
        async def read() -> str:
            return await (await self.app.test_client().get(path, headers=headers)).get_data(as_text=True)

        return run(read())


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


async def ask(asking: Any) -> Answer:
    response: Response = await asking
    return answer(response.status_code, response.headers.items(), await response.get_data())


@pytest.fixture
def site(stackauth: LocalStackAuth) -> Site:
    return Site()


# -- the user arrives ---------------------------------------------------------------------------------


def test_a_view_is_passed_the_user(site: Site, stackauth: LocalStackAuth) -> None:
    found = site.get("/me", stackauth.headers())
    (user,) = site.ran
    assert found[::2] == (200, user.to_dict())
    assert user.email == JANE["email"]


def test_a_plain_function_is_too(site: Site, stackauth: LocalStackAuth) -> None:
    """First, before what the route passes; in a thread that still knows its request."""
    assert site.get("/in-thread/x", stackauth.headers()).body == [JANE["email"], "x", "/in-thread/x"]


def test_a_guarded_view_is_passed_the_user(site: Site, stackauth: LocalStackAuth) -> None:
    assert site.get("/optional/guarded", stackauth.headers()).body == {**JANE, "profile": False}


@pytest.mark.parametrize("path", ["/public/hello", "/optional/hello"])
def test_nobody_is_none_where_nobody_need_be(path: str, site: Site) -> None:
    assert site.get(path)[::2] == (200, {"hello": None})


def test_an_optional_route_gets_the_user(site: Site, stackauth: LocalStackAuth) -> None:
    assert site.get("/optional/hello", stackauth.headers()).body == {"hello": JANE["email"]}


def test_a_public_route_looks_at_no_token(site: Site, stackauth: LocalStackAuth) -> None:
    assert site.get("/public/hello", stackauth.headers()).body == {"hello": None}
    assert stackauth.requests.count() == 0


def test_the_profile_comes_with_the_user(site: Site, stackauth: LocalStackAuth) -> None:
    """Once: what is remembered is not asked for again."""
    stackauth.users.create(JANE["id"], primary_email="new@example.com")
    expected = {"id": JANE["id"], "email": "new@example.com", "profile": True}
    for _ in range(2):
        assert site.get("/optional/profile", stackauth.headers()).body == expected
    assert site.get("/optional/own-profile", stackauth.headers()).body["primary_email"] == "new@example.com"
    assert stackauth.requests.count("users/me") == 1


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases.REFUSED)
def test_the_middleware_refuses(name: str, site: Site, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert site.get(case.path, headers) == case.answer()
    assert site.ran == []
    assert case.asks or stackauth.requests.count() == 0


@pytest.mark.parametrize("name", cases.REFUSED_INSIDE)
def test_the_decorator_refuses_in_the_same_words(name: str, site: Site, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED_INSIDE[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert site.get(case.path, headers) == case.answer()
    assert site.ran == []


@pytest.mark.parametrize("path", ["/optional/profile", "/optional/own-profile"])
@pytest.mark.parametrize("name", cases.NO_PROFILE)
def test_no_profile_is_a_refusal(name: str, path: str, site: Site, stackauth: LocalStackAuth) -> None:
    """By the decorator, and by the error handler where a view asks itself."""
    case = cases.NO_PROFILE[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert site.get(path, headers) == case.answer()
    assert site.ran == []


@pytest.mark.parametrize("key", [Unauthorized, 401, HTTPException])
@pytest.mark.parametrize("path", ["/public/guarded", "/optional/own-profile"])
def test_a_refusal_inside_goes_through_the_apps_own_handler(key: Any, path: str, site: Site) -> None:
    """By werkzeug's class for it, or by the status."""

    @site.app.errorhandler(key)
    async def own(error: HTTPException) -> tuple[dict[str, Any], int]:
        return {"oops": error.description}, error.code or 0

    assert site.get(path)[::2] == (401, {"oops": "Access token required"})


def test_the_cause_tells_the_row(site: Site) -> None:
    @site.app.errorhandler(Unauthorized)
    async def own(error: HTTPException) -> tuple[dict[str, Any], int]:
        assert isinstance(error.__cause__, RefusedError)
        return {"oops": error.__cause__.code.value}, 401

    assert site.get("/public/guarded").body == {"oops": "missing_token"}


def test_without_a_middleware_the_mistake_is_named(stackauth: LocalStackAuth) -> None:
    """On Quart's page for a traceback. It is no 401: nobody could ever be let in."""
    app = Quart(__name__, static_folder=None)
    app.testing = True

    @app.get("/")
    @require_auth
    async def guarded(user: User) -> str:
        return "let in"

    async def get() -> tuple[int, str]:
        response = await app.test_client().get("/", headers=stackauth.headers())
        return response.status_code, await response.get_data(as_text=True)

    status, page = run(get())
    assert status == 500
    assert ConfigError.__name__ in page
    assert "no Stack Auth middleware saw this request" in page


# -- the rest of an app -------------------------------------------------------------------------------


def test_the_apps_own_exceptions_are_its_own(site: Site, stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    assert site.get("/buy", headers)[::2] == (409, {"sold_out": True})
    assert "No longer here" in site.text("/gone", headers)
    assert "404 Not Found" in site.text("/nowhere", headers)


def test_a_stream_knows_its_user(site: Site, stackauth: LocalStackAuth) -> None:
    assert site.text("/stream", stackauth.headers()) == f"{JANE['email']}\n" * 3


def test_a_background_task_knows_its_user(site: Site, stackauth: LocalStackAuth) -> None:
    async def post() -> Answer:
        async with site.app.test_app():  # waits for the tasks on its way out
            response = await site.app.test_client().post("/later", headers=stackauth.headers())
            return answer(response.status_code, (), b'"' + await response.get_data() + b'"')

    assert run(post())[::2] == (200, "accepted")
    ((email, user),) = site.ran
    assert email == user.email == JANE["email"]


def test_a_browser_elsewhere_can_read_a_refusal(stackauth: LocalStackAuth) -> None:
    """quart-cors lies inside, and sees only what the app refuses; for the rest there is ``cors_origins``."""
    site = Site(with_cors=True, cors_origins=[ORIGIN])
    for path in ("/me", "/optional/guarded"):
        refusal = site.get(path, {"origin": ORIGIN})
        assert refusal.status == 401
        assert refusal.headers["access-control-allow-origin"] == ORIGIN
    allowed = site.get("/me", {"origin": ORIGIN, **stackauth.headers()})
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, ORIGIN)
    asking = {
        "origin": ORIGIN,
        "access-control-request-method": "GET",
        "access-control-request-headers": "x-stack-access-token",
    }
    preflight = run(ask(site.app.test_client().options("/me", headers=asking)))
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (204, ORIGIN)
    assert preflight.headers["access-control-allow-headers"] == "x-stack-access-token"


# -- WebSockets ---------------------------------------------------------------------------------------


def told(site: Site, path: str, headers: Any = None) -> Any:
    async def connect() -> Any:
        with anyio.CancelScope() as waiting:
            try:
                async with site.app.test_client().websocket(path, headers=headers) as socket:
                    waiting.deadline = anyio.current_time() + 1
                    return await socket.receive_json()
            finally:
                assert not waiting.cancel_called, "it never heard that it was refused"

    return run(connect())


@pytest.mark.parametrize("path", ["/socket", "/optional/socket"])
def test_a_socket_gets_the_user(path: str, site: Site, stackauth: LocalStackAuth) -> None:
    assert told(site, path, stackauth.headers()) == {**JANE, "profile": False}


def test_a_public_socket_is_anybodys(site: Site) -> None:
    assert told(site, "/public/socket") == {"nobody": True}


WAITS = pytest.mark.xfail(
    reason="the middleware awaits websocket.connect before it refuses, and Quart's test client never sends one",
    raises=AssertionError,
)


@pytest.mark.parametrize("path", [pytest.param("/socket", marks=WAITS), "/optional/socket"])
def test_a_socket_is_refused_with_a_response(path: str, site: Site) -> None:
    """Quart's test client offers the extension for it, as most servers do."""
    with pytest.raises(WebsocketResponseError) as caught:
        told(site, path)

    assert run(ask(as_awaitable(caught.value.response))) == cases.REFUSED["missing"].answer()
    assert site.ran == []


async def as_awaitable(value: Any) -> Any:
    return value


# -- a real server, and the example -------------------------------------------------------------------


def test_behind_uvicorn(site: Site, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED_INSIDE["nobody"]
    with uvicorn_serving(site.app) as url, client(url) as http:
        assert http.get("/me", headers=stackauth.headers()).json()["email"] == JANE["email"]
        assert http.get("/stream", headers=stackauth.headers()).text == f"{JANE['email']}\n" * 3
        refusal = answered(http.get(case.path))
        assert (refusal.status, refusal.body) == case.answer()[::2]
        assert refusal.headers.items() >= case.answer().headers.items()
    assert stackauth.requests.count("jwks") == 1


EXAMPLE = "contrib_quart.py"


def test_the_example_with_the_test_client(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    app = example(EXAMPLE, monkeypatch).app
    headers = stackauth.headers()

    async def visit() -> list[Any]:
        http = app.test_client()
        bodies = [
            await (await http.get(path, headers=sent)).get_json()
            for path, sent in (("/healthz", {}), ("/hello", {}), ("/hello", headers), ("/me", {}), ("/me", headers))
        ]
        async with http.websocket("/socket", headers=headers) as socket:
            return [*bodies, await socket.receive()]

    healthz, stranger, hello, refused, me, socket = run(visit())
    assert healthz == {"status": "ok"}
    assert stranger == {"hello": "stranger"}
    assert hello == {"hello": "Jane Doe"}
    assert refused["code"] == "missing_token"
    assert me["email"] == JANE["email"]
    assert socket == "hello Jane Doe"


def test_the_example_behind_uvicorn(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    with uvicorn_serving(example(EXAMPLE, monkeypatch).app) as url, client(url) as http:
        assert http.get("/me", headers=stackauth.headers()).json()["email"] == JANE["email"]
        assert http.get("/me").headers["www-authenticate"] == 'Bearer realm="stack-auth"'
        assert http.get("/api/whatever").json()["code"] == "missing_token"
