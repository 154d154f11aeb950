"""One request through ASGI, through WSGI, and through WSGI inside asgiref's adapter: one answer."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.wsgi import WsgiToAsgi
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from stackauth_middleware import Rule, StackAuthConfig, StackAuthWSGIMiddleware
from stackauth_middleware.errors import ConfigError
from stackauth_middleware.testing import LocalStackAuth

from .drive import PROJECT, Seen, asgi, environ_of, http_scope, wsgi

CONFIG = StackAuthConfig(project_id=PROJECT)
bounded = settings(
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def through_the_adapter(headers: list[tuple[str, str]], path: str, config: StackAuthConfig) -> Seen:
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


def all_ways(headers: list[tuple[str, str]], path: str = "/", config: StackAuthConfig = CONFIG) -> list[Seen]:
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    octets = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    raw_path = path.encode("utf-8", "surrogatepass").decode("latin-1")
    return [
        asgi(http_scope(path, octets), config=config),
        wsgi(environ_of(raw_path, joined), config=config),
        through_the_adapter(headers, path, config),
    ]


def one_answer(ways: list[Seen]) -> Seen:
    assert ways[0].same() == ways[1].same() == ways[2].same()
    return ways[0]


def wrapped(prefix: str, **members: Any) -> str:
    return f"Bearer {prefix}{base64.b64encode(json.dumps(members).encode()).decode()}"


Carried = Callable[[str], list[tuple[str, str]]]
GOOD: dict[str, Carried] = {
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
BAD: dict[str, tuple[Carried, int, str]] = {
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


@pytest.mark.parametrize("carried", GOOD.values(), ids=list(GOOD))
def test_well_formed_carriers(carried: Carried, stackauth: LocalStackAuth) -> None:
    seen = one_answer(all_ways(carried(stackauth.token(project_id=PROJECT))))
    assert (seen.status, seen.body) == (200, b"app")


@pytest.mark.parametrize(("carried", "status", "code"), BAD.values(), ids=list(BAD))
def test_malformed_carriers(carried: Carried, status: int, code: str, stackauth: LocalStackAuth) -> None:
    seen = one_answer(all_ways(carried(stackauth.token(project_id=PROJECT))))
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
def test_any_octets_in_any_header(stackauth: LocalStackAuth, headers: list[tuple[str, str]]) -> None:
    """An answer of the table, the same each way, and nobody is let in."""
    seen = one_answer(all_ways(headers))
    assert (seen.status, seen.reached) in ((400, []), (401, []))


segment = st.sampled_from(["a", "b", "admin", "", ".", "..", "%2f", "%2e", "a\\b", "caf\xe9", "\u20ac", ";x", "A"])
paths = st.lists(segment, max_size=5).map(lambda segments: "/" + "/".join(segments)) | st.text(max_size=8)
patterns = st.sampled_from(["/a", "/a/*", "/a/**", "/admin/**", "/**", "/", "/caf\xe9", "/*/b", "/a/"])
rule = st.builds(Rule, patterns, st.sampled_from(["public", "optional", "required"]))


@given(paths, st.lists(rule, max_size=4))
@bounded
def test_any_path_under_any_rules(stackauth: LocalStackAuth, path: str, rules: list[Rule]) -> None:
    """ASGI against WSGI; the adapter refuses some of these paths by itself."""
    if any(0xD800 <= ord(character) < 0xE000 for character in path):
        return
    try:
        config = StackAuthConfig(project_id=PROJECT, rules=rules)
    except ConfigError:  # a rule that an earlier one hides
        reject()
    octets = path.encode("utf-8").decode("latin-1")
    assert asgi(http_scope(path), config=config).same() == wsgi(environ_of(octets), config=config).same()
