"""The middleware for Django, under WSGI and ASGI, sync and async."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path, re_path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackauth_middleware import ConfigError, Rule, StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware
from stackauth_middleware._io import network
from stackauth_middleware.contrib.django import StackAuthMiddleware, stack_auth_config
from stackauth_middleware.testing import LocalStackAuth
from tests.frameworks.ask import Ask, Loop, ask_wsgi

from .. import cases
from ..cases import JANE, ORIGIN, PROJECT, RULES
from . import project
from .project import OURS, Site, installed, ran

# -- users ---------------------------------------------------------------------------------


def test_outcome_is_published_as_by_the_other_middlewares(site: Site, stackauth: LocalStackAuth) -> None:
    """In the environ and, under ASGI, in the scope: for what reads either."""
    response = site.get("/me", stackauth.headers())
    request = response.asgi_request if site.is_asgi else response.wsgi_request
    for written in (request.META, *([request.scope] if site.is_asgi else [])):
        assert written["stackauth.user"] is request.stack_user
        assert written["stackauth.error"] is None
        assert written["stackauth.outcome"] is not None


def test_user_of_django_is_not_set(site: Site, stackauth: LocalStackAuth) -> None:
    response = site.get("/me", stackauth.headers())
    assert not hasattr(response.asgi_request if site.is_asgi else response.wsgi_request, "user")


def test_user_planted_in_environ_is_overwritten(stackauth: LocalStackAuth) -> None:
    with installed():
        planted: Any = {"stackauth.user": "root"}
        assert Site(asgi=False).answer("/public/hello", **planted).body == {"email": None}


@pytest.mark.parametrize("path", ["/optional/load", "/optional/async/load"])
def test_a_view_loads_the_profile(path: str, site: Site, stackauth: LocalStackAuth) -> None:
    """A sync view under ASGI by `load_profile`, an async one under WSGI by `aload_profile`."""
    stackauth.users.create(JANE["id"], primary_email="new@example.com", server_metadata={"plan": "pro"})
    assert site.get(path, stackauth.headers()).status_code == 200
    assert (ran[-1].primary_email, ran[-1].server_metadata) == ("new@example.com", {"plan": "pro"})
    assert stackauth.requests.count("users/me") == 1


def test_a_rule_loads_the_profile(asgi: bool, stackauth: LocalStackAuth) -> None:
    with installed(rules=[Rule("/me", profile=True)]):
        site = Site(asgi=asgi)
        assert site.answer("/me", stackauth.headers()).body["profile"]["id"] == JANE["id"]


def test_every_request_sees_its_own_user(stackauth: LocalStackAuth) -> None:
    """Twenty at once on one handler, sync and async views mixed."""
    with installed():
        site = Site(asgi=True)
        ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(20)]

        async def ask(number: int, user_id: str) -> str:
            path = "/async/me" if number % 2 else "/me"
            response = await site.client.get(path, headers=stackauth.headers(sub=user_id))
            return str(response.json()["user_id"])

        async def all_at_once() -> list[str]:
            return await asyncio.gather(*(ask(number, user_id) for number, user_id in enumerate(ids)))

        assert asyncio.run(all_at_once()) == ids


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases.NO_PROFILE)
def test_refusal_raised_in_a_view_gets_the_response_of_the_middleware(
    name: str, site: Site, stackauth: LocalStackAuth
) -> None:
    """The cases are those of `require_auth`; only the paths differ."""
    case = cases.NO_PROFILE[name]
    headers = case.send(stackauth)
    for target in ("/optional/load", "/optional/async/load"):
        stackauth.reset()
        with case.trouble(stackauth):
            assert site.answer(target, headers) == case.answer()
        if name == "deleted since":
            break
    assert [each for each in ran if each != "below"] == []


def test_a_head_request_gets_no_body(site: Site) -> None:
    answer = site.answer("/me", method="head")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (401, None, "59")


def test_unreadable_request_is_refused(stackauth: LocalStackAuth) -> None:
    """Django's test client passes on any object as a header."""
    with installed():
        answer = Site(asgi=False).answer("/me", {"x-stack-access-token": 5})
    assert (answer.status, answer.body["code"]) == (400, "invalid_request")


def test_middleware_does_not_read_the_body(site: Site, stackauth: LocalStackAuth) -> None:
    site.get("/post", stackauth.headers(), method="post", data=b"content", content_type="text/plain")
    assert ran[-1] == b"content"


# -- the rest of a project ----------------------------------------------------------------------------


def test_djangos_page_about_an_exception_shows_no_token(asgi: bool, stackauth: LocalStackAuth) -> None:
    """The page lists ``META``, which has our keys."""
    with installed(more={"DEBUG": True}):
        site = Site(asgi=asgi)
        token = stackauth.token()
        page = site.get("/buy", {"x-stack-access-token": token}).content.decode()
    assert "stackauth.outcome" in page
    assert token not in page
    assert token.split(".")[2] not in page


def test_a_stream_is_passed_on_as_it_is_made(stackauth: LocalStackAuth) -> None:
    """Nothing is gathered on the way."""
    with installed():
        site = Site(asgi=False)
        response = site.client.get("/stream", headers=stackauth.headers())
        assert ran == []
        chunks = iter(response)
        assert (next(chunks), ran) == (b"jane@example.com\n", ["line"])
        response.close()


def readable(headers: dict[str, str]) -> bool:
    """Return whether a browser shows a response to a page from `ORIGIN`: the CORS check of the Fetch standard."""
    return headers.get("access-control-allow-origin") in ("*", ORIGIN)


@pytest.mark.parametrize(
    ("above", "named", "expected"),
    [(True, False, True), (True, True, True), (False, True, True), (False, False, False)],
)
def test_refusal_is_readable_cross_origin(
    above: bool, named: bool, expected: bool, asgi: bool, stackauth: LocalStackAuth
) -> None:
    """If django-cors-headers is above the middleware, or `cors_origins` has the origin, or both."""
    cors = ("corsheaders.middleware.CorsMiddleware",)
    allowed = {"CORS_ALLOWED_ORIGINS": [ORIGIN], "CORS_ALLOW_HEADERS": ["x-stack-access-token"]}
    below, outside = ((), cors) if above else (cors, ())
    ours = {"cors_origins": [ORIGIN] if named else [], "pass_preflights": not named}
    with installed(*below, above=outside, more=allowed, **ours):
        site, origin = Site(asgi=asgi), {"origin": ORIGIN}
        refusal = site.answer("/me", origin)
        assert (refusal.status, readable(refusal.headers)) == (401, expected)
        inside = site.answer("/optional/load", origin)
        assert (inside.status, readable(inside.headers)) == (401, True)
        granted = site.answer("/me", {**origin, **stackauth.headers()})
        assert (granted.status, granted.headers["access-control-allow-origin"]) == (200, ORIGIN)
        asked = {"access-control-request-method": "GET", "access-control-request-headers": "x-stack-access-token"}
        preflight = site.get("/me", {**origin, **asked}, method="options")
        status = 204 if named and not above else 200
        assert (preflight.status_code, preflight["access-control-allow-origin"]) == (status, ORIGIN)
        assert preflight["access-control-allow-headers"] == "x-stack-access-token"


def preflight_views() -> dict[str, Any]:
    """Return views that, like many, do not distinguish a preflight from a request."""

    def function(request: HttpRequest) -> HttpResponse:
        ran.append(request.method)
        response = HttpResponse("secret", headers={"X-Secret": "secret"})
        response.set_cookie("session", "secret")
        return response

    async def coroutine(request: HttpRequest) -> HttpResponse:
        return function(request)

    def stream(request: HttpRequest) -> StreamingHttpResponse:
        ran.append(request.method)
        return StreamingHttpResponse(iter(["secret"]), headers={"X-Secret": "secret"})

    async def chunks() -> AsyncIterator[str]:
        yield "secret"

    async def astream(request: HttpRequest) -> StreamingHttpResponse:
        ran.append(request.method)
        return StreamingHttpResponse(chunks(), headers={"X-Secret": "secret"})

    return {"function": function, "coroutine": coroutine, "stream": stream, "astream": astream}


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume (a)?synchronous iterators:Warning")
@pytest.mark.parametrize("view", preflight_views().values(), ids=preflight_views())
def test_preflight_reaches_a_view_only_if_passed_and_gets_no_secret(
    view: Any, asgi: bool, stackauth: LocalStackAuth
) -> None:
    urls = {"ROOT_URLCONF": (path("secret", view),)}
    sent = {"origin": ORIGIN, "access-control-request-method": "GET"}
    for origins, status in (([], 401), ([ORIGIN], 204), (["https://elsewhere.example.com"], 401)):
        with installed(more=urls, cors_origins=origins):
            assert Site(asgi=asgi).get("/secret", sent, method="options").status_code == status
    assert ran == []
    with installed(more=urls, pass_preflights=True):
        response = Site(asgi=asgi).get("/secret", sent, method="options")
        assert response.status_code == 200
        assert (b"".join(map(str.encode, response.lines)) if response.streaming else response.content) == b""
        assert not response.cookies
        assert {name.lower() for name in response.headers} <= {"content-length", "vary"}
    assert ran == ["OPTIONS"]
    assert stackauth.requests.count() == 0


# -- stale keys ---------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the ages, to be set forward."""
    moved = SimpleNamespace(by=0.0)
    transport_override = SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() + moved.by)
    monkeypatch.setattr(network, "time", transport_override)
    return moved


def test_stale_keys_are_refreshed_after_the_answer(clock: SimpleNamespace, stackauth: LocalStackAuth) -> None:
    """Under ASGI, by the handler that real servers run; once, however many requests see that they are stale."""
    with installed(), override_settings(MIDDLEWARE=[OURS]):
        application = get_asgi_application()
    headers = [(name.encode(), value.encode()) for name, value in stackauth.headers().items()]
    asked: list[int] = []

    async def ask() -> None:
        body = iter([{"type": "http.request", "body": b""}])

        async def receive() -> Any:
            for message in body:
                return message
            return await asyncio.Event().wait()  # the client stays

        async def send(message: Any) -> None:
            asked.append(stackauth.requests.count("jwks"))

        scope = {"type": "http", "method": "GET", "path": "/me", "headers": [*headers, (b"host", b"testserver")]}
        await application({**scope, "query_string": b""}, receive, send)

    with installed():
        asyncio.run(ask())
        assert asked == [1, 1]
        clock.by = 601
        asyncio.run(ask())
        assert asked == [1, 1, 1, 1]
        assert stackauth.requests.count("jwks") == 2
        asyncio.run(ask())
    assert stackauth.requests.count("jwks") == 2


def test_in_an_event_loop_nothing_is_refreshed(clock: SimpleNamespace, stackauth: LocalStackAuth) -> None:
    """The signal may be sent there; it is left to the next one that is not."""
    with installed():
        site = Site(asgi=True)

        async def ask() -> int:
            response = await site.client.get("/async/me", headers=stackauth.headers())
            assert response.status_code == 200
            clock.by = 601
            send, request_finished.send = request_finished.send, lambda *args, **more: []
            try:
                await site.client.get("/async/me", headers=stackauth.headers())
            finally:
                request_finished.send = send
            request_finished.send(None)
            return stackauth.requests.count("jwks")

        assert asyncio.run(ask()) == 1
        request_finished.send(None)
        assert stackauth.requests.count("jwks") == 2


@pytest.mark.parametrize("name", ["WSGI", "WSGI, above an async-only middleware", "ASGI, above a sync-only middleware"])
def test_in_a_thread_a_request_carries_it(name: str, clock: SimpleNamespace, stackauth: LocalStackAuth) -> None:
    from .conftest import CHAINS

    asgi, below = CHAINS[name]
    with installed(*below):
        site = Site(asgi=asgi)
        site.get("/me", stackauth.headers())
        clock.by = 601
        seen: list[int] = []
        ran_before = project.ran
        try:
            project.ran = SimpleNamespace(append=lambda _: seen.append(stackauth.requests.count("jwks")))
            site.get("/me", stackauth.headers())
        finally:
            project.ran = ran_before
    assert set(seen) == {2}


def test_nothing_of_ours_hangs_on_a_response(clock: SimpleNamespace, stackauth: LocalStackAuth) -> None:
    """Django's cache middlewares pickle responses, those of requests that found stale keys among them."""
    with installed():
        site = Site(asgi=True)
        site.get("/me", stackauth.headers())
        clock.by = 601
        response = site.get("/me", stackauth.headers())
    assert response._resource_closers == []
    assert "close" not in vars(response)


# -- the same outcome as the other middlewares --------------------------------------------------------------------

SEGMENTS = ["public", "optional", "admin", "me", "hello", "..", ".", "", "%2e%2e", "%2f", "%252e", "%ff", "%c3%a9", "x"]
targets = st.lists(st.sampled_from(SEGMENTS), max_size=4).map(lambda parts: "/" + "/".join(parts))
roots = st.sampled_from([("", True), ("/r1", True), ("/r1", False)])
methods = st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "get"])
many = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


def any_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"null")


class BothMiddlewares:
    """A project with one view for all paths, behind Django's middleware and behind one that wraps it.

    The latter needs settings for what Django's does always: trust the root path, and mark responses as private.
    """

    def __init__(self, middleware: Any, application: Any) -> None:
        config = cases.config(rules=[Rule("/public/x", check=lambda user: False), *RULES, Rule("/é", "public")])
        wrapping = cases.config(rules=config.rules, private_responses=True, root_path="scope")
        self.project = {"ROOT_URLCONF": (re_path("", any_view),), "STACK_AUTH": config, "ALLOWED_HOSTS": ["*"]}
        with override_settings(**self.project, MIDDLEWARE=[OURS]):
            self.ours = application()
        with override_settings(**self.project, MIDDLEWARE=[]):
            self.middleware = middleware(application(), config=wrapping)

    def compare(self, ask: Callable[[Any], Any]) -> None:
        """Compare the whole responses."""
        with override_settings(**self.project):
            wrapping, ours = ask(self.middleware), ask(self.ours)
        assert ours == wrapping


@pytest.fixture
def wsgi_middlewares() -> BothMiddlewares:
    return BothMiddlewares(StackAuthWSGIMiddleware, get_wsgi_application)


@pytest.fixture
def asgi_middlewares() -> BothMiddlewares:
    return BothMiddlewares(StackAuthASGIMiddleware, get_asgi_application)


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@many
@given(target=targets, method=methods, root=roots, signed_in=st.booleans())
def test_every_path_gets_the_outcome_of_the_wsgi_middleware(
    wsgi_middlewares: BothMiddlewares,
    stackauth: LocalStackAuth,
    target: str,
    method: str,
    root: tuple[str, bool],
    signed_in: bool,
) -> None:
    ask = Ask(target, method, stackauth.headers() if signed_in else {}, root_path=root[0])
    wsgi_middlewares.compare(lambda application: ask_wsgi(application, ask))


@many
@given(target=targets, method=methods, root=roots, signed_in=st.booleans())
def test_every_path_gets_the_outcome_of_the_asgi_middleware(
    asgi_middlewares: BothMiddlewares,
    loop: Loop,
    stackauth: LocalStackAuth,
    target: str,
    method: str,
    root: tuple[str, bool],
    signed_in: bool,
) -> None:
    ask = Ask(target, method, stackauth.headers() if signed_in else {}, root_path=root[0], prefixed=root[1])
    asgi_middlewares.compare(lambda application: loop.ask(application, ask))


def test_rules_are_relative_to_the_mount(asgi: bool, stackauth: LocalStackAuth) -> None:
    """Django removes the root path itself; the setting `root_path` only restricts which one is accepted."""
    with installed():
        site = Site(asgi=asgi)
        site.client.defaults["root_path" if asgi else "SCRIPT_NAME"] = "/r1"
        prefix = "/r1" if asgi else ""  # ASGI has the mount in the path, and in root_path
        assert site.get(f"{prefix}/public/hello").status_code == 200
        assert site.get(f"{prefix}/me").status_code == 401
    for setting, status in (("/r1", 200), ("scope", 200), ("/r2", 401)):
        with installed(root_path=setting):
            site = Site(asgi=asgi)
            site.client.defaults["root_path" if asgi else "SCRIPT_NAME"] = "/r1"
            assert site.get(f"{prefix}/public/hello").status_code == status


def test_path_that_is_not_utf8_matches_no_public_rule(stackauth: LocalStackAuth) -> None:
    """Django escapes such bytes as ``%FF`` before the middleware sees the path; a client can send that text itself."""
    with installed():
        application = get_wsgi_application()
        assert ask_wsgi(application, Ask("/public/%ff")).status == 401
        assert ask_wsgi(application, Ask("/public/%25FF")).status == 401
        assert ask_wsgi(application, Ask("/public/%c3%a9")).status == 404


# -- settings -----------------------------------------------------------------------------------------


def test_config_is_created_once() -> None:
    """For every handler and test client of the process; a setting that is overridden makes another."""
    with installed():
        config = stack_auth_config()
        assert stack_auth_config() is config
        assert (config.project_id, list(config.rules)) == (PROJECT, RULES)
        with override_settings(STACK_AUTH={"project_id": PROJECT}):
            assert stack_auth_config() is not config


def test_config_object_is_used_unchanged() -> None:
    """An ASGI middleware for WebSockets can share it."""
    config = StackAuthConfig(project_id=PROJECT)
    with override_settings(STACK_AUTH=config):
        assert stack_auth_config() is config


def test_without_settings_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_PROJECT_ID", PROJECT)
    assert stack_auth_config().project_id == PROJECT
    assert stack_auth_config() is stack_auth_config()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "STACK_AUTH is list"),
        ({"PROJECT_ID": PROJECT, "RULEZ": []}, "unknown setting 'rulez'"),
        ({"PROJECT_ID": PROJECT, "project_id": PROJECT}, "STACK_AUTH has a setting twice"),
        ({"PROJECT_ID": "nonsense"}, "project_id"),
    ],
)
@pytest.mark.parametrize("application", [get_wsgi_application, get_asgi_application])
def test_wrong_settings_cannot_start(given: Any, message: str, application: Any) -> None:
    with installed(), override_settings(STACK_AUTH=given), pytest.raises(ConfigError, match=message):
        application()


def test_middleware_is_sync_and_async_capable() -> None:
    """As Django requires; an instance is a coroutine function if the rest of the chain is one."""
    from asgiref.sync import iscoroutinefunction

    def sync(request: HttpRequest) -> HttpResponse:
        raise NotImplementedError

    async def asynchronous(request: HttpRequest) -> HttpResponse:
        raise NotImplementedError

    assert StackAuthMiddleware.sync_capable
    assert StackAuthMiddleware.async_capable
    with installed():
        assert not iscoroutinefunction(StackAuthMiddleware(sync))
        assert iscoroutinefunction(StackAuthMiddleware(asynchronous))
