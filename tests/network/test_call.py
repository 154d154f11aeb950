"""The request to users/me: exactly these headers, whatever the client sent."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from stackauth_middleware._version import __version__
from tests.unit.core.helpers import PROJECT
from tests.unit.io import loopback

from .sites import Kind, Site, every_runner
from .upstream import PUBLISHABLE, SECRET, USERS_ME, Upstream

REFRESH = "refresh-token-canary-0123456789abcdefghijklmno"
BROWSER = {
    "host": "app.example",
    "cookie": "session=cookie-canary; stack-refresh=refresh-token-canary",
    "user-agent": "browser-canary",
    "referer": "https://app.example/canary",
    "x-forwarded-for": "203.0.113.9",
    "x-request-id": "request-canary",
    "accept-language": "de-canary",
    "accept-encoding": "gzip, br",
    "x-stack-secret-server-key": "ssk_canary",
    "x-stack-project-id": "canary",
    "x-stack-override-error-status": "true",
    "x-stack-refresh-token": REFRESH,
    "idempotency-key": "canary",
}


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Record the raw request heads."""
    kept: list[bytes] = []

    class CachedAnswer(loopback.Exchange):
        def __init__(self, server: Any, sock: Any, head: bytes, connection: int) -> None:
            super().__init__(server, sock, head, connection)
            kept.append(head)

    monkeypatch.setattr(loopback, "Exchange", CachedAnswer)
    return kept


def sent_with(heads: list[bytes]) -> list[tuple[str, str]]:
    """Return the headers of the only call, with names in lower case, including repeated ones."""
    (head,) = [each for each in heads if each.startswith(f"GET {USERS_ME} HTTP/1.1\r\n".encode())]
    pairs = (line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:])
    return sorted((name.lower(), value) for name, value in pairs)


def carried(token_source: str, token: str) -> dict[str, str]:
    both = json.dumps({"accessToken": token, "refreshToken": REFRESH})
    return {
        "x-stack-access-token": {"x-stack-access-token": token},
        "x-hexclave-access-token": {"x-hexclave-access-token": token},
        "x-stack-auth": {"x-stack-auth": both},
        "bearer stackauth_": {"authorization": f"Bearer stackauth_{base64.b64encode(both.encode()).decode()}"},
        "bearer": {"authorization": f"Bearer {token}"},
    }[token_source]


TOKEN_SOURCES = ["x-stack-access-token", "x-hexclave-access-token", "x-stack-auth", "bearer stackauth_", "bearer"]
ACCESS = {
    "server": ({"secret_server_key": SECRET, "publishable_client_key": PUBLISHABLE}, "secret-server-key", SECRET),
    "client": ({"publishable_client_key": PUBLISHABLE}, "publishable-client-key", PUBLISHABLE),
}


@every_runner
@pytest.mark.parametrize("token_source", TOKEN_SOURCES)
@pytest.mark.parametrize("access", ACCESS)
def test_the_headers_of_the_call(token_source: str, access: str, kind: Kind, up: Upstream, heads: list[bytes]) -> None:
    keys, key_name, key = ACCESS[access]
    token = up.token()
    with Site(kind, up.config(**keys)) as site:
        assert site.ask(None, **{**BROWSER, **carried(token_source, token)}).status == 200
    sent = dict(sent_with(heads))
    assert len(sent) == len(sent_with(heads))
    assert sent == {
        "host": up.server.url.removeprefix("http://"),
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "stackauth-middleware",
        "x-stack-project-id": PROJECT,
        "x-stack-access-type": access,
        f"x-stack-{key_name}": key,
        "x-stack-access-token": token,
        "x-stack-allow-anonymous-user": "true",
        "x-stack-client-version": f"python @stackauth/middleware@{__version__}",
    }
    assert re.fullmatch(r"(\w+)\s+(@[\w/]+)@([\d.]+)", sent["x-stack-client-version"], re.ASCII)


@every_runner
def test_headers_of_the_client_are_not_forwarded(kind: Kind, up: Upstream, heads: list[bytes]) -> None:
    with Site(kind, up.config()) as site:
        assert site.ask(None, "/fresh", **{**BROWSER, **carried("x-stack-auth", up.token())}).status == 200
    everything = b"".join(heads)
    assert b"canary" not in everything
    assert REFRESH.encode() not in everything


@every_runner
def test_a_token_that_fails_the_local_check_is_not_sent(kind: Kind, up: Upstream) -> None:
    bad = [
        up.token(key="foreign"),
        up.token(expires_in=-60),
        up.token(project_id="11111111-2222-4333-8444-555555555555"),
        up.token(branch_id="dev"),
        up.token(user_type="anonymous"),
        up.token(user_type="restricted"),
        up.token() + "A",
        "undefined",
    ]
    with Site(kind, up.config()) as site:
        for token in bad:
            assert site.ask(token).status in (401, 403)
        assert site.ask(None).code == "missing_token"
    assert up.calls == []
