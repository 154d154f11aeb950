"""Adapters: how requests are read, and that ASGI, WSGI, and WSGI below asgiref's bridge treat a request alike."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any

import pytest
from asgiref.wsgi import WsgiToAsgi
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from werkzeug.local import LocalProxy

from stackauth_middleware import Rule, StackAuthConfig, StackAuthWSGIMiddleware
from stackauth_middleware._adapters import (
    ERROR,
    HEADER_NAMES,
    OUTCOME,
    USER,
    accepts,
    is_async,
    publish,
    publish_in_scope,
    request_from_environ,
    request_from_headers,
    request_from_scope,
    shown,
)
from stackauth_middleware._core.credentials import MAX_HEADERS, UNSEARCHED
from stackauth_middleware._core.outcome import Outcome, Unauthenticated
from stackauth_middleware._core.paths import of_scope
from stackauth_middleware._core.users import GUEST, Permissions
from stackauth_middleware.errors import ConfigError, ErrorCode
from stackauth_middleware.testing import LocalStackAuth

from .drive import PROJECT, Seen, asgi, environ_of, http_scope, wsgi
from .fake_fastapi import FastAPI, fake_fastapi  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("isolated_environment", "newest_config")

CONFIG = StackAuthConfig(project_id=PROJECT)
bounded = settings(
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def through_bridge(headers: list[tuple[str, str]], path: str, config: StackAuthConfig) -> Seen:
    """Send a request through the WSGI middleware, mounted in an ASGI server with `WsgiToAsgi`."""
    seen = Seen()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.reached.append(environ)
        start_response("200 OK", [])
        return [b"app"]

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            seen.status = message["status"]
            seen.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        elif message["type"] == "http.response.body":
            seen.body += message.get("body", b"")

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = http_scope(
        path,
        [(name.encode(), value.encode("latin-1")) for name, value in headers],
        query_string=b"",
        http_version="1.1",
    )
    asyncio.run(WsgiToAsgi(StackAuthWSGIMiddleware(app, config))(scope, receive, send))
    return seen


def each_way(headers: list[tuple[str, str]], path: str = "/", config: StackAuthConfig = CONFIG) -> Seen:
    """Send a request through ASGI, WSGI and the bridge; return what they agree on."""
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    raw_path = path.encode("utf-8", "surrogatepass").decode("latin-1")
    first = asgi(http_scope(path, pairs), config=config)
    assert first.same() == wsgi(environ_of(raw_path, joined), config=config).same()
    assert first.same() == through_bridge(headers, path, config).same()
    return first


def wrapped(prefix: str, **members: Any) -> str:
    """Return the value of ``Authorization`` with a JSON object in base64, as the SDKs send it."""
    return f"Bearer {prefix}{base64.b64encode(json.dumps(members).encode()).decode()}"


MakeHeaders = Callable[[str], list[tuple[str, str]]]
GOOD: dict[str, MakeHeaders] = {
    "x-stack-access-token": lambda token: [("x-stack-access-token", token)],
    "x-hexclave-access-token": lambda token: [("x-hexclave-access-token", token)],
    "bearer": lambda token: [("authorization", f"Bearer {token}")],
    "bearer-lower": lambda token: [("authorization", f"bearer  {token}")],
    "bearer-stackauth": lambda token: [("authorization", wrapped("stackauth_", accessToken=token, refreshToken="r"))],
    "bearer-hexclave": lambda token: [("authorization", wrapped("hexclave_", accessToken=token, refreshToken=None))],
    "x-stack-auth": lambda token: [("x-stack-auth", json.dumps({"accessToken": token, "refreshToken": "r"}))],
    "x-hexclave-auth": lambda token: [("x-hexclave-auth", json.dumps({"accessToken": token}))],
    "first-decides": lambda token: [("x-stack-access-token", token), ("authorization", "Bearer a.b.c")],
    "empty-is-absent": lambda token: [
        ("x-stack-access-token", ""),
        ("x-stack-auth", json.dumps({"accessToken": token})),
    ],
    "beside-an-api-key": lambda token: [("authorization", "Bearer app-key"), ("x-stack-access-token", token)],
}
BAD: dict[str, tuple[MakeHeaders, int, str]] = {
    "none": (lambda token: [], 401, "missing_token"),
    "empty": (lambda token: [("x-stack-access-token", "")], 401, "missing_token"),
    "null-members": (lambda token: [("x-stack-auth", '{"accessToken":null}')], 401, "missing_token"),
    "signed-out": (lambda token: [("authorization", wrapped("stackauth_", accessToken=None))], 401, "missing_token"),
    "basic": (lambda token: [("authorization", "Basic YTpi")], 401, "missing_token"),
    "api-key": (lambda token: [("authorization", "Bearer sk_live_1")], 401, "missing_token"),
    "no-scheme": (lambda token: [("authorization", token)], 401, "missing_token"),
    "undefined": (lambda token: [("x-stack-access-token", "undefined")], 401, "invalid_token"),
    "null-text": (lambda token: [("x-hexclave-access-token", "null")], 401, "invalid_token"),
    "garbage": (lambda token: [("x-stack-access-token", "garbage")], 401, "invalid_token"),
    "padded": (lambda token: [("x-stack-access-token", token + "=")], 401, "invalid_token"),
    "undefined-member": (lambda token: [("x-stack-auth", '{"accessToken":"undefined"}')], 401, "invalid_token"),
    "bad-first": (
        lambda token: [("x-stack-access-token", "x"), ("authorization", f"Bearer {token}")],
        401,
        "invalid_token",
    ),
    "twice": (lambda token: [("x-stack-access-token", token)] * 2, 400, "invalid_request"),
    "both-brands": (
        lambda token: [("x-stack-access-token", token), ("x-hexclave-access-token", token)],
        400,
        "invalid_request",
    ),
    "bearer-twice": (lambda token: [("authorization", f"Bearer {token}")] * 2, 400, "invalid_request"),
    "not-json": (lambda token: [("x-stack-auth", token)], 400, "invalid_request"),
    "json-array": (lambda token: [("x-stack-auth", json.dumps([token]))], 400, "invalid_request"),
    "json-twice": (lambda token: [("x-stack-auth", json.dumps({"accessToken": token}))] * 2, 400, "invalid_request"),
    "json-tail": (lambda token: [("x-stack-auth", json.dumps({"accessToken": token}) + "x")], 400, "invalid_request"),
    "json-number": (lambda token: [("x-stack-auth", '{"accessToken":1}')], 400, "invalid_request"),
    "no-base64": (lambda token: [("authorization", "Bearer stackauth_!!!")], 400, "invalid_request"),
    "over-8-kib": (lambda token: [("x-stack-access-token", "a" * 8193)], 400, "invalid_request"),
    "malformed-is-not-skipped": (
        lambda token: [("x-stack-auth", "{"), ("authorization", f"Bearer {token}")],
        400,
        "invalid_request",
    ),
}  # fmt: skip


@pytest.mark.parametrize("headers_for", GOOD.values(), ids=list(GOOD))
def test_token_of_each_source_is_accepted(headers_for: MakeHeaders, stackauth: LocalStackAuth) -> None:
    seen = each_way(headers_for(stackauth.token(project_id=PROJECT)))
    assert (seen.status, seen.body) == (200, b"app")


@pytest.mark.parametrize(("headers_for", "status", "code"), BAD.values(), ids=list(BAD))
def test_missing_or_malformed_credential_is_refused_without_a_network_call(
    headers_for: MakeHeaders, status: int, code: str, stackauth: LocalStackAuth
) -> None:
    seen = each_way(headers_for(stackauth.token(project_id=PROJECT)))
    assert (seen.status, seen.code, seen.reached) == (status, code, [])
    assert stackauth.requests.count() == 0


printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)
names = st.sampled_from(
    ["x-stack-access-token", "x-hexclave-access-token", "authorization", "x-stack-auth", "x-hexclave-auth", "origin"]
)
values = (
    printable | printable.map(lambda text: f"Bearer {text}") | printable.map(lambda text: f"Bearer stackauth_{text}")
)


@given(st.lists(st.tuples(names, values), max_size=4))
@bounded
def test_arbitrary_bytes_in_any_header_are_refused(stackauth: LocalStackAuth, headers: list[tuple[str, str]]) -> None:
    """The app is never called."""
    seen = each_way(headers)
    assert (seen.status, seen.reached) in ((400, []), (401, []))


segment = st.sampled_from(["a", "b", "admin", "", ".", "..", "%2f", "%2e", "a\\b", "caf\xe9", "\u20ac", ";x", "A"])
paths = st.lists(segment, max_size=5).map(lambda segments: "/" + "/".join(segments)) | st.text(max_size=8)
patterns = st.sampled_from(["/a", "/a/*", "/a/**", "/admin/**", "/**", "/", "/caf\xe9", "/*/b", "/a/"])
rule = st.builds(Rule, patterns, st.sampled_from(["public", "optional", "required"]))


@given(paths, st.lists(rule, max_size=4))
@bounded
def test_arbitrary_path_with_arbitrary_rules_is_treated_alike(
    stackauth: LocalStackAuth, path: str, rules: list[Rule]
) -> None:
    """ASGI and WSGI only: the bridge itself rejects some of these paths."""
    if any(0xD800 <= ord(character) < 0xE000 for character in path):
        return
    try:
        config = StackAuthConfig(project_id=PROJECT, rules=rules)
    except ConfigError:  # a rule that an earlier one hides
        reject()
    raw_path = path.encode("utf-8").decode("latin-1")
    assert asgi(http_scope(path), config=config).same() == wsgi(environ_of(raw_path), config=config).same()


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers]


PREFLIGHT = {"origin": "https://app.example", "access-control-request-method": "GET"}


@pytest.mark.parametrize(
    "options", [{"pass_preflights": True}, {"cors_origins": ["*"]}, {"private_responses": True}], ids=str
)
def test_preflight_on_a_public_route_is_unchanged(options: dict[str, Any], stackauth: LocalStackAuth) -> None:
    options["rules"] = [Rule("/public", "public")]
    scope = http_scope("/public", encoded(PREFLIGHT.items()), method="OPTIONS")
    environ = environ_of("/public", PREFLIGHT, REQUEST_METHOD="OPTIONS")
    ways = asgi(scope, **options), wsgi(environ, **options)
    assert [(seen.status, seen.headers, seen.body) for seen in ways] == [(200, {}, b"app")] * 2


def test_preflight_of_an_allowed_origin_is_answered_without_the_app(stackauth: LocalStackAuth) -> None:
    headers = {**PREFLIGHT, "access-control-request-headers": "x-stack-access-token"}
    first = asgi(http_scope("/", encoded(headers.items()), method="OPTIONS"), cors_origins=["*"])
    second = wsgi(environ_of("/", headers, REQUEST_METHOD="OPTIONS"), cors_origins=["*"])
    assert first.same() == second.same()
    assert (first.status, first.body, first.reached) == (204, b"", [])
    assert first.headers["access-control-allow-headers"] == "x-stack-access-token"


def streamed(path: str, headers: dict[str, str], app_headers: list[tuple[str, str]], **options: Any) -> dict[str, str]:
    """Return the headers of a streamed response, the same through both middlewares."""

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": encoded(app_headers)})
        for more in (True, True, False):
            await send({"type": "http.response.body", "body": b"x", "more_body": more})

    def wsgi_app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", app_headers)
        yield from (b"x", b"x", b"x")

    options["rules"] = [Rule("/public", "public"), Rule("/optional", "optional")]
    options["private_responses"] = True
    first = asgi(http_scope(path, encoded(headers.items())), asgi_app, **options)
    assert first.same() == wsgi(environ_of(path, headers), wsgi_app, **options).same()
    assert (first.status, first.body) == (200, b"xxx")
    return first.headers


@pytest.mark.parametrize("authenticated", [True, False])
def test_response_on_an_optional_route_is_private(authenticated: bool, stackauth: LocalStackAuth) -> None:
    """A response to an unauthenticated request as well: a cache must not send it to a user."""
    found = streamed("/optional", stackauth.headers(project_id=PROJECT) if authenticated else {}, [])
    assert found["cache-control"] == "private"
    assert "Authorization" in found["vary"]


def test_response_on_a_public_route_is_not_made_private(stackauth: LocalStackAuth) -> None:
    headers = [("Cache-Control", "max-age=60"), ("X", "1")]
    found = streamed("/public", stackauth.headers(project_id=PROJECT), headers)
    assert found == {"cache-control": "max-age=60", "x": "1"}


def test_cache_control_of_the_app_is_kept(stackauth: LocalStackAuth) -> None:
    headers = [("Vary", "Accept"), ("Cache-Control", "public, s-maxage=60"), ("X", "1")]
    token = stackauth.headers(project_id=PROJECT)
    assert streamed("/", token, headers, token_sources=["x-stack-access-token"]) == {
        "vary": "Accept, X-Stack-Access-Token, X-Hexclave-Access-Token",
        "cache-control": "public, s-maxage=60",
        "x": "1",
    }


# -- reading requests ---------------------------------------------------------------------------------


def test_only_credential_and_cors_headers_are_read() -> None:
    assert {
        "x-stack-access-token",
        "x-hexclave-access-token",
        "x-stack-auth",
        "x-hexclave-auth",
        "authorization",
        "origin",
        "access-control-request-method",
        "access-control-request-headers",
        "x-stack-api-key",
        "x-hexclave-api-key",
        "x-api-key",
    } == HEADER_NAMES


@pytest.mark.parametrize(
    ("name", "status"),
    [
        (b"x-stack-access-token", 200),
        (b"x-hexclave-access-token", 200),
        (b"x_stack_access_token", 401),
        (b"X-Stack-Access-Token", 401),
        (b"x-stack-access-token ", 401),
    ],
)
def test_header_name_must_match_exactly(name: bytes, status: int, stackauth: LocalStackAuth) -> None:
    """E5; ASGI has header names in lower case."""
    token = stackauth.token(project_id=PROJECT).encode()
    assert asgi(http_scope(headers=[(name, token)])).status == status


def test_repeated_credential_is_malformed(stackauth: LocalStackAuth) -> None:
    """E1, equal or not."""
    header = (b"x-stack-access-token", stackauth.token(project_id=PROJECT).encode())
    seen = asgi(http_scope(headers=[header] * 2))
    assert (seen.status, seen.code) == (400, "invalid_request")
    assert seen.headers["www-authenticate"] == 'Bearer realm="stack-auth", error="invalid_request"'


def test_headers_that_can_be_read_once_reach_the_app(stackauth: LocalStackAuth) -> None:
    scope = http_scope()
    scope["headers"] = iter(
        [(b"x-stack-access-token", stackauth.token(project_id=PROJECT).encode()), (b"x-other", b"1")]
    )
    seen = asgi(scope)
    assert seen.status == 200
    assert (b"x-other", b"1") in list(seen.reached[0]["headers"])


@pytest.mark.parametrize("outer", [list, tuple, iter])
def test_header_pairs_that_can_be_read_once_reach_the_app(outer: Any) -> None:
    scope = http_scope()
    scope["headers"] = outer([iter((b"authorization", b"a")), (b"x", b"1")])
    assert request_from_scope(scope, "", "").headers == {"authorization": "a"}
    assert [tuple(pair) for pair in scope["headers"]] == [(b"authorization", b"a"), (b"x", b"1")]


def test_headers_that_can_be_read_again_are_not_copied() -> None:
    headers = [[b"authorization", b"a"], (b"x", b"1")]
    scope = http_scope() | {"headers": headers}
    request_from_scope(scope, "", "")
    assert scope["headers"] is headers


@pytest.mark.parametrize(
    ("app", "counts"),
    [
        (lambda a, b: None, {2}),
        (lambda *a: None, {1, 2, 3}),
        (wraps(lambda request: None)(lambda a, b: None), {2}),
        (partial(lambda a, b, c: None, 1), {2}),
        (LocalProxy(ContextVar("app")), {1, 2, 3}),
        (type, {1, 2, 3}),
        (lambda a, *, b: None, set()),
        (None, set()),
        ("app", set()),
    ],
    ids=["function", "any-arguments", "wrapped", "partial", "unbound-proxy", "no-signature", "keyword", "None", "text"],
)
def test_app_accepts_arguments_by_its_own_signature(app: Any, counts: set[int]) -> None:
    assert {count for count in (1, 2, 3) if accepts(app, count)} == counts


class AsyncApp:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("app", "expected"),
    [(AsyncApp().__call__, True), (AsyncApp(), True), (AsyncApp, False), (len, False), (5, False)],
    ids=["function", "instance", "class", "builtin", "number"],
)
def test_app_is_async_where_its_call_is_a_coroutine(app: Any, expected: bool) -> None:
    assert is_async(app) is expected


def test_proxy_without_an_object_is_not_async(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_app: object) -> bool:
        raise RuntimeError

    monkeypatch.setattr(inspect, "iscoroutinefunction", fail)
    assert not is_async(LocalProxy(ContextVar("app")))


@pytest.mark.parametrize(
    "scope",
    [
        {"headers": 5},
        {"headers": [(b"authorization", "text")]},
        {"headers": [(b"authorization",)]},
        {"headers": [([], b"")]},
        {"method": 1},
        {"path": b"/"},
        {"root_path": 3},
    ],
    ids=str,
)
def test_invalid_scope_raises(scope: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        request_from_scope(http_scope() | scope, "", "")


def test_scope_with_too_many_headers_is_not_searched() -> None:
    """A client must not make a request slow with headers."""
    record = request_from_scope(http_scope(headers=[(b"x", b"")] * (MAX_HEADERS + 1)), "", "")
    assert record.headers == UNSEARCHED


def test_websocket_subprotocols_are_read_as_a_header() -> None:
    record = request_from_scope({"type": "websocket", "path": "/", "subprotocols": ["a", "b"]}, "", "")
    assert (record.method, record.websocket) == ("WEBSOCKET", True)
    assert record.headers == {"sec-websocket-protocol": "a,b"}


AT_A = FastAPI()
AT_A.root_path = "/a"
part = st.sampled_from(["/a", "/b", "%61", "%2F", "?b", "\xe9", "a", "/", ""])
root = st.sampled_from(["", "", "/a", "/b", "/a/b"])
scopes = st.fixed_dictionaries(
    {"path": st.lists(part, max_size=3).map("".join)},
    optional={
        "root_path": root,
        "raw_path": st.lists(part, max_size=3).map(lambda parts: "".join(parts).encode()),
        "app": st.sampled_from([FastAPI(), AT_A, object()]),
        "app_root_path": root,
        "litestar_app": st.none(),
    },
)


@given(scopes, st.booleans(), st.sampled_from(["", "/a", "scope"]), st.sampled_from(["", "", "/a"]))
@settings(bounded, max_examples=600)
def test_path_of_a_scope_is_what_of_scope_finds(scope: dict[str, Any], same: bool, setting: str, stated: str) -> None:
    """Also where it is not asked, since nothing is special about the scope."""
    scope = {**scope, "raw_path": scope["path"].encode()} if same else scope
    record = request_from_scope({"type": "http", **scope}, setting, stated)
    assert (record.path, record.root_path) == of_scope(scope, setting, stated)


def test_scope_in_place_of_an_app_is_described_and_not_shown() -> None:
    assert shown(http_scope(headers=[(b"x-stack-auth", b"canary")])).startswith("a scope or environ")
    assert shown(len) == repr(len)


@pytest.mark.parametrize(
    "environ",
    [{"PATH_INFO": 5}, {"REQUEST_METHOD": b"GET"}, {"HTTP_AUTHORIZATION": 7}, {"HTTP_X_STACK_AUTH": b"{}"}],
    ids=str,
)
def test_invalid_environ_raises(environ: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        request_from_environ(environ_of() | environ, "")


def test_path_that_is_its_raw_path_is_taken_as_it_is() -> None:
    made = request_from_scope({"type": "http", "path": "/a", "raw_path": b"/a", "headers": []}, "", "")
    assert (made.path, made.root_path) == ("/a", "")


def test_environ_without_anything_is_a_get_of_the_root() -> None:
    record = request_from_environ({}, "")
    assert (record.method, record.path, record.headers) == ("GET", "/", {})


def test_path_of_an_environ_is_decoded_as_utf_8() -> None:
    assert request_from_environ(environ_of("/caf\xc3\xa9"), "").path == "/caf\xe9"
    assert request_from_environ(environ_of("/caf\xe9"), "").path == "/caf\ufffd"


def test_repeated_header_is_read_as_its_first_value_and_a_comma() -> None:
    """The comma makes a credential malformed, whichever value would have won in an app."""
    pairs = [(b"X-Token", b"a"), (b"x-token", b"b"), (b"X-TOKEN", b"c")]
    assert request_from_headers(pairs).headers == {"x-token": "a,"}
    assert request_from_headers([("origin", "a"), ("Origin", "a")]).headers == {"origin": "a,"}
    repeated = [(b"origin", b"a"), (b"origin", b"a"), (b"origin", b"b")]
    assert request_from_scope(http_scope(headers=repeated), "", "").headers == {"origin": "a,"}


def test_repeated_sec_websocket_protocol_is_joined() -> None:
    """RFC 6455 section 11.3.4: the header may be repeated, as a list."""
    pairs = [("Sec-WebSocket-Protocol", "a"), ("sec-websocket-protocol", "b")]
    assert request_from_headers(pairs).headers == {"sec-websocket-protocol": "a,b"}


def test_publish_writes_user_error_code_and_outcome() -> None:
    outcome = Unauthenticated(CONFIG, request_from_headers({}), ErrorCode.SERVER_ERROR, 3)
    mapping: dict[str, Any] = {USER: "preset"}
    publish(mapping, outcome)
    assert mapping == {USER: None, ERROR: ErrorCode.SERVER_ERROR, OUTCOME: outcome}


NO_USER: dict[str, Any] = {USER: None, ERROR: None}
AS_STARLETTE = {"user": GUEST, "auth": Permissions([])}


@pytest.mark.parametrize(
    ("scope", "settings", "written"),
    [
        ({}, {}, {"state": {"user": None}}),
        ({"state": {"db": 1}}, {}, {"state": {"db": 1, "user": None}}),
        ({"state": {"user": "another user"}}, {}, {"state": {"user": None}}),
        ({"state": "no mapping"}, {}, {"state": "no mapping"}),
        ({}, {"state_key": None}, {}),
        ({}, {"state_key": "me", "request_user": True}, {"state": {"me": None}, **AS_STARLETTE}),
    ],
    ids=["new", "kept", "overwritten", "no mapping", "no key", "other key and request.user"],
)
def test_publish_in_scope_also_fills_the_state(
    scope: dict[str, Any], settings: dict[str, Any], written: dict[str, Any]
) -> None:
    outcome = Outcome(StackAuthConfig(project_id=PROJECT, **settings))
    publish_in_scope(scope, outcome)
    assert scope == {**NO_USER, OUTCOME: outcome, **written}
