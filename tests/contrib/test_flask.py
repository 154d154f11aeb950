"""Flask: the decorator, the error handlers, and all that an app of its users may do, behind the middleware."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import flask_cors
import pytest
from flask import Flask, request, stream_with_context
from flask.testing import FlaskClient
from flask.views import MethodView
from werkzeug.exceptions import HTTPException, Unauthorized

from stackauth_middleware import (
    AuthServerError,
    ConfigError,
    RefusedError,
    StackAuthWSGIMiddleware,
    User,
    get_user,
    load_profile,
    require_user,
)
from stackauth_middleware.contrib.flask import refuse, require_auth
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE, ORIGIN, Answer, Case, seen
from .examples import example
from .processes import asking, check_example, example_served, served_stackauth
from .serving import client


class OutOfStock(Exception):
    """An exception of the app's own."""


def answered(response: Any) -> Answer:
    return cases.answer(response.status_code, list(response.headers), response.data)


class Site:
    """An app with a view of each kind, and what its views did."""

    def __init__(self, **settings: Any) -> None:
        self.ran: list[Any] = []
        self.threads: list[threading.Thread] = []
        self.app = app = Flask(__name__)
        app.testing = True
        app.wsgi_app = StackAuthWSGIMiddleware(app.wsgi_app, config=cases.config(**settings))  # type: ignore[method-assign]

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
        def item(user: User, name: str) -> list[str | None]:
            return [user.email, name]

        @app.get("/optional/hello")
        @app.get("/public/hello")
        def hello() -> list[str | None]:
            user = get_user(request)
            return [user.email if user else None]

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
        def stream(user: User) -> Any:
            def lines() -> Iterator[str]:
                for _ in range(3):
                    yield f"{user.email} {require_user(request).email}\n"

            return stream_with_context(lines())

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

        @app.errorhandler(OutOfStock)
        def sold_out(error: OutOfStock) -> tuple[dict[str, bool], int]:
            return {"sold_out": True}, 409


@pytest.fixture
def site(stackauth: LocalStackAuth) -> Site:
    return Site()


@pytest.fixture
def http(site: Site) -> FlaskClient:
    return site.app.test_client()


# -- the user arrives ---------------------------------------------------------------------------------


def test_a_view_is_passed_the_user_first(site: Site, http: FlaskClient, stackauth: LocalStackAuth) -> None:
    """And returning the user's fields tells no more than these: neither token nor claims."""
    answer = answered(http.get("/me", headers=stackauth.headers()))
    (user,) = site.ran
    assert (answer.status, answer.body) == (200, user.to_dict())
    assert (user.user_id, user.email) == (JANE["id"], JANE["email"])


def test_so_is_an_async_view(http: FlaskClient, stackauth: LocalStackAuth) -> None:
    assert http.get("/async", headers=stackauth.headers()).json == {**JANE, "profile": False}


def test_what_the_route_captures_comes_after_the_user(http: FlaskClient, stackauth: LocalStackAuth) -> None:
    assert http.get("/items/axe", headers=stackauth.headers()).json == [JANE["email"], "axe"]


def test_the_names_of_the_views_stay(site: Site) -> None:
    """Flask makes its endpoints of them."""
    assert {"me", "in_a_loop", "profile", "profile_in_a_loop"} <= set(site.app.view_functions)


@pytest.mark.parametrize("path", ["/public/hello", "/optional/hello"])
def test_nobody_is_none_where_nobody_need_be(path: str, http: FlaskClient) -> None:
    assert http.get(path).json == [None]


def test_an_optional_route_gets_the_user(http: FlaskClient, stackauth: LocalStackAuth) -> None:
    assert http.get("/optional/hello", headers=stackauth.headers()).json == [JANE["email"]]
    assert http.get("/optional/guarded", headers=stackauth.headers()).text == "guarded"


def test_a_public_route_looks_at_no_token(http: FlaskClient, stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    assert http.get("/public/hello", headers=headers).json == [None]
    assert stackauth.requests.count() == 0


@pytest.mark.parametrize("path", ["/optional/profile", "/optional/async/profile"])
def test_the_profile_comes_with_the_user(path: str, site: Site, http: FlaskClient, stackauth: LocalStackAuth) -> None:
    """And is what the account says, not the token."""
    stackauth.users.create(JANE["id"], primary_email="new@example.com", server_metadata={"plan": "pro"})
    assert http.get(path, headers=stackauth.headers()).status_code == 200
    (user,) = site.ran
    assert (user.email, user.profile.server_metadata) == ("new@example.com", {"plan": "pro"})
    assert stackauth.requests.count("users/me") == 1


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases.REFUSED)
def test_the_middleware_refuses(name: str, site: Site, http: FlaskClient, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(case.path, headers=headers)) == case.answer()
    assert site.ran == []


@pytest.mark.parametrize("folder", ["", "async/"])
@pytest.mark.parametrize("case", [*cases.REFUSED_INSIDE.values(), *cases.NO_PROFILE.values()])
def test_the_decorator_refuses(
    case: Case, folder: str, site: Site, http: FlaskClient, stackauth: LocalStackAuth
) -> None:
    """With what the middleware would have said, where the app has nothing to say itself."""
    kind, name = case.path.removeprefix("/").split("/")
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(f"/{kind}/{folder}{name}", headers=headers)) == case.answer()
    assert site.ran == []


def test_a_refusal_inside_goes_through_the_apps_own_handler(site: Site, stackauth: LocalStackAuth) -> None:
    """Which learns status, words, headers and row from it. The middleware's own refusals never come there."""

    @site.app.errorhandler(401)
    def own(error: Unauthorized) -> Any:
        assert isinstance(error.__cause__, RefusedError)
        told = {"oops": error.description, "row": error.__cause__.code.value}
        return told, error.code, {"WWW-Authenticate": error.get_response().headers["WWW-Authenticate"]}

    http = site.app.test_client()
    for path in ("/public/guarded", "/optional/async/guarded"):
        answer = answered(http.get(path))
        assert (answer.status, answer.body) == (401, {"oops": "Access token required", "row": "missing_token"})
        assert answer.headers["www-authenticate"] == 'Bearer realm="stack-auth"'
    assert answered(http.get("/me")) == cases.REFUSED["missing"].answer()


def test_a_handler_for_all_statuses_gets_them_too(site: Site, stackauth: LocalStackAuth) -> None:
    @site.app.errorhandler(HTTPException)
    def own(error: HTTPException) -> Any:
        return {"status": error.code}, error.code

    with stackauth.down(only="users/me"):
        answer = answered(site.app.test_client().get("/optional/profile", headers=stackauth.headers()))
    assert (answer.status, answer.body) == (503, {"status": 503})


@pytest.mark.parametrize("own", [False, True])
def test_refuse_answers_for_views_that_ask_themselves(own: bool, site: Site, stackauth: LocalStackAuth) -> None:
    """As the app says, or as the middleware would."""
    site.app.register_error_handler(RefusedError, refuse)
    site.app.register_error_handler(AuthServerError, refuse)
    if own:
        site.app.register_error_handler(401, lambda error: ({"oops": error.description}, 401))

    class Item(MethodView):
        def get(self) -> str:
            return require_user(request).user_id

        def post(self) -> str:
            return load_profile(request).id

    site.app.add_url_rule("/optional/item", view_func=Item.as_view("method_view"))
    http, headers = site.app.test_client(), stackauth.headers()
    assert http.get("/optional/item", headers=headers).text == JANE["id"]
    assert http.post("/optional/item", headers=headers).text == JANE["id"]
    answer = answered(http.get("/optional/item"))
    if own:
        assert (answer.status, answer.body) == (401, {"oops": "Access token required"})
    else:
        assert answer == cases.REFUSED["missing"].answer()
    stackauth.forget()
    with stackauth.down(only="users/me"):
        answer = answered(http.post("/optional/item", headers=headers))
    assert answer == cases.NO_PROFILE["unreachable"].answer()


def test_without_a_middleware_the_mistake_is_named(stackauth: LocalStackAuth) -> None:
    """It is no 401: nobody could ever be let in."""
    app = Flask(__name__)
    app.testing = True
    app.get("/")(require_auth(seen))
    with pytest.raises(ConfigError, match="no Stack Auth middleware saw this request"):
        app.test_client().get("/", headers=stackauth.headers())


@pytest.mark.parametrize("path", ["/optional/profile", "/optional/async/profile"])
def test_without_a_key_for_profiles_the_mistake_is_named(path: str, stackauth: LocalStackAuth) -> None:
    http = Site(secret_server_key="").app.test_client()
    with pytest.raises(ConfigError, match="secret_server_key"):
        http.get(path, headers=stackauth.headers())


# -- the rest of an app -------------------------------------------------------------------------------


def test_the_apps_own_exceptions_are_its_own(site: Site, http: FlaskClient, stackauth: LocalStackAuth) -> None:
    site.app.add_url_rule("/broken", view_func=require_auth(broken))
    headers = stackauth.headers()
    assert answered(http.get("/buy", headers=headers))[::2] == (409, {"sold_out": True})
    assert http.get("/nowhere", headers=headers).status_code == 404
    with pytest.raises(ZeroDivisionError):
        http.get("/broken", headers=headers)


def broken(user: User) -> str:
    raise ZeroDivisionError


def test_a_stream_knows_its_user(http: FlaskClient, stackauth: LocalStackAuth) -> None:
    response = http.get("/stream", headers=stackauth.headers())
    assert response.text.splitlines() == ["jane@example.com jane@example.com"] * 3


def test_a_stream_is_passed_on_as_it_is_made(site: Site, stackauth: LocalStackAuth) -> None:
    """Nothing is gathered on the way."""
    made = 0

    @site.app.get("/slow")
    def slow() -> Any:
        def chunks() -> Iterator[bytes]:
            nonlocal made
            for made in (1, 2):  # noqa: B007 - read outside
                yield b"x"

        return chunks()

    response = site.app.test_client().get("/slow", headers=stackauth.headers(), buffered=False)
    chunks = response.iter_encoded()
    assert (next(chunks), made) == (b"x", 1)
    response.close()


def test_background_work_knows_its_user(site: Site, http: FlaskClient, stackauth: LocalStackAuth) -> None:
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
    """The middleware's where `cors_origins` names the origin, for Flask-CORS sits inside; the decorator's by that."""
    site = Site(cors_origins=[ORIGIN] if named else [], pass_preflights=not named)
    flask_cors.CORS(site.app, origins=[ORIGIN], allow_headers=["x-stack-access-token"])
    http, origin = site.app.test_client(), {"origin": ORIGIN}
    refusal, inside = answered(http.get("/me", headers=origin)), answered(http.get("/public/guarded", headers=origin))
    assert (refusal.status, readable(refusal.headers)) == (401, named)
    assert (inside.status, readable(inside.headers), inside.body) == (401, True, refusal.body)
    if named:
        assert refusal.headers["vary"] == "Origin"
        assert refusal.headers["access-control-expose-headers"] == "WWW-Authenticate, Retry-After"
    allowed = http.get("/me", headers={**origin, **stackauth.headers()})
    assert (allowed.status_code, allowed.headers.getlist("access-control-allow-origin")) == (200, [ORIGIN])
    asking = {"access-control-request-method": "GET", "access-control-request-headers": "x-stack-access-token"}
    preflight = http.options("/me", headers={**origin, **asking})
    status = 204 if named else 200
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (status, ORIGIN)
    assert "x-stack-access-token" in preflight.headers["access-control-allow-headers"].lower()
    assert len(site.ran) == 1


# -- a real server, and the example -------------------------------------------------------------------


def test_the_example_with_the_test_client(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_SECRET_SERVER_KEY", "ssk_for_tests")
    http = example("contrib_flask.py", monkeypatch).app.test_client()
    check_example(asking(http), stackauth)


def test_the_example_with_gunicorn() -> None:
    with (
        served_stackauth() as stackauth,
        example_served("gunicorn", "contrib_flask:app", stackauth) as url,
        client(url) as http,
    ):
        check_example(asking(http), stackauth)
