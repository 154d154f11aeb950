"""Fuzz targets: functions that take bytes and raise AssertionError if a promise is broken."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import time
from typing import Any

import jwt

from stackauth_middleware import ErrorCode, RefusedError, Rule, StackAuthConfig, UserProfile
from stackauth_middleware._core.credentials import MAX_BYTES, TOKEN_SOURCES, extract
from stackauth_middleware._core.key_sets import FRESH_FOR, MIN_FRESH_FOR, Document, Failure, read
from stackauth_middleware._core.profiles import Failure as NoReading
from stackauth_middleware._core.profiles import Refusal
from stackauth_middleware._core.profiles import read as read_profile
from stackauth_middleware._core.tokens import check_signature, parse, user_of
from stackauth_middleware._core.upstream import Reply
from stackauth_middleware._core.users import with_profile
from stackauth_middleware.asgi import StackAuthASGIMiddleware
from stackauth_middleware.wsgi import StackAuthWSGIMiddleware
from tests.security.issuer import issuer_in_place
from tests.unit.core.helpers import (
    ANONYMOUS,
    AUDIENCES,
    ISSUERS,
    NORMAL,
    NOW,
    PROJECT,
    RESTRICTED,
    SIGNERS,
    STRANGER,
    USER_ID,
    claims,
)

FOREVER = 4_102_444_800
"""When the tokens made here expire: a seed must mean the same on every day."""
HONEST = claims(iat=1_700_000_000, signed_up_at=1_700_000_000, exp=FOREVER)
DECISIVE = frozenset(
    (
        *("sub", "aud", "iss", "exp", "iat", "nbf", "jti", "branch_id", "branchId"),
        *("is_anonymous", "is_restricted", "restricted_reason"),
    )
)
SEPARATOR = b"\x1e"
"""Between the parts of a request; the one octet that no part can hold."""


def token(data: bytes) -> None:
    """Bytes as a token, or, behind ``!``, a header line and a payload that are then well signed."""
    if data.startswith(b"!"):
        header, _, payload = data[1:].partition(b"\n")
        text = SIGNERS[NORMAL][0].compact(header, payload)
    else:
        text = data.decode("latin-1")
    try:
        parsed = parse(text, AUDIENCES, ISSUERS)
        key = next((each.public for each in SIGNERS[parsed.user_type] if each.kid == parsed.kid), None)
        if key is None:
            return
        check_signature(parsed, key)
        user = user_of(parsed, time.time(), 5)
    except RefusedError as error:
        assert error.code in (ErrorCode.INVALID_TOKEN, ErrorCode.EXPIRED_TOKEN)  # noqa: PT017 - the target runs without pytest
        return
    audience = next(each for each, kind in AUDIENCES.items() if kind is parsed.user_type)
    oracle = jwt.decode(
        text,
        key,
        algorithms=["ES256"],
        audience=audience,
        issuer=[each for each, kind in ISSUERS.items() if kind is parsed.user_type],
        leeway=6,
        options={"require": ["exp", "sub", "aud", "iss"], "strict_aud": True, "verify_iat": False},
    )
    assert oracle == parsed.claims
    assert (user.user_id, user.user_type) == (oracle["sub"], parsed.user_type)
    json.dumps(user.to_dict(), allow_nan=False).encode()


def extra_claims(data: bytes) -> None:
    """An object of other claims beside the honest ones never keeps an honest user out."""
    try:
        more = json.loads(data.decode("utf-8"), parse_constant=_never)
    except (ValueError, RecursionError):
        return
    if not isinstance(more, dict) or DECISIVE & more.keys() or data.count(b"[") + data.count(b"{") > 32:
        return
    text = SIGNERS[NORMAL][0].token({**more, **HONEST})
    if len(text) > MAX_BYTES:
        return
    parsed = parse(text, AUDIENCES, ISSUERS)
    check_signature(parsed, SIGNERS[NORMAL][0].public)
    assert user_of(parsed, time.time(), 5).user_id == USER_ID


def token_sources(data: bytes) -> None:
    """Any header values: a token or none or a refusal, and the same in either brand."""
    parts = data.split(SEPARATOR)
    names = ("x-stack-access-token", "authorization", "x-stack-auth", "sec-websocket-protocol")
    headers = {name: part.decode("latin-1") for name, part in zip(names, parts, strict=False) if part}
    other = {name.replace("x-stack-", "x-hexclave-"): value for name, value in headers.items()}
    found = _extracted(headers)
    assert found == _extracted(other)
    assert found is None or isinstance(found, ErrorCode) or found


def _extracted(headers: dict[str, str]) -> str | ErrorCode | None:
    try:
        return extract(headers, TOKEN_SOURCES)
    except RefusedError as error:
        assert error.code is ErrorCode.INVALID_REQUEST  # noqa: PT017 - the target runs without pytest
        return error.code


RULES = (Rule("/public/**", "public"), Rule("/optional/**", "optional"), Rule("/post", "public", methods=["POST"]))
TOKENS = {
    b"$N": SIGNERS[NORMAL][0].token(HONEST),
    b"$R": SIGNERS[RESTRICTED][0].token(claims(RESTRICTED, iat=1_700_000_000, exp=FOREVER)),
    b"$A": SIGNERS[ANONYMOUS][0].token(claims(ANONYMOUS, iat=1_700_000_000, exp=FOREVER)),
    b"$S": STRANGER.token(HONEST),
    b"$X": SIGNERS[NORMAL][0].token({**HONEST, "exp": 1_700_000_001}),
}
"""What may stand for a whole token in a request: a fuzzer cannot sign."""


class _Middlewares:
    """Both middlewares, each with its own config, so that they share no cache."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.reached: list[Any] = []
        self.sent: list[Any] = []
        settings: dict[str, Any] = {"project_id": PROJECT, "rules": RULES, "token_sources": TOKEN_SOURCES}
        self.asgi = StackAuthASGIMiddleware(self._asgi_app, StackAuthConfig(**settings))
        self.wsgi = StackAuthWSGIMiddleware(self._wsgi_app, StackAuthConfig(**settings))

    async def _asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append(scope["stackauth.user"])

    def _wsgi_app(self, environ: Any, start_response: Any) -> list[bytes]:
        self.reached.append(environ["stackauth.user"])
        return []

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    async def _receive(self) -> Any:
        return {"type": "websocket.connect"}

    def through_asgi(self, scope: dict[str, Any]) -> tuple[list[Any], list[Any]]:
        self.reached, self.sent = [], []
        self.loop.run_until_complete(self.asgi(scope, self._receive, self._send))
        return self.reached, self.sent

    def through_wsgi(self, environ: dict[str, Any]) -> tuple[list[Any], list[Any], bytes]:
        self.reached, started = [], []
        body = b"".join(self.wsgi(environ, lambda status, headers: started.append((int(status[:3]), headers))))
        return self.reached, started, body


_middlewares: list[_Middlewares] = []


def middlewares(data: bytes) -> None:
    """Method, path, then names and values of headers: neither middleware raises, and both have the same outcome."""
    for placeholder, value in TOKENS.items():
        data = data.replace(placeholder, value.encode(), 1)
    method, path, *rest = [*data.split(SEPARATOR), b"", b""][:42]
    pairs = [(name.lower(), value) for name, value in zip(rest[::2], rest[1::2], strict=False)]
    if not _middlewares:
        _middlewares.append(_Middlewares())
    middleware = _middlewares[0]
    with issuer_in_place():
        scope = {
            "type": "http",
            "method": method.decode("latin-1"),
            "path": path.decode("utf-8", "replace"),
            "headers": pairs,
        }
        users, sent = middleware.through_asgi(scope)
        environ: dict[str, Any] = {"REQUEST_METHOD": method.decode("latin-1"), "PATH_INFO": path.decode("latin-1")}
        for name, value in pairs:
            if b"_" in name:
                continue  # a server's business: CGI spells it like another
            key = f"HTTP_{name.upper().replace(b'-', b'_').decode('latin-1')}"
            text = value.decode("latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
        other_users, started, body = middleware.through_wsgi(environ)
        offered = dict(pairs).get(b"sec-websocket-protocol", b"").decode("latin-1")
        socket = {**scope, "type": "websocket", "subprotocols": offered.split(",") if offered else []}
        socket_users, messages = middleware.through_asgi(socket)
    _hold(data, users + other_users + socket_users)
    assert users == other_users
    assert bool(users) != bool(sent)
    assert bool(socket_users) != bool(messages)
    assert not messages or messages[0]["code"] in (3000, 3003, 1013)
    if sent:
        status, headers = started[0]
        assert status in (400, 401, 403)
        assert sent[0]["status"] == status
        assert sent[0]["headers"] == [(name.lower().encode(), value.encode()) for name, value in headers]
        assert sent[1]["body"] == body
        if body:
            document = json.loads(body)
            assert ErrorCode(document["code"]).status == status
            assert dict(headers)["Content-Length"] == str(len(body))


def _hold(data: bytes, users: list[Any]) -> None:
    """Assert that a user is present only with the one valid token, plain or in base64."""
    carried = data
    for each in re.findall(rb"(?:stackauth|hexclave)_([A-Za-z0-9+/=]+)", data):
        with contextlib.suppress(ValueError):
            carried += base64.b64decode(each)
    signed = TOKENS[b"$N"].rpartition(".")[0].encode()  # the signature is another one in every process
    brought = signed in carried or b"\\u" in carried  # JSON has other spellings for it
    for user in users:
        assert user is None or (brought and user.user_id == USER_ID and user.user_type is NORMAL)


def key_set(data: bytes) -> None:
    """A ``Cache-Control`` line, then a body."""
    control, _, body = data.partition(b"\n")
    found = read(Reply(200, {"cache-control": control.decode("latin-1")}, body), NOW)
    if isinstance(found, Failure):
        assert found.code is ErrorCode.SERVER_ERROR
        return
    assert isinstance(found, Document)
    assert found.points
    assert MIN_FRESH_FOR <= found.fresh_for <= FRESH_FOR
    published = json.loads(body)["keys"]
    for kid, (x, y) in found.points.items():
        assert len(x) == len(y) == 32
        assert any(isinstance(each, dict) and each.get("kid") == kid and "d" not in each for each in published)
    keys = found.keys({})
    for kid, key in keys.items():
        numbers = key.public.public_numbers()
        assert (numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")) == found.points[kid]
    again = found.keys(keys)
    assert all(again[kid] is key for kid, key in keys.items())


def profile(data: bytes) -> None:
    """A status and a ``Retry-After`` on lines of their own, then a body."""
    status, _, rest = data.partition(b"\n")
    retry_after, _, body = rest.partition(b"\n")
    number = int(status) if status.isdigit() and len(status) == 3 else 200
    read_back = read_profile(Reply(number, {"retry-after": retry_after.decode("latin-1")}, body), USER_ID, NOW)
    if isinstance(read_back, NoReading):
        assert read_back.code in (ErrorCode.SERVER_ERROR, ErrorCode.MISCONFIGURED)
        assert read_back.retry_after is None or 1 <= read_back.retry_after <= 60
    elif isinstance(read_back, Refusal):
        assert read_back.code.status in (401, 403)
        json.loads(body)["code"]
    else:
        assert isinstance(read_back, UserProfile)
        assert read_back.id == USER_ID
        parsed = parse(TOKENS[b"$R"], AUDIENCES, ISSUERS)
        user = with_profile(user_of(parsed, time.time(), 5), read_back)
        assert user.user_id == USER_ID
        assert user.is_restricted
        assert user.is_anonymous is read_back.is_anonymous


def _never(name: str) -> Any:
    raise ValueError(name)


TARGETS = {each.__name__: each for each in (token, extra_claims, token_sources, middlewares, key_set, profile)}
