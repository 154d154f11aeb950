"""Threats A1 to A12: the effects of a token header before the signature is checked.

The outcomes are tested by the corpus; here is what they cost: no question to the network, no memory, no
trial of a key that the header does not name, no line of log of the attacker's making.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from jwt.algorithms import ECAlgorithm

from stackauth_middleware import StackAuthConfig, Verifier
from stackauth_middleware._core.cache import reset_all
from stackauth_middleware._core.credentials import MAX_BYTES
from tests.unit.core.helpers import NORMAL, SIGNERS

from .corpus import cases, claims, signed
from .issuer import CountingIssuer
from .test_corpus import by_asgi, by_async_verifier, by_verifier, by_wsgi, fits_in_header

CASES = {case.name: case for case in cases()}
WITHOUT_A_KEY = [case for case in CASES.values() if case.threat[0] == "A" and not case.needs_key]
COSTLY = [case for case in CASES.values() if case.threat in ("A6", "A11", "B10", "B11", "B12", "C1")]
MEBIBYTE = 1 << 20
LEAVING = ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.send", "urllib.Request")


class Guard:
    """Records and forbids connections and file reads. Python cannot remove such a hook."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] | None = None
        self.files = False
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: Any) -> None:
        if self.seen is not None and (event.startswith(LEAVING) or (event == "open" and self.files)):
            self.seen.append((event, arguments))
            raise ConnectionRefusedError(event)


@pytest.fixture(scope="module")
def only_guard() -> Guard:
    return Guard()


@pytest.fixture
def leaving(only_guard: Guard) -> Iterator[list[tuple[str, Any]]]:
    """Record attempted connections, without a replacement of the network."""
    reset_all()
    only_guard.seen = []
    yield only_guard.seen
    only_guard.seen = None
    only_guard.files = False
    reset_all()


def by_new_loop(config: StackAuthConfig, token: str) -> str:
    return asyncio.run(by_async_verifier(config, token))


WAYS: dict[str, Any] = {"verifier": by_verifier, "async": by_new_loop, "wsgi": by_wsgi, "asgi": by_asgi}


@pytest.mark.parametrize("way", WAYS)
def test_a4_header_urls_cause_no_connection(
    way: str, config: StackAuthConfig, only_guard: Guard, leaving: list[tuple[str, Any]]
) -> None:
    """Nor is a file read, for ``file:`` addresses, by the plain verifier; to any of A1 to A12 that needs no key."""
    WAYS[way](config, "a.b.c")  # whatever is imported late is there now
    only_guard.files = way == "verifier"
    addressed = 0
    for case in WITHOUT_A_KEY:
        if way in ("verifier", "async") or (fits_in_header(case) and "," not in case.token and len(case.token) <= 8192):
            assert WAYS[way](config, case.token) == "invalid_token", case.name
            addressed += case.threat == "A4"
    assert leaving == []
    assert addressed == 21


@pytest.mark.parametrize("way", WAYS)
def test_a4_connection_guard_sees_connections(
    way: str, config: StackAuthConfig, leaving: list[tuple[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Positive control of the test above: a valid token causes a fetch of the keys."""
    assert WAYS[way](config, signed()) == "auth_server_error"
    assert [event for event, _ in leaving][:1] == ["socket.getaddrinfo"]
    assert "api.stack-auth.com" in str(leaving[0][1])


@pytest.mark.parametrize("way", ["verifier", "wsgi", "asgi"])
def test_a6_and_a11_hostile_headers_use_bounded_memory(
    way: str, config: StackAuthConfig, issuer: CountingIssuer
) -> None:
    """Compressed data is never inflated and a huge part never decoded: less than 1 MiB for any token.

    Servers hand over no header of a megabyte; to the ASGI middleware it would come as data, whose copy alone is one.
    """
    peaks = {}
    for case in COSTLY:
        if way == "verifier" or (fits_in_header(case) and (way == "wsgi" or len(case.token) < 500_000)):
            WAYS[way](config, "a.b.c")
            tracemalloc.start()
            try:
                WAYS[way](config, case.token)
                peaks[case.name] = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert {name: peak for name, peak in peaks.items() if peak >= MEBIBYTE} == {}
    assert {"hdr-zip-bomb", "hdr-json-deep-100000", "hdr-json-huge-300kb", "enc-huge-dots"} <= set(peaks)


@pytest.mark.parametrize("way", WAYS)
def test_a7_kid_cannot_inject_log_lines(
    way: str, config: StackAuthConfig, issuer: CountingIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor any part of one: an attacker writes it."""
    too_long = "invalid_request" if way in ("wsgi", "asgi") else "invalid_token"
    marked = [
        SIGNERS[NORMAL][0].token(claims(), kid=f"canary{odd}") for odd in ("", "\r\nforged", "\0", "%s", "\u2028")
    ]
    with caplog.at_level(logging.DEBUG):
        for token in [case.token for case in CASES.values() if case.threat in ("A7", "A8")] + marked:
            assert WAYS[way](config, token) == ("invalid_token" if len(token) <= MAX_BYTES else too_long)
    messages = [record.getMessage() for record in caplog.records]
    assert not [message for message in messages if not message.isprintable()]
    for word in ("canary", "forged", "passwd", "or 1=1"):
        assert word not in caplog.text


def test_a9_only_the_key_named_by_kid_is_tried(
    config: StackAuthConfig, issuer: CountingIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most one signature check, by the key that the kid names."""
    tried: list[Any] = []
    verify = ECAlgorithm.verify

    def counting(self: Any, message: bytes, key: Any, signature: bytes) -> bool:
        tried.append(key)
        return verify(self, message, key, signature)

    monkeypatch.setattr(ECAlgorithm, "verify", counting)
    verifier = Verifier(config)
    verifier.verify(signed())
    assert len(tried) == 1
    for name, count in {
        "hdr-kid-of-other-key": 1,
        "hdr-kid-of-anonymous-key": 0,
        "hdr-kid-missing": 0,
        "hdr-kid-unknown": 0,
        "sig-stranger": 1,
    }.items():
        tried.clear()
        assert by_verifier(config, CASES[name].token) == "invalid_token"
        assert len(tried) == count, name
