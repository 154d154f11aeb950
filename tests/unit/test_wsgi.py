"""WSGI middleware: environ, responses, preflights, private responses, and conformance to PEP 3333."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from werkzeug.local import LocalProxy
from werkzeug.wrappers import Request, Response

from stackauth_middleware import (
    ConfigError,
    ErrorCode,
    Rule,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    UserType,
    get_user,
    require_user,
)
from stackauth_middleware._core.outcome import Unauthenticated
from stackauth_middleware.testing import LocalStackAuth

from .drive import PROJECT, environ_of, wsgi

pytestmark = pytest.mark.usefixtures("isolated_environment", "newest_config")


def test_user_is_written_into_the_environ(stackauth: LocalStackAuth) -> None:
    seen = wsgi(environ_of(headers=stackauth.headers(project_id=PROJECT)))
    assert (seen.status, seen.body) == (200, b"app")
    user = seen.reached[0]["stackauth.user"]
    assert user.user_type is UserType.NORMAL
    assert get_user(seen.reached[0]) is user
    assert require_user(seen.reached[0]) is user
    assert seen.reached[0]["stackauth.error"] is None
    assert seen.headers == {}, "nothing is added to the response of the app"


def test_unauthenticated_request_is_refused_without_a_network_call(stackauth: LocalStackAuth) -> None:
    seen = wsgi(environ_of())
    assert seen.reached == []
    assert seen.status == 401
    assert seen.body == b'{"error": "Access token required", "code": "missing_token"}'
    assert seen.headers == {
        "content-type": "application/json",
        "content-length": str(len(seen.body)),
        "cache-control": "no-store",
        "www-authenticate": 'Bearer realm="stack-auth"',
    }
    assert stackauth.requests.count() == 0


def test_restricted_user_is_refused_with_the_reason(stackauth: LocalStackAuth) -> None:
    seen = wsgi(environ_of(headers=stackauth.headers(user_type="restricted", project_id=PROJECT)))
    assert (seen.status, seen.code, seen.reached) == (403, "restricted_not_allowed", [])
    assert seen.headers["www-authenticate"] == 'Bearer realm="stack-auth", error="insufficient_scope"'
    assert b'"restricted_reason": "email_not_verified"' in seen.body


def test_outage_is_a_503_without_challenge(stackauth: LocalStackAuth) -> None:
    token = stackauth.headers(project_id=PROJECT)
    with stackauth.down(cold=True):
        seen = wsgi(environ_of(headers=token))
    assert (seen.status, seen.code, seen.reached) == (503, "auth_server_error", [])
    assert seen.headers["retry-after"] == "10"
    assert "www-authenticate" not in seen.headers


def test_iterable_of_the_app_is_returned_as_it_is(stackauth: LocalStackAuth) -> None:
    body: list[bytes] = [b"own"]
    app = StackAuthWSGIMiddleware(lambda environ, start_response: body, project_id=PROJECT, default_access="public")
    assert app(environ_of(), lambda *_: None) is body


def test_keys_set_by_an_outer_layer_are_overwritten(stackauth: LocalStackAuth) -> None:
    """E7: on public routes as well."""
    preset = {"stackauth.user": "root", "stackauth.error": "x", "stackauth.outcome": "y"}
    seen = wsgi(environ_of(**preset), default_access="public")
    *found, outcome = (seen.reached[0][name] for name in preset)
    assert found == [None, None]
    assert isinstance(outcome, Unauthenticated)


@pytest.mark.parametrize("access", ["required", "public"])
def test_validator_of_the_standard_library_finds_no_fault(access: Any, stackauth: LocalStackAuth) -> None:
    """PEP 3333, for refused requests and for requests that reach the app."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"app"]

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ["QUERY_STRING"] = ""
    checked = validator(StackAuthWSGIMiddleware(validator(app), project_id=PROJECT, default_access=access))
    statuses: list[str] = []
    chunks = checked(environ, lambda status, headers, exc_info=None: statuses.append(status) or (lambda data: None))
    try:
        body = b"".join(chunks)
    finally:
        chunks.close()
    assert statuses == ["401 Unauthorized" if access == "required" else "200 OK"]
    assert body == (b"app" if access == "public" else b'{"error": "Access token required", "code": "missing_token"}')


def test_refusal_of_head_has_no_body(stackauth: LocalStackAuth) -> None:
    seen = wsgi(environ_of(REQUEST_METHOD="HEAD"))
    assert (seen.status, seen.body) == (401, b"")
    assert seen.headers["content-length"] == str(len(b'{"error": "Access token required", "code": "missing_token"}'))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/open", 200),
        ("/open/", 401),
        ("//open", 401),
        ("", 401),
        ("/caf\xc3\xa9", 200),
        ("/caf\xe9", 401),
        ("/open/../x", 401),
        ("/\u20ac", 401),
    ],
)
def test_rules_match_the_path_decoded_as_utf_8(path: str, status: int, stackauth: LocalStackAuth) -> None:
    """PATH_INFO holds bytes as latin-1; a path that is not valid UTF-8 matches no rule."""
    seen = wsgi(environ_of(path), rules=[Rule("/open", "public"), Rule("/caf\xe9", "public")])
    assert seen.status == status


def test_empty_path_is_the_root(stackauth: LocalStackAuth) -> None:
    assert wsgi(environ_of(""), rules=[Rule("/", "public")]).status == 200


@pytest.mark.parametrize(
    ("setting", "script_name", "status"),
    [
        ("", "", 200),
        ("", "/api", 200),
        ("scope", "/api", 200),
        ("/api", "/api", 200),
        ("/api", "", 401),
        ("/api", "/b", 401),
    ],
)
def test_rules_match_path_info_if_script_name_is_the_root_path(
    stackauth: LocalStackAuth, setting: str, script_name: str, status: int
) -> None:
    rules = [Rule("/open", "public")]
    assert wsgi(environ_of("/open", SCRIPT_NAME=script_name), rules=rules, root_path=setting).status == status
    assert wsgi(environ_of("/api/open", SCRIPT_NAME=script_name), rules=rules, root_path=setting).status == 401


@pytest.mark.parametrize(
    "odd",
    [{"PATH_INFO": 5}, {"REQUEST_METHOD": b"GET"}, {"HTTP_AUTHORIZATION": 7}, {"HTTP_X_STACK_AUTH": b"{}"}],
    ids=str,
)
def test_invalid_environ_is_refused(odd: dict[str, Any], stackauth: LocalStackAuth) -> None:
    seen = wsgi(environ_of() | odd)
    assert (seen.status, seen.code, seen.reached) == (400, "invalid_request", [])


@pytest.mark.parametrize("method", ["WEBSOCKET", "WebSocket"])
def test_http_method_named_websocket_does_not_match_a_rule_for_websockets(
    stackauth: LocalStackAuth, method: str
) -> None:
    """Rules are often shared by both middlewares, and views of Django run for any method."""
    rules = [Rule("/feed", "public", methods=["WEBSOCKET"])]
    seen = wsgi(environ_of("/feed", REQUEST_METHOD=method), rules=rules)
    assert (seen.status, seen.code, seen.reached) == (401, "missing_token", [])
    assert wsgi(environ_of("/feed", REQUEST_METHOD=method), default_access="public").status == 200


def test_exception_of_the_app_propagates(stackauth: LocalStackAuth) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise LookupError("the app's own")

    with pytest.raises(LookupError, match="the app's own"):
        wsgi(environ_of(), app, default_access="public")


def test_environ_in_place_of_an_app_is_not_shown() -> None:
    with pytest.raises(ConfigError, match="app is a scope or environ, as if the class") as caught:
        StackAuthWSGIMiddleware({"HTTP_X_STACK_AUTH": "canary"}, project_id=PROJECT)  # type: ignore[arg-type]
    assert "canary" not in str(caught.value)


def test_asgi_app_is_a_config_error() -> None:
    async def asgi_app(scope: Any, receive: Any, send: Any) -> None: ...
    async def async_function(environ: Any, start_response: Any) -> None: ...

    class AsyncCallable:
        async def __call__(self, environ: Any, start_response: Any) -> None: ...

    for app in (asgi_app, async_function, AsyncCallable()):
        with pytest.raises(ConfigError, match="must be a WSGI app"):
            StackAuthWSGIMiddleware(app, project_id=PROJECT)
    assert StackAuthWSGIMiddleware(type, project_id=PROJECT).app is type, "callables without a signature are accepted"


@Request.application
def decorated(request: Request) -> Response:
    return Response("app")


class Decorated:
    @Request.application
    def __call__(self, request: Request) -> Response:
        return Response("app")

    @Request.application
    def method(self, request: Request) -> Response:
        return Response("app")


def plain_app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"app"]


@pytest.mark.parametrize(
    "app",
    [
        decorated,
        Decorated(),
        Decorated().method,
        wraps(get_user)(plain_app),
        partial(plain_app),
        LocalProxy(lambda: plain_app),
    ],
    ids=["werkzeug-function", "werkzeug-callable", "werkzeug-method", "wrapped", "partial", "proxy"],
)
def test_wsgi_app_of_any_form_is_accepted(app: Any, stackauth: LocalStackAuth) -> None:
    """`functools.wraps` gives an app the signature of a view."""
    chunks = StackAuthWSGIMiddleware(app, project_id=PROJECT, default_access="public")(environ_of(), lambda *_: None)
    assert b"".join(chunks) == b"app"


def test_proxy_without_an_app_yet_is_accepted() -> None:
    proxy: Any = LocalProxy(ContextVar("app"))
    StackAuthWSGIMiddleware(proxy, project_id=PROJECT)


def test_middleware_around_the_app_that_calls_it_is_a_config_error(stackauth: LocalStackAuth) -> None:
    """Each would call the other, up to a RecursionError."""

    class App:
        """Calls its `wsgi_app`, as Flask does."""

        wsgi_app: Any

        def __call__(self, environ: Any, start_response: Any) -> Any:
            return self.wsgi_app(environ, start_response)

    app = App()
    app.wsgi_app = StackAuthWSGIMiddleware(app, project_id=PROJECT)
    with pytest.raises(ConfigError, match=r"StackAuthWSGIMiddleware\(app\.wsgi_app\)"):
        app(environ_of(), lambda *_: None)


def test_middlewares_of_one_config_share_their_caches(stackauth: LocalStackAuth) -> None:
    config = StackAuthConfig(project_id=PROJECT)
    headers = stackauth.headers(project_id=PROJECT)
    for _ in range(3):
        assert wsgi(environ_of(headers=headers), config=config).status == 200
    assert stackauth.requests.count("jwks") == 1


def test_optional_route_in_an_outage_is_unauthenticated_with_an_error_code(stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers(project_id=PROJECT)
    with stackauth.down(cold=True):
        seen = wsgi(environ_of(headers=headers), default_access="optional")
    assert seen.status == 200
    assert seen.reached[0]["stackauth.user"] is None
    assert seen.reached[0]["stackauth.error"] is ErrorCode.SERVER_ERROR


# -- preflights ------------------------------------------------------------------------------------

RELAYED = [("Access-Control-Allow-Origin", "https://app.example"), ("Vary", "Origin")]
DROPPED = [("Content-Type", "text/plain"), ("Set-Cookie", "a=b"), ("Location", "/secret"), ("Content-Length", "6")]
RELAYED_HEADERS = {name.lower(): value for name, value in [*RELAYED, ("Content-Length", "0")]}


def preflight_environ() -> dict[str, Any]:
    headers = {"origin": "https://app.example", "access-control-request-method": "GET"}
    return environ_of("/secret", headers, REQUEST_METHOD="OPTIONS")


class Chunks:
    """The iterable of a WSGI app, which must be closed (PEP 3333)."""

    def __init__(self, start_response: Any, *, late: bool) -> None:
        self.start_response = start_response
        self.late = late
        self.taken = 0
        self.is_closed = False
        if not late:
            self.start()

    def start(self) -> None:
        write = self.start_response("202 Accepted", [*RELAYED, *DROPPED])
        write(b"secret")

    def __iter__(self) -> Iterator[bytes]:
        if self.late:
            self.start()
        while True:
            self.taken += 1
            yield b"secret"

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("late", [False, True], ids=["start_response-when-called", "start_response-with-first-chunk"])
def test_passed_preflight_relays_status_and_cors_headers_only(late: bool, stackauth: LocalStackAuth) -> None:
    """An endless body is neither read nor sent, and is closed."""
    made: list[Chunks] = []

    def app(environ: Any, start_response: Any) -> Chunks:
        assert environ["stackauth.user"] is None
        made.append(Chunks(start_response, late=late))
        return made[0]

    seen = wsgi(preflight_environ(), app, pass_preflights=True)
    assert (seen.status, seen.headers, seen.body) == (202, RELAYED_HEADERS, b"")
    assert made[0].is_closed
    assert made[0].taken == (1 if late else 0)


def test_passed_preflight_relays_the_error_that_replaces_a_response(stackauth: LocalStackAuth) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", RELAYED)
        start_response("500 Internal Server Error", DROPPED, (ValueError, ValueError("secret"), None))
        return [b"secret"]

    seen = wsgi(preflight_environ(), app, pass_preflights=True)
    assert (seen.status, seen.headers, seen.body) == (500, {"content-length": "0"}, b"")


def test_app_that_never_calls_start_response_for_a_preflight_is_an_error(stackauth: LocalStackAuth) -> None:
    guarded = StackAuthWSGIMiddleware(lambda environ, start_response: [], project_id=PROJECT, pass_preflights=True)
    with pytest.raises(RuntimeError, match="did not call start_response"):
        guarded(preflight_environ(), lambda *_: None)


# -- private responses -----------------------------------------------------------------------------


@pytest.mark.parametrize("private", [True, False])
def test_response_to_a_user_is_private_if_the_setting_says_so(private: bool, stackauth: LocalStackAuth) -> None:
    seen = wsgi(environ_of(headers=stackauth.headers(project_id=PROJECT)), private_responses=private)
    vary = "X-Stack-Access-Token, X-Hexclave-Access-Token, Authorization, X-Stack-Auth, X-Hexclave-Auth"
    assert seen.headers == ({"vary": vary, "cache-control": "private"} if private else {})


def test_refusal_is_never_stored(stackauth: LocalStackAuth) -> None:
    plain, private = (wsgi(environ_of(), private_responses=flag) for flag in (False, True))
    assert plain.same() == private.same()
    assert private.headers["cache-control"] == "no-store"
