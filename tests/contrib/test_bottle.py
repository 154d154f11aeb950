"""Bottle: the decorator, the error handlers, and all that an app of its users may do, behind the middleware.

Bottle has no test client of its own; httpx asks WSGI apps.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import bottle
import httpx
import pytest
from bottle import Bottle, request

from stackauth_middleware import (
    ConfigError,
    RefusedError,
    StackAuthWSGIMiddleware,
    User,
    get_user,
    load_profile,
    require_user,
)
from stackauth_middleware.contrib.bottle import require_auth
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE, ORIGIN, Case, answered, seen
from .examples import example
from .processes import asking, check_example, example_served, served_stackauth
from .serving import client


class OutOfStock(Exception):
    """An exception of the app's own."""


class Site:
    """An app with a callback of each kind, and what its callbacks did."""

    def __init__(self, **settings: Any) -> None:
        self.ran: list[Any] = []
        self.threads: list[threading.Thread] = []
        self.app = app = Bottle()
        app.config["catchall"] = False
        self.application = StackAuthWSGIMiddleware(app, config=cases.config(**settings))

        @app.get("/me")
        @app.get("/admin")
        @require_auth
        def me(user: User) -> dict[str, Any]:
            self.ran.append(user)
            return user.to_dict()

        @app.get("/async")
        @require_auth
        async def in_a_loop(user: User) -> dict[str, Any]:
            self.ran.append(user)
            return seen(user)

        @app.get("/items/<name>")
        @require_auth
        def item(user: User, name: str) -> dict[str, str | None]:
            return {"email": user.email, "name": name}

        @app.get("/optional/hello")
        @app.get("/public/hello")
        def hello() -> dict[str, str | None]:
            user = get_user(request)
            return {"email": user.email if user else None}

        @app.get("/optional/guarded")
        @app.get("/public/guarded")
        @require_auth
        def guarded(user: User) -> str:
            self.ran.append(user)
            return "guarded"

        @app.get("/optional/async/guarded")
        @app.get("/public/async/guarded")
        @require_auth
        async def guarded_in_a_loop(user: User) -> str:
            self.ran.append(user)
            return "guarded"

        @app.get("/optional/profile")
        @require_auth(profile=True)
        def profile(user: User) -> dict[str, Any]:
            self.ran.append(user)
            return user.to_dict()

        @app.get("/optional/async/profile")
        @require_auth(profile=True)
        async def profile_in_a_loop(user: User) -> dict[str, Any]:
            self.ran.append(user)
            return user.to_dict()

        @app.get("/stream")
        @require_auth
        def stream(user: User) -> Iterator[str]:
            for _ in range(3):
                yield f"{user.email} {require_user(request).email}\n"

        @app.post("/later")
        @require_auth
        def later(user: User) -> str:
            environ = request.environ

            def task() -> None:
                self.ran.append((user.email, load_profile(environ).id))

            self.threads.append(threading.Thread(target=task))
            return "accepted"

        @app.get("/buy")
        @require_auth
        def buy(user: User) -> str:
            raise OutOfStock

        @app.get("/gone")
        @require_auth
        def gone(user: User) -> str:
            raise bottle.HTTPError(410, "No longer here")

        @app.error(410)
        def told(error: bottle.HTTPError) -> str:
            return json.dumps({"gone": error.body})

    def client(self) -> httpx.Client:
        return httpx.Client(transport=httpx.WSGITransport(app=self.application), base_url="http://testserver")


@pytest.fixture
def site(stackauth: LocalStackAuth) -> Site:
    return Site()


@pytest.fixture
def http(site: Site) -> Iterator[httpx.Client]:
    with site.client() as client:
        yield client


# -- the user arrives ---------------------------------------------------------------------------------


def test_a_callback_is_passed_the_user_first(site: Site, http: httpx.Client, stackauth: LocalStackAuth) -> None:
    """And returning the user's fields tells no more than these: neither token nor claims."""
    answer = answered(http.get("/me", headers=stackauth.headers()))
    (user,) = site.ran
    assert (answer.status, answer.body) == (200, user.to_dict())
    assert (user.user_id, user.email) == (JANE["id"], JANE["email"])


def test_so_is_an_async_one(http: httpx.Client, stackauth: LocalStackAuth) -> None:
    """Which Bottle could not call."""
    assert http.get("/async", headers=stackauth.headers()).json() == {**JANE, "profile": False}


def test_what_the_route_captures_comes_after_the_user(http: httpx.Client, stackauth: LocalStackAuth) -> None:
    body = http.get("/items/axe", headers=stackauth.headers()).json()
    assert body == {"email": JANE["email"], "name": "axe"}


@pytest.mark.parametrize("path", ["/public/hello", "/optional/hello"])
def test_nobody_is_none_where_nobody_need_be(path: str, http: httpx.Client) -> None:
    assert http.get(path).json() == {"email": None}


def test_an_optional_route_gets_the_user(http: httpx.Client, stackauth: LocalStackAuth) -> None:
    assert http.get("/optional/hello", headers=stackauth.headers()).json() == {"email": JANE["email"]}
    assert http.get("/optional/guarded", headers=stackauth.headers()).text == "guarded"


def test_a_public_route_looks_at_no_token(http: httpx.Client, stackauth: LocalStackAuth) -> None:
    assert http.get("/public/hello", headers=stackauth.headers()).json() == {"email": None}
    assert stackauth.requests.count() == 0


@pytest.mark.parametrize("path", ["/optional/profile", "/optional/async/profile"])
def test_the_profile_comes_with_the_user(path: str, site: Site, http: httpx.Client, stackauth: LocalStackAuth) -> None:
    """And is what the account says, not the token."""
    stackauth.users.create(JANE["id"], primary_email="new@example.com", server_metadata={"plan": "pro"})
    assert http.get(path, headers=stackauth.headers()).status_code == 200
    (user,) = site.ran
    assert (user.email, user.profile.server_metadata) == ("new@example.com", {"plan": "pro"})
    assert stackauth.requests.count("users/me") == 1


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases.REFUSED)
def test_the_middleware_refuses(name: str, site: Site, http: httpx.Client, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(case.path, headers=headers)) == case.answer()
    assert site.ran == []


@pytest.mark.parametrize("folder", ["", "async/"])
@pytest.mark.parametrize("case", [*cases.REFUSED_INSIDE.values(), *cases.NO_PROFILE.values()])
def test_the_decorator_refuses(
    case: Case, folder: str, site: Site, http: httpx.Client, stackauth: LocalStackAuth
) -> None:
    """With what the middleware would have said, where the app has nothing to say itself."""
    kind, name = case.path.removeprefix("/").split("/")
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(f"/{kind}/{folder}{name}", headers=headers)) == case.answer()
    assert site.ran == []


def test_a_refusal_inside_goes_through_the_apps_own_handler(site: Site, stackauth: LocalStackAuth) -> None:
    """Which learns words and row from it, and has the headers sent. The middleware's own refusals never come there."""

    @site.app.error(401)
    def own(error: bottle.HTTPError) -> str:
        assert isinstance(error.exception, RefusedError)
        bottle.response.content_type = "application/json"
        return json.dumps({"oops": error.body, "row": error.exception.code.value})

    with site.client() as http:
        for path in ("/public/guarded", "/optional/async/guarded"):
            answer = answered(http.get(path))
            assert (answer.status, answer.body) == (401, {"oops": "Access token required", "row": "missing_token"})
            assert answer.headers["www-authenticate"] == 'Bearer realm="stack-auth"'
        assert answered(http.get("/me")) == cases.REFUSED["missing"].answer()


def test_without_a_middleware_the_mistake_is_named(stackauth: LocalStackAuth) -> None:
    """It is no 401: nobody could ever be let in."""
    app = Bottle()
    app.config["catchall"] = False
    app.get("/")(require_auth(seen))
    with (
        httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://testserver") as http,
        pytest.raises(ConfigError, match="no Stack Auth middleware saw this request"),
    ):
        http.get("/", headers=stackauth.headers())


def test_without_a_key_for_profiles_the_mistake_is_named(stackauth: LocalStackAuth) -> None:
    with Site(secret_server_key="").client() as http, pytest.raises(ConfigError, match="secret_server_key"):
        http.get("/optional/profile", headers=stackauth.headers())


# -- the rest of an app -------------------------------------------------------------------------------


def test_the_apps_own_exceptions_are_its_own(site: Site, http: httpx.Client, stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    with pytest.raises(OutOfStock):
        http.get("/buy", headers=headers)
    assert answered(http.get("/gone", headers=headers))[::2] == (410, {"gone": "No longer here"})
    assert http.get("/nowhere", headers=headers).status_code == 404


def test_a_stream_knows_its_user(http: httpx.Client, stackauth: LocalStackAuth) -> None:
    response = http.get("/stream", headers=stackauth.headers())
    assert response.text.splitlines() == ["jane@example.com jane@example.com"] * 3


def test_background_work_knows_its_user(site: Site, http: httpx.Client, stackauth: LocalStackAuth) -> None:
    """And can ask for the profile once the answer is gone, by the environ."""
    assert http.post("/later", headers=stackauth.headers()).text == "accepted"
    (thread,) = site.threads
    thread.start()
    thread.join()
    assert site.ran == [(JANE["email"], JANE["id"])]


def readable(headers: dict[str, str]) -> bool:
    """Say whether a browser shows an answer to a page from `ORIGIN`: the CORS check of the Fetch standard."""
    return headers.get("access-control-allow-origin") in ("*", ORIGIN)


@pytest.mark.parametrize("named", [True, False])
def test_a_browser_elsewhere_can_read_a_refusal(named: bool, stackauth: LocalStackAuth) -> None:
    """The middleware's where `cors_origins` names the origin; the decorator's by the app's own hook.

    Bottle has no CORS tool but its hooks.
    """
    site = Site(cors_origins=[ORIGIN] if named else [], pass_preflights=not named)

    @site.app.hook("after_request")
    def cors() -> None:
        bottle.response.headers["Access-Control-Allow-Origin"] = ORIGIN
        bottle.response.headers["Access-Control-Allow-Headers"] = "x-stack-access-token"

    site.app.route("/me", "OPTIONS", lambda: "")
    origin = {"origin": ORIGIN}
    with site.client() as http:
        refusal = answered(http.get("/me", headers=origin))
        inside = answered(http.get("/public/guarded", headers=origin))
        assert (refusal.status, readable(refusal.headers)) == (401, named)
        assert (inside.status, readable(inside.headers), inside.body) == (401, True, refusal.body)
        if named:
            assert refusal.headers["vary"] == "Origin"
            assert refusal.headers["access-control-expose-headers"] == "WWW-Authenticate, Retry-After"
        allowed = http.get("/me", headers={**origin, **stackauth.headers()})
        assert (allowed.status_code, allowed.headers.get_list("access-control-allow-origin")) == (200, [ORIGIN])
        asking = {"access-control-request-method": "GET", "access-control-request-headers": "x-stack-access-token"}
        preflight = http.options("/me", headers={**origin, **asking})
        status = 204 if named else 200
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (status, ORIGIN)
        assert preflight.headers["access-control-allow-headers"] == "x-stack-access-token"
    assert len(site.ran) == 1


# -- a real server, and the example -------------------------------------------------------------------


def test_the_example_in_process(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_SECRET_SERVER_KEY", "ssk_for_tests")
    application = example("contrib_bottle.py", monkeypatch).application
    with httpx.Client(transport=httpx.WSGITransport(app=application), base_url="http://testserver") as http:
        check_example(asking(http), stackauth)


def test_the_example_with_gunicorn() -> None:
    with (
        served_stackauth() as stackauth,
        example_served("gunicorn", "contrib_bottle:application", stackauth) as url,
        client(url) as http,
    ):
        check_example(asking(http), stackauth)
