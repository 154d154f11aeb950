"""Threats E1 to E14: one request has one outcome in both middlewares, however the transport changed it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from stackauth_middleware import (
    ErrorCode,
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    get_user,
)
from stackauth_middleware._core.outcome import Unauthenticated
from tests.unit.core.helpers import ANONYMOUS, PROJECT, RESTRICTED, SIGNERS, USER_ID, reply
from tests.unit.drive import Seen, asgi, environ_of, http_scope, wsgi

from .corpus import signed
from .issuer import CountingIssuer

NAME = "x-stack-access-token"
Headers = Iterable[tuple[str, str]]


def both(
    config: StackAuthConfig,
    headers: Headers = (),
    path: str = "/",
    method: str = "GET",
    *,
    same: bool = True,
    scope: dict[str, Any] | None = None,
    environ: dict[str, Any] | None = None,
) -> tuple[Seen, Seen]:
    """Send one request through both middlewares, as servers pass it; `path` is percent-decoded."""
    headers = list(headers)
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    data = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    raw = path.encode("utf-8", "surrogatepass").decode("latin-1")
    ways = (
        asgi(http_scope(path, data, **{"method": method, **(scope or {})}), config=config),
        wsgi(environ_of(raw, joined, **{"REQUEST_METHOD": method, **(environ or {})}), config=config),
    )
    if same:
        assert ways[0].same() == ways[1].same()
    return ways


def refused(config: StackAuthConfig, headers: Headers = (), path: str = "/", method: str = "GET") -> tuple[int, str]:
    seen, _ = both(config, headers, path, method)
    assert seen.reached == []
    return seen.status, seen.code


def users(ways: tuple[Seen, Seen]) -> list[str | None]:
    """Return the ids of the users that the apps saw."""
    assert [len(seen.reached) for seen in ways] == [1, 1]
    found = [seen.reached[0]["stackauth.user"] for seen in ways]
    return [user and user.user_id for user in found]


# -- headers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x-stack-access-token", "x-hexclave-access-token", "authorization", "x-stack-auth"])
def test_e1_a_repeated_header_is_refused(name: str, config: StackAuthConfig, issuer: CountingIssuer) -> None:
    """Equal or not, in any order: the user must not depend on which one a server picks."""

    def value(token: str) -> str:
        if name == "authorization":
            return f"Bearer {token}"
        return json.dumps({"accessToken": token}) if name == "x-stack-auth" else token

    one, other = signed(), signed(name="Mallory")
    for first, second in ((one, one), (one, other), (other, one), (one, "x"), ("x", one)):
        headers = [(name, value(first)), (name, value(second))]
        if name == "authorization" and first == "x":
            assert refused(config, headers) == (401, "missing_token")  # no JWT: the app's own key, left alone
        else:
            assert refused(config, headers) == (400, "invalid_request")
    assert issuer.calls == []


@pytest.mark.parametrize("tail", [",", ", ", ",,", ",x", ", a.b.c"])
def test_e2_token_with_a_comma_is_refused(tail: str, config: StackAuthConfig, issuer: CountingIssuer) -> None:
    """As WSGI servers join repeats, and as some ASGI servers do."""
    for headers in (
        [(NAME, signed() + tail)],
        [(NAME, tail + signed())],
        [("authorization", f"Bearer {signed()}{tail}")],
    ):
        assert refused(config, headers) == (400, "invalid_request")
    assert issuer.calls == []


BAD_FIRST = {
    "garbage": ([(NAME, "garbage")], (401, "invalid_token")),
    "undefined": ([(NAME, "undefined")], (401, "invalid_token")),
    "wrapped, no base64": ([("authorization", "Bearer stackauth_!")], (400, "invalid_request")),
    "wrapped garbage": ([("authorization", "Bearer stackauth_eyJhY2Nlc3NUb2tlbiI6IngifQ==")], (401, "invalid_token")),
    "json garbage": ([("x-stack-auth", '{"accessToken":"x"}')], (401, "invalid_token")),
    "no json": ([("x-stack-auth", "{")], (400, "invalid_request")),
}


@pytest.mark.parametrize("bad", BAD_FIRST)
def test_e3_later_token_source_is_not_read_after_a_bad_first(
    bad: str, config: StackAuthConfig, issuer: CountingIssuer
) -> None:
    headers, answer = BAD_FIRST[bad]
    good = [("x-stack-auth", json.dumps({"accessToken": signed()})), ("authorization", f"Bearer {signed()}")]
    behind = [pair for pair in good if pair[0] not in dict(headers)]
    if bad.startswith("json") or bad == "no json":
        behind = [pair for pair in behind if pair[0] == "authorization"]
    for order in (headers + behind, behind + headers):
        assert refused(config, order) == answer
    assert issuer.calls == []


@pytest.mark.parametrize("name", ["stack-access", "__Host-stack-access", "hexclave-access", "access_token"])
def test_e3_cookies_are_not_read(name: str, config: StackAuthConfig, issuer: CountingIssuer) -> None:
    """A valid one authenticates no request, and a bad one refuses none."""
    assert refused(config, [("cookie", f"{name}={signed()}")]) == (401, "missing_token")
    ways = both(config, [("cookie", f'{name}=["r","x"]'), (NAME, signed())])
    assert users(ways) == [USER_ID, USER_ID]


VALUES = {
    "one over the cap": ("a" * 8193, (400, "invalid_request")),
    "at the cap": ("a" * 8192, (401, "invalid_token")),
    "60 kB of dots": ("." * 60_000, (400, "invalid_request")),
    "latin-1": ("".join(map(chr, range(0x80, 0x100))), (401, "invalid_token")),
    "utf-8 data": ("\u00fc.\u20ac".encode().decode("latin-1"), (401, "invalid_token")),
    "folded": ("aaa\r\n bbb", (401, "invalid_token")),
    "NUL": ("a\0b", (401, "invalid_token")),
    "tab inside": ("a\tb", (401, "invalid_token")),
    "blanks alone": (" \t ", (401, "missing_token")),
    "nothing": ("", (401, "missing_token")),
    "form feed": ("\f", (401, "invalid_token")),
    "no-break space": ("\xa0", (401, "invalid_token")),
}


@pytest.mark.parametrize("value", VALUES)
def test_e4_value_that_is_not_a_token_is_refused(value: str, config: StackAuthConfig, issuer: CountingIssuer) -> None:
    text, answer = VALUES[value]
    assert refused(config, [(NAME, text)]) == answer
    for around in ("\f", "\xa0", "\0", "\r\n "):
        assert refused(config, [(NAME, signed() + around)]) == (401, "invalid_token")
    assert issuer.calls == []
    assert users(both(config, [(NAME, f" \t{signed()}\t ")])) == [USER_ID, USER_ID]


@pytest.mark.parametrize(
    "name",
    [
        "x_stack_access_token",
        "x-stack_access-token",
        "x_hexclave_access_token",
        "X-Stack-Access-Token",
        "x-stack-access-token ",
        "x-stack-access-token\0",
        "http-x-stack-access-token",
        "x-stack-access-token2",
    ],
)
def test_e5_only_the_exact_name_counts_under_asgi(name: str, config: StackAuthConfig, issuer: CountingIssuer) -> None:
    """It is ignored: alone the request has no token, and next to the real header it changes nothing."""
    seen = asgi(http_scope(headers=[(name.encode(), signed().encode())]), config=config)
    assert (seen.status, seen.code) == (401, "missing_token")
    pairs = [(name.encode(), b"garbage"), (NAME.encode(), signed().encode()), (name.encode(), b"garbage")]
    assert asgi(http_scope(headers=pairs), config=config).status == 200
    for other in ("authorization", "x-stack-auth"):
        odd = (other.replace("-", "_") if "-" in other else other.upper()).encode()
        assert asgi(http_scope(headers=[(odd, f"Bearer {signed()}".encode())]), config=config).code == "missing_token"


def test_e6_wsgi_cannot_tell_underscore_from_hyphen(config: StackAuthConfig, issuer: CountingIssuer) -> None:
    """Both spellings are one environ key; if a server joins them, the request is refused."""
    assert "X_Stack_Access_Token" in (StackAuthWSGIMiddleware.__doc__ or "")
    joined = {"HTTP_X_STACK_ACCESS_TOKEN": f"{signed()},{signed()}"}
    assert wsgi(environ_of(**joined), config=config).code == "invalid_request"


LOOK_ALIKE = ("remote-user", "stackauth-user", "stackauth.user", "x-stack-user", "x-stack-user-id", "x-user", "user")
PLANTED = {"stackauth.user": "root", "stackauth.error": "planted", "stackauth.outcome": "planted"}
PREFLIGHT = [("origin", "https://a.example"), ("access-control-request-method", "PUT")]
OPEN: dict[str, tuple[str, str, Headers]] = {
    "public": ("/public", "GET", []),
    "optional": ("/optional", "GET", []),
    "preflight": ("/", "OPTIONS", PREFLIGHT),
}


@pytest.mark.parametrize("opened", OPEN)
def test_e6_and_e7_client_cannot_set_the_user(opened: str, issuer: CountingIssuer) -> None:
    """By no header, and by no key that an outer layer left in the scope."""
    config = StackAuthConfig(
        project_id=PROJECT,
        rules=[Rule("/public", "public"), Rule("/optional", "optional")],
        pass_preflights=True,
        request_user=True,
    )
    path, method, headers = OPEN[opened]
    headers = [*headers, *((name, USER_ID) for name in LOOK_ALIKE)]
    ways = both(
        config,
        headers,
        path,
        method,
        scope={**PLANTED, "state": {"user": "root", "db": 1}, "user": "root", "auth": "root"},
        environ={**PLANTED, "REMOTE_USER": USER_ID, "HTTP_REMOTE_USER": USER_ID},
    )
    assert users(ways) == [None, None]
    scope, environ = ways[0].reached[0], ways[1].reached[0]
    for written in (scope, environ):
        assert get_user(written) is None
        assert [written[name] for name in ("stackauth.user", "stackauth.error")] == [None, None]
        assert isinstance(written["stackauth.outcome"], Unauthenticated)
    assert scope["state"] == {"user": None, "db": 1}
    assert not scope["user"]
    assert scope["auth"].scopes == []
    assert environ["REMOTE_USER"] == USER_ID, "another owner's key is left alone"
    assert issuer.calls == []


def test_e7_verified_user_replaces_a_planted_one(config: StackAuthConfig, issuer: CountingIssuer) -> None:
    planted: dict[str, Any] = {**PLANTED, "state": {"user": "root"}}
    assert users(both(config, [(NAME, signed())], scope=planted, environ=dict(PLANTED))) == [USER_ID, USER_ID]
    assert refused(config) == (401, "missing_token")
    ways = both(config, scope=planted, environ=dict(PLANTED))
    assert [seen.reached for seen in ways] == [[], []]


# -- paths (see test_e_paths as well) -----------------------------------------------------------------

NOT_PUBLIC = [
    "/publicX",
    "/public/../admin",
    "/public/..",
    "//public",
    "///public",
    "/public//",
    "/PUBLIC",
    "/Public",
    "/public%2f..%2fadmin",
    "/public%252f..%252fadmin",
    "/public;x",
    "/public;/../admin",
    "/public/..;/admin",
    "/public/%2e%2e/admin",
    "/public/%2e",
    "/./public",
    "/admin/../public",
    "/public\\",
    "/public\\..\\admin",
    "/public\0",
    "/public\0/x",
    "/public\ufffd",
    "/public ",
    "/public\n",
    "/public\t",
    "/public?",
    "/public#x",
    "/public%00",
    "/\uff50ublic",
    "/publ\u0131c",
    "/public.json",
    "public",
    "http://a/public",
    "*",
]


@pytest.mark.parametrize("path", NOT_PUBLIC, ids=ascii)
def test_e8_public_rule_opens_only_its_own_path(path: str, issuer: CountingIssuer) -> None:
    config = StackAuthConfig(project_id=PROJECT, rules=[Rule("/public", "public")])
    assert refused(config, path=path) == (401, "missing_token")
    assert users(both(config, path="/public")) == [None, None]
    assert issuer.calls == []


def test_e9_mount_point_is_removed_once_at_a_segment_boundary(issuer: CountingIssuer) -> None:
    """ASGI's path holds it, WSGI's PATH_INFO does not. Both have to agree with the setting."""
    rules = [Rule("/public", "public")]
    config = StackAuthConfig(project_id=PROJECT, rules=rules, root_path="/r")
    table = {"/r/public": 200, "/public": 200, "/r/r/public": 401, "/rpublic": 401, "/r": 401, "/R/public": 401}
    for path, status in table.items():
        assert asgi(http_scope(path, root_path="/r"), config=config).status == status, path
    assert wsgi(environ_of("/public", SCRIPT_NAME="/r"), config=config).status == 200
    assert wsgi(environ_of("/r/public", SCRIPT_NAME="/r"), config=config).status == 401
    for path in table:
        assert asgi(http_scope(path), config=config).status == 401, path
        assert asgi(http_scope(path, root_path="/r/"), config=config).status == 401, path
        assert wsgi(environ_of(path), config=config).status == 401, path


@pytest.mark.parametrize(
    "headers",
    [
        [("host", "a/public?x=")],
        [("host", "public")],
        [("x-original-url", "/public"), ("x-rewrite-url", "/public"), ("x-forwarded-prefix", "/x")],
        [("x-forwarded-host", "a/public"), ("x-http-method-override", "OPTIONS"), ("forwarded", "host=a/public")],
    ],
    ids=str,
)
def test_e10_no_header_moves_the_path(headers: Headers, issuer: CountingIssuer) -> None:
    config = StackAuthConfig(project_id=PROJECT, rules=[Rule("/public", "public")])
    moved = {"raw_path": b"/public", "query_string": b"/public", "server": ("public", 80)}
    ways = both(
        config,
        headers,
        "/admin",
        scope=moved,
        environ={"REQUEST_URI": "/public", "RAW_URI": "/public", "PATH": "/public"},
    )
    assert [(seen.status, seen.code) for seen in ways] == [(401, "missing_token")] * 2


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("OPTIONS", PREFLIGHT),
        ("OPTIONS", PREFLIGHT[:1]),
        ("OPTIONS", PREFLIGHT[1:]),
        ("OPTIONS", []),
        ("OPTIONS", [*PREFLIGHT, PREFLIGHT[0]]),
        ("OPTIONS", [*PREFLIGHT, PREFLIGHT[1]]),
        ("OPTIONS", [PREFLIGHT[0], ("access-control-request-method", "PUT\r\nx: y")]),
        ("OPTIONS", [*PREFLIGHT, ("access-control-request-headers", "x\r\ny: z")]),
        ("options", PREFLIGHT),
        ("GET", PREFLIGHT),
        ("POST", PREFLIGHT),
        ("OPTIONS ", PREFLIGHT),
        ("", PREFLIGHT),
    ],
    ids=str,
)
def test_e11_no_preflight_runs_a_handler(
    method: str, headers: Headers, config: StackAuthConfig, issuer: CountingIssuer
) -> None:
    """Refused by default; with `cors_origins` a real one is answered here; only `pass_preflights` lets one through."""
    assert refused(config, headers, method=method) == (401, "missing_token")
    answering = StackAuthConfig(project_id=PROJECT, cors_origins=["https://a.example"])
    passing = StackAuthConfig(project_id=PROJECT, pass_preflights=True)
    if (method, headers) == ("OPTIONS", PREFLIGHT):
        for seen in both(answering, headers, method=method):
            assert (seen.status, seen.body, seen.reached) == (204, b"", [])
        for token in ([], [(NAME, signed())]):
            ways = both(passing, [*headers, *token], method=method)
            assert users(ways) == [None, None]
            assert [(seen.status, seen.body) for seen in ways] == [(200, b"")] * 2
    else:
        assert refused(answering, headers, method=method) == (401, "missing_token")
        assert refused(passing, headers, method=method) == (401, "missing_token")
    assert issuer.calls == []


@pytest.mark.parametrize("method", ["post", "pOsT", "POST"])
def test_e11_methods_in_any_case(method: str, issuer: CountingIssuer) -> None:
    """Flask and Bottle route ``post`` as POST, and so do the rules of both middlewares."""
    config = StackAuthConfig(
        project_id=PROJECT, default_access="public", rules=[Rule("/a", methods=["POST"]), Rule("/b", methods=["GET"])]
    )
    assert refused(config, path="/a", method=method) == (401, "missing_token")
    assert users(both(config, path="/b", method=method)) == [None, None]
    assert refused(config, path="/b", method="head")[0] == 401


@pytest.mark.parametrize("path", ["", "/"])
def test_e11_an_empty_path_is_the_root(path: str, issuer: CountingIssuer) -> None:
    config = StackAuthConfig(project_id=PROJECT, rules=[Rule("/", "public")])
    assert users(both(config, path=path)) == [None, None]


# -- answers ------------------------------------------------------------------------------------------


def kinds_of_refusal(issuer: CountingIssuer) -> dict[ErrorCode, Headers]:
    return {
        ErrorCode.MISSING_TOKEN: [],
        ErrorCode.INVALID_REQUEST: [(NAME, "a,b")],
        ErrorCode.INVALID_TOKEN: [(NAME, "x")],
        ErrorCode.EXPIRED_TOKEN: [(NAME, signed(exp=1))],
        ErrorCode.ANONYMOUS_NOT_ALLOWED: [(NAME, signed(ANONYMOUS, signer=SIGNERS[ANONYMOUS][0]))],
        ErrorCode.RESTRICTED_NOT_ALLOWED: [(NAME, signed(RESTRICTED, signer=SIGNERS[RESTRICTED][0]))],
    }


BODIES: dict[str, Any] = {
    "default": None,
    "problem": "problem",
    "by code and status": {ErrorCode.MISSING_TOKEN: ["\u00e4", None, 1.5], 401: {"x": {"y": []}}, 403: "text", 400: 0},
    "a callable": lambda code, info: {"code": code.value, "path": info.path},
    "a callable that fails": lambda code, info: {code},
}


@pytest.mark.parametrize("body", BODIES)
def test_e12_refusal_is_complete_under_asgi_and_wsgi(
    body: str, issuer: CountingIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    config = StackAuthConfig(project_id=PROJECT, error_body=BODIES[body])
    for code, headers in kinds_of_refusal(issuer).items():
        seen = both(config, headers)[0]
        head = both(config, headers, method="HEAD")[0]
        assert seen.status == head.status == code.status
        assert seen.reached == head.reached == []
        json.loads(seen.body)
        assert head.body == b""
        assert seen.headers == head.headers
        assert seen.headers["content-length"] == str(len(seen.body))
        assert seen.headers["cache-control"] == "no-store"
        assert seen.headers["content-type"] == f"application/{'problem+json' if body == 'problem' else 'json'}"
        attribute = f', error="{code.challenge}"' if code.challenge else ""
        assert seen.headers["www-authenticate"] == f'Bearer realm="stack-auth"{attribute}'
        assert set(seen.headers) == {"content-length", "cache-control", "content-type", "www-authenticate"}


def test_e12_outage_is_503_without_a_challenge(config: StackAuthConfig, issuer: CountingIssuer) -> None:
    """503 with Retry-After and without WWW-Authenticate, never a 401."""
    issuer.down = reply(status=500)
    seen = both(config, [(NAME, signed())], same=False)
    for each in seen:
        assert (each.status, each.code, each.reached) == (503, "auth_server_error", [])
        assert int(each.headers["retry-after"]) >= 1
        assert "www-authenticate" not in each.headers


@pytest.mark.parametrize("middleware", ["asgi", "wsgi"])
def test_e13_app_cannot_change_the_shared_user(
    middleware: str, config: StackAuthConfig, issuer: CountingIssuer
) -> None:
    """The user of a cached token is shared between requests, so it must be immutable."""
    tried: list[str] = []

    def attack(written: Any) -> None:
        user = written["stackauth.user"]
        for name in ("user_id", "is_anonymous", "email", "claims", "extra", "_claims"):
            with pytest.raises((AttributeError, TypeError)):
                setattr(user, name, "root")
            with pytest.raises((AttributeError, TypeError)):
                delattr(user, name)
        for change in (
            lambda: user.claims.__setitem__("sub", "root"),
            lambda: user.claims.update(sub="root"),
            lambda: user.claims["restricted"].append(1),
            lambda: user.claims["deep"]["list"].append(1),
            lambda: user.claims["deep"].update(x=1),
        ):
            with pytest.raises((AttributeError, TypeError, KeyError)):
                change()
        user.to_dict()["user_id"] = "root"
        written["stackauth.user"] = "root"
        if middleware == "asgi":
            written["state"]["user"] = "root"
        tried.append(user.user_id)

    token = signed(deep={"list": [1]})
    for _ in range(3):
        if middleware == "asgi":

            async def app(scope: Any, receive: Any, send: Any) -> None:
                attack(scope)
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b""})

            asgi(http_scope(headers=[(NAME.encode(), token.encode())]), app, config=config)
        else:

            def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
                attack(environ)
                start_response("200 OK", [])
                return [b""]

            wsgi(environ_of("/", {NAME: token}), wsgi_app, config=config)
    assert tried == [USER_ID] * 3
    assert len(issuer.calls) == 1


@pytest.mark.parametrize("kind", ["telnet", "mqtt", "", "HTTP", "http2"])
def test_e14_an_unknown_scope_passes_untouched(kind: str, config: StackAuthConfig, issuer: CountingIssuer) -> None:
    """It is not a request that the middleware can refuse, so the app gets it, without a user."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope))

    scope = {"type": kind, "path": "/", "headers": [(NAME.encode(), signed().encode())]}
    before = dict(scope)
    asyncio.run(StackAuthASGIMiddleware(app, config)(scope, None, None))
    assert seen == [before]
    assert scope == before
    assert issuer.calls == []


@pytest.mark.parametrize(("kind", "sent"), [("http", "http.response.start"), ("websocket", "websocket.close")])
def test_e14_http_and_websocket_are_guarded(
    kind: str, sent: str, config: StackAuthConfig, issuer: CountingIssuer
) -> None:
    out: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        out.append(message)

    asyncio.run(StackAuthASGIMiddleware(app, config)({"type": kind, "path": "/", "headers": []}, receive, send))
    assert out[0]["type"] == sent
