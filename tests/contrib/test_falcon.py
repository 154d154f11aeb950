"""Falcon: the hook, on responders and resources of WSGI and of ASGI apps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import falcon
import falcon.asgi
import pytest
from falcon import testing

from stackauth_middleware import (
    ConfigError,
    RefusedError,
    StackAuthASGIMiddleware,
    StackAuthWSGIMiddleware,
    get_user,
    require_user,
)
from stackauth_middleware.contrib.falcon import require_auth
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE, ORIGIN, Answer, Case, answer, answered, seen
from .examples import example
from .serving import client, uvicorn_serving


class OutOfStock(Exception):
    """An exception of the app's own."""


class Me:
    def __init__(self, ran: list[Any]) -> None:
        self.ran = ran

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.ran.append(require_user(req))
        resp.media = require_user(req).to_dict()


class Hello:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        user = get_user(req)
        resp.media = user.email if user else None


@falcon.before(require_auth)
class Guarded:
    def __init__(self, ran: list[Any]) -> None:
        self.ran = ran

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.ran.append("guarded")
        resp.media = seen(req.context.user)


class Profile:
    def __init__(self, ran: list[Any]) -> None:
        self.ran = ran

    @falcon.before(require_auth, profile=True)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.ran.append("profile")
        resp.media = seen(req.context.user)


class Stream:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.stream = (f"{require_user(req).email}\n".encode() for _ in range(3))


class Shop:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise OutOfStock

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise falcon.HTTPGone(description="No longer here")


class AsyncMe(Me):
    async def on_get(self, req: Any, resp: Any) -> None:
        super().on_get(req, resp)


class AsyncHello(Hello):
    async def on_get(self, req: Any, resp: Any) -> None:
        super().on_get(req, resp)


@falcon.before(require_auth)
class AsyncGuarded:
    def __init__(self, ran: list[Any]) -> None:
        self.ran = ran

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        self.ran.append("guarded")
        resp.media = seen(req.context.user)

    async def on_websocket(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        self.ran.append(req.context.user)
        await ws.accept()
        await ws.send_media(seen(req.context.user))


class AsyncProfile:
    def __init__(self, ran: list[Any]) -> None:
        self.ran = ran

    @falcon.before(require_auth, profile=True)
    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        self.ran.append("profile")
        resp.media = seen(req.context.user)


class AsyncStream:
    def __init__(self, ran: list[Any]) -> None:
        self.ran = ran

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        async def lines() -> AsyncIterator[bytes]:
            for _ in range(3):
                await asyncio.sleep(0)
                yield f"{require_user(req).email}\n".encode()

        resp.stream = lines()

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        async def task() -> None:
            self.ran.append(require_user(req).email)

        resp.schedule(task)
        resp.media = "accepted"


class AsyncShop(Shop):
    async def on_get(self, req: Any, resp: Any) -> None:
        super().on_get(req, resp)

    async def on_delete(self, req: Any, resp: Any) -> None:
        super().on_delete(req, resp)


class Site:
    """An app with a route of each kind, and what its responders did."""

    def __init__(self, kind: str, *, cors: bool = False, **settings: Any) -> None:
        self.kind = kind
        self.ran: list[Any] = []
        middleware = [falcon.CORSMiddleware(allow_origins=ORIGIN)] if cors else []
        self.app: Any
        if kind == "wsgi":
            self.app = falcon.App(middleware=middleware)
            me, hello, guarded, profile = Me(self.ran), Hello(), Guarded(self.ran), Profile(self.ran)
            stream, shop = Stream(), Shop()
            self.app.add_error_handler(OutOfStock, self.sold_out)
        else:
            self.app = falcon.asgi.App(middleware=middleware)
            me, hello, guarded, profile = (
                AsyncMe(self.ran),
                AsyncHello(),
                AsyncGuarded(self.ran),  # type: ignore[assignment]
                AsyncProfile(self.ran),  # type: ignore[assignment]
            )
            stream, shop = AsyncStream(self.ran), AsyncShop()  # type: ignore[assignment]
            self.app.add_error_handler(OutOfStock, self.asold_out)
        for path, resource in (
            ("/me", me),
            ("/admin", me),
            ("/public/hello", hello),
            ("/optional/hello", hello),
            ("/public/guarded", guarded),
            ("/optional/guarded", guarded),
            ("/optional/profile", profile),
            ("/stream", stream),
            ("/shop", shop),
        ):
            self.app.add_route(path, resource)
        door: Any = StackAuthWSGIMiddleware if kind == "wsgi" else StackAuthASGIMiddleware
        self.application = door(self.app, config=cases.config(**settings))
        self.http = testing.TestClient(self.application)

    def sold_out(self, req: Any, resp: Any, error: OutOfStock, params: Any) -> None:
        resp.status, resp.media = 409, {"sold_out": True}

    async def asold_out(self, req: Any, resp: Any, error: OutOfStock, params: Any) -> None:
        self.sold_out(req, resp, error, params)

    def get(self, path: str, headers: Any = None) -> Answer:
        return of(self.http.simulate_get(path, headers=headers))


def of(result: Any) -> Answer:
    return answer(result.status_code, result.headers.items(), result.content)


@pytest.fixture(params=["wsgi", "asgi"])
def site(request: pytest.FixtureRequest, stackauth: LocalStackAuth) -> Site:
    return Site(request.param)


@pytest.fixture
def asgi_site(stackauth: LocalStackAuth) -> Site:
    return Site("asgi")


# -- the user arrives ---------------------------------------------------------------------------------


def test_the_responder_finds_the_user(site: Site, stackauth: LocalStackAuth) -> None:
    found = site.get("/me", stackauth.headers())
    (user,) = site.ran
    assert found.status == 200
    assert found.body == user.to_dict()
    assert user.email == JANE["email"]


def test_the_hook_leaves_the_user(site: Site, stackauth: LocalStackAuth) -> None:
    assert site.get("/optional/guarded", stackauth.headers()).body == {**JANE, "profile": False}


@pytest.mark.parametrize("path", ["/public/hello", "/optional/hello"])
def test_nobody_is_none_where_nobody_need_be(path: str, site: Site) -> None:
    assert site.get(path)[::2] == (200, None)


def test_an_optional_route_gets_the_user(site: Site, stackauth: LocalStackAuth) -> None:
    assert site.get("/optional/hello", stackauth.headers()).body == JANE["email"]


def test_a_public_route_looks_at_no_token(site: Site, stackauth: LocalStackAuth) -> None:
    assert site.get("/public/hello", stackauth.headers()).body is None
    assert stackauth.requests.count() == 0


def test_the_hook_brings_the_profile(site: Site, stackauth: LocalStackAuth) -> None:
    """Once: what is remembered is not asked for again."""
    stackauth.users.create(JANE["id"], primary_email="new@example.com")
    expected = {"id": JANE["id"], "email": "new@example.com", "profile": True}
    for _ in range(2):
        assert site.get("/optional/profile", stackauth.headers()).body == expected
    assert stackauth.requests.count("users/me") == 1


def test_the_app_still_sees_its_headers(site: Site) -> None:
    """Falcon's test client hands an ASGI app an iterator of them, which can be read only once."""

    class Echo:
        def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
            resp.media = req.get_header("X-Own")

    class AsyncEcho(Echo):
        async def on_get(self, req: Any, resp: Any) -> None:
            super().on_get(req, resp)

    site.app.add_route("/public/echo", Echo() if site.kind == "wsgi" else AsyncEcho())
    assert site.get("/public/echo", {"x-own": "kept"}).body == "kept"


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases.REFUSED)
def test_the_middleware_refuses(name: str, site: Site, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert site.get(case.path, headers) == case.answer()
    assert site.ran == []
    assert case.asks or stackauth.requests.count() == 0


def inside(case: Case) -> Answer:
    """Return the answer in Falcon's own form."""
    body = {"title": falcon.code_to_http_status(case.status), "description": case.message, "code": case.code}
    expected = case.answer(body)
    return expected._replace(headers={**expected.headers, "vary": "Accept"})


@pytest.mark.parametrize("name", cases.REFUSED_INSIDE)
def test_the_hook_refuses(name: str, site: Site, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED_INSIDE[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert site.get(case.path, headers) == inside(case)
    assert site.ran == []


@pytest.mark.parametrize("name", cases.NO_PROFILE)
def test_no_profile_is_a_refusal(name: str, site: Site, stackauth: LocalStackAuth) -> None:
    case = cases.NO_PROFILE[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert site.get(case.path, headers) == inside(case)
    assert site.ran == []


def test_a_refusal_inside_goes_through_the_apps_own_handler(site: Site) -> None:
    """By Falcon's class for it; the cause tells the row."""

    def own(req: Any, resp: Any, error: Any, params: Any) -> None:
        assert isinstance(error.__cause__, RefusedError)
        resp.status, resp.media = error.status, {"oops": error.__cause__.code.value}

    async def aown(req: Any, resp: Any, error: Any, params: Any) -> None:
        own(req, resp, error, params)

    handler: Callable[..., Any] = own if site.kind == "wsgi" else aown
    site.app.add_error_handler(falcon.HTTPUnauthorized, handler)
    assert site.get("/public/guarded")[::2] == (401, {"oops": "missing_token"})


def test_without_a_middleware_the_mistake_is_named(site: Site, stackauth: LocalStackAuth) -> None:
    """It is no 401: nobody could ever be let in."""
    raised: list[Exception] = []

    def note(req: Any, resp: Any, error: Any, params: Any) -> None:
        raised.append(error)
        resp.status = 500

    async def anote(req: Any, resp: Any, error: Any, params: Any) -> None:
        note(req, resp, error, params)

    site.app.add_error_handler(ConfigError, note if site.kind == "wsgi" else anote)
    result = testing.TestClient(site.app).simulate_get("/optional/guarded", headers=stackauth.headers())
    assert result.status_code == 500
    assert "no Stack Auth middleware saw this request" in str(raised[0])


# -- the rest of an app -------------------------------------------------------------------------------


def test_the_apps_own_exceptions_are_its_own(site: Site, stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    assert site.get("/shop", headers)[::2] == (409, {"sold_out": True})
    gone = of(site.http.simulate_delete("/shop", headers=headers))
    assert gone[::2] == (410, {"title": "410 Gone", "description": "No longer here"})
    assert site.get("/nowhere", headers)[::2] == (404, {"title": "404 Not Found"})


def test_a_stream_knows_its_user(site: Site, stackauth: LocalStackAuth) -> None:
    assert site.http.simulate_get("/stream", headers=stackauth.headers()).text == f"{JANE['email']}\n" * 3


def test_a_background_task_knows_its_user(asgi_site: Site, stackauth: LocalStackAuth) -> None:
    """Of which Falcon has none under WSGI."""

    async def ask() -> Any:
        async with asgi_site.http as conductor:
            result = await conductor.simulate_post("/stream", headers=stackauth.headers())
            await asyncio.sleep(0)  # the task is scheduled, and not waited for
            return result.json

    assert asyncio.run(ask()) == "accepted"
    assert asgi_site.ran == [JANE["email"]]


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_a_browser_elsewhere_can_read_a_refusal(kind: str, stackauth: LocalStackAuth) -> None:
    """Falcon's CORS lies inside, and sees only what the app refuses; for the rest there is ``cors_origins``."""
    site = Site(kind, cors=True, cors_origins=[ORIGIN])
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
    preflight = site.http.simulate_options("/me", headers=asking)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, ORIGIN)
    assert preflight.headers["access-control-allow-headers"] == "x-stack-access-token"


# -- WebSockets ---------------------------------------------------------------------------------------


def socket_told(site: Site, path: str, headers: Any) -> Any:
    async def ask() -> Any:
        async with site.http as conductor, conductor.simulate_ws(path, headers=headers) as socket:
            return await socket.receive_json()

    return asyncio.run(ask())


def test_a_socket_gets_the_user(asgi_site: Site, stackauth: LocalStackAuth) -> None:
    told = socket_told(asgi_site, "/optional/guarded", list(stackauth.headers().items()))
    assert told == {**JANE, "profile": False}


def test_a_socket_is_refused_with_a_code(asgi_site: Site) -> None:
    """With Falcon's own by the hook, with ours by the middleware."""
    for path, code in (("/optional/guarded", 3401), ("/me", 3000)):
        with pytest.raises(falcon.WebSocketDisconnected) as caught:
            socket_told(asgi_site, path, {})
        assert caught.value.code == code
    assert asgi_site.ran == []


# -- real servers, and the example --------------------------------------------------------------------


@contextmanager
def wsgiref_serving(application: Any) -> Iterator[str]:
    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002

    with make_server("127.0.0.1", 0, application, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_behind_a_server(site: Site, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED_INSIDE["nobody"]
    serving = wsgiref_serving if site.kind == "wsgi" else uvicorn_serving
    with serving(site.application) as url, client(url) as http:
        assert http.get("/me", headers=stackauth.headers()).json()["email"] == JANE["email"]
        assert http.get("/stream", headers=stackauth.headers()).text == f"{JANE['email']}\n" * 3
        refusal = answered(http.get(case.path))
        assert (refusal.status, refusal.body) == inside(case)[::2]
        assert refusal.headers.items() >= inside(case).headers.items()
    assert stackauth.requests.count("jwks") == 1


EXAMPLE = "contrib_falcon.py"


def test_the_example_with_the_test_client(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    http = testing.TestClient(example(EXAMPLE, monkeypatch).application)
    headers = stackauth.headers()
    assert http.simulate_get("/healthz").json == {"status": "ok"}
    assert http.simulate_get("/hello").json == {"hello": "stranger"}
    assert http.simulate_get("/hello", headers=headers).json == {"hello": "Jane Doe"}
    assert http.simulate_get("/me").json["code"] == "missing_token"
    assert http.simulate_get("/me", headers=headers).json["email"] == JANE["email"]


def test_the_example_behind_uvicorn(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    with uvicorn_serving(example(EXAMPLE, monkeypatch).application) as url, client(url) as http:
        assert http.get("/me", headers=stackauth.headers()).json()["email"] == JANE["email"]
        assert http.get("/me").headers["www-authenticate"] == 'Bearer realm="stack-auth"'
        assert http.get("/api/whatever").json()["code"] == "missing_token"
