"""Threats F5 to F8 through real sockets: replies that are not JWK Sets, that are too large, and that never end.

Such a reply verifies no token, causes no 401, and removes no key.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from tests.network.conftest import Attempts
from tests.unit.core.helpers import NORMAL, RESTRICTED, WALL, Clock, document, token
from tests.unit.core.test_key_sets import BODIES
from tests.unit.io import hostile
from tests.unit.io.loopback import Exchange, Loopback

from .published import LASTING, LET_IN, OURS, Published, Result, Way, answering, both_middlewares, down, junk


def not_a_key_set(way: Way, keys: Published, clock: Clock, conduct: Callable[[Exchange], None], cold: Result) -> None:
    """Assert that `conduct` causes the failure `cold` without cached keys, and does not affect cached ones."""
    for warm in (False, True):
        with keys.asker(way) as asker:
            if warm:
                keys.conduct = None
                assert asker.ask(token(**LASTING)) == LET_IN
                clock.pass_by(600)
            keys.conduct = conduct
            before = keys.calls
            expected = LET_IN if warm else cold
            assert [asker.ask(token(name=f"{at}", **LASTING)) for at in range(3)] == [expected] * 3
            assert asker.ask(junk(0, **LASTING)) == cold
            assert keys.calls - before == 1
            clock.pass_by(60)
            keys.conduct = None
            assert asker.ask(token(name="back", **LASTING)) == LET_IN


@pytest.mark.parametrize("body", BODIES)
@both_middlewares
def test_f5_body_that_is_not_a_jwk_set_changes_nothing(body: str, way: Way, keys: Published, clock: Clock) -> None:
    not_a_key_set(way, keys, clock, answering(200, BODIES[body]), down(10))


STATUSES = (201, 202, 203, 206, 226, 301, 302, 303, 307, 308, 400, 401, 403, 404, 410, 418, 429, 451, 500, 502, 503)


@pytest.mark.parametrize("status", STATUSES)
@both_middlewares
def test_f6_status_other_than_200_with_a_valid_body_is_a_failure(
    status: int, way: Way, keys: Published, clock: Clock
) -> None:
    """401 and 404 mean a misconfigured project and no outage."""
    perfect = answering(status, document(NORMAL))
    not_a_key_set(way, keys, clock, perfect, OURS if status in (401, 404) else down(10))


@pytest.mark.parametrize("status", [204, 304])
@both_middlewares
def test_f6_status_without_body_is_a_failure(status: int, way: Way, keys: Published, clock: Clock) -> None:
    """The bytes after it are the reply neither to this call nor to the next."""

    def conduct(exchange: Exchange) -> None:
        exchange.reply(document(NORMAL), status)
        exchange.close()

    not_a_key_set(way, keys, clock, conduct, down(10))


@pytest.mark.parametrize(
    ("status", "hidden", "cold"),
    [
        (200, "404", OURS),
        (200, "500", down(10)),
        (200, "teapot", down(10)),
        (302, "200", down(10)),
        (206, "200", down(10)),
        (500, "200", down(10)),
    ],
)
@both_middlewares
def test_f6_a_hidden_status_only_ever_lowers(
    status: int, hidden: str, cold: Result, way: Way, keys: Published, clock: Clock
) -> None:
    not_a_key_set(way, keys, clock, answering(status, document(NORMAL), X_Stack_Actual_Status=hidden), cold)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@both_middlewares
def test_f6_a_redirect_is_not_followed(status: int, way: Way, keys: Published, clock: Clock) -> None:
    with Loopback(keys.issuer) as other:
        for place in (f"{other.url}/keys", f"//127.0.0.1:{other.port}/keys", f"{keys.server.url}/keys"):
            keys.conduct = answering(status, document(NORMAL), Location=place, Refresh=f"0;url={place}")
            with keys.asker(way) as asker:
                assert asker.ask(token()) == down(10)
    assert other.connections == 0
    assert keys.calls == 3
    assert not any(target == "/keys" for target in keys.server.targets)


def at(seconds: float) -> str:
    return formatdate(WALL + seconds, usegmt=True)


RETRY_AFTER = {
    "7": 10,
    "30": 30,
    "60": 60,
    "3600": 60,
    "9" * 400: 60,
    "0": 10,
    "-5": 10,
    "1e3": 10,
    "soon": 10,
    "": 10,
    "\u0663\u0660".encode().decode("latin-1"): 10,
    at(30): 30,
    at(-30): 10,
    at(86_400): 60,
    "Fri, 31 Dec 9999 23:59:59 GMT": 60,
    "Mon, 99 Foo 2027 99:99:99 GMT": 10,
}


@pytest.mark.parametrize("text", RETRY_AFTER, ids=lambda text: ascii(text)[:30])
@both_middlewares
def test_f6_retry_after_is_honoured_within_bounds(text: str, way: Way, keys: Published, clock: Clock) -> None:
    """At least ten seconds, at most a minute, and no call before."""
    held = RETRY_AFTER[text]
    keys.conduct = answering(429, b"", Retry_After=text)
    with keys.asker(way) as asker:
        assert asker.ask(token()) == down(held)
        keys.conduct = None
        clock.pass_by(held - 0.5)
        assert [asker.ask(token()) for _ in range(20)] == [down(1)] * 20
        assert keys.calls == 1
        clock.pass_by(0.5)
        assert asker.ask(token()) == LET_IN


# -- too much, too slowly -----------------------------------------------------------------------------

MANY = b'{"keys":[' + b",".join([b'{"kty":"EC","crv":"P-256","kid":"k","x":"AA","y":"AA"}'] * 20_000) + b"]}"


def pouring(data: bytes, *head: str) -> tuple[Callable[[Exchange], None], list[int]]:
    """Return a conduct that sends `octets` as often as it can, and the sizes of what was sent."""
    sent: list[int] = []

    def conduct(exchange: Exchange) -> None:
        exchange.send(hostile.OK, *head, "\r\n")
        for _ in range(400):
            exchange.send(data)
            sent.append(len(data))

    return conduct, sent


@pytest.mark.parametrize("framing", ["Content-Length: 26214400\r\n", "Transfer-Encoding: chunked\r\n", ""])
@both_middlewares
def test_f7_reading_stops_at_the_size_limit(framing: str, way: Way, keys: Published, clock: Clock) -> None:
    """Of 26 MB, what fits into the buffers of the system may be sent, and no more."""
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n" if "chunked" in framing else b" " * 65_536
    keys.conduct, sent = pouring(chunk, framing)
    with keys.asker(way) as asker:
        assert asker.ask(token()) == down(10)
        assert asker.passed == 0
    assert keys.calls == 1
    assert sum(sent) < 13_000_000


@pytest.mark.parametrize("conduct", [answering(200, MANY), hostile.gzip_bomb, hostile.one_over_the_limit])
@both_middlewares
def test_f7_too_many_keys_or_a_compressed_body_is_a_failure(
    conduct: Any, way: Way, keys: Published, clock: Clock
) -> None:
    not_a_key_set(way, keys, clock, conduct, down(10))


@pytest.mark.parametrize(
    "conduct",
    [
        hostile.header_drip,
        hostile.many_headers_drip,
        hostile.continue_drip,
        hostile.body_drip,
        hostile.chunk_drip,
        hostile.silence,
        hostile.silence_in_the_body,
    ],
)
@both_middlewares
def test_f8_the_total_deadline_holds(conduct: Any, way: Way, keys: Published, clock: Clock, looks: Attempts) -> None:
    """However slowly the reply arrives. The asserted bound is ten times the budget."""
    keys.conduct = conduct
    with keys.asker(way, timeout=0.2) as asker:
        began = time.monotonic()
        assert asker.ask(token()) == down(10)
        assert time.monotonic() - began < 2
        assert asker.ask(token()) == down(10)
    assert looks.count == 1


@both_middlewares
def test_f8_two_documents_share_one_deadline(way: Way, keys: Published, clock: Clock) -> None:
    """The first uses part of the budget; the second, which drips, gets the rest."""
    first = threading.Event()

    def conduct(exchange: Exchange) -> None:
        if not first.is_set():
            first.set()
            exchange.hold(0.2)
            keys.issuer(exchange)
        else:
            hostile.body_drip(exchange)

    keys.conduct = conduct
    with keys.asker(way, timeout=0.6) as asker:
        began = time.monotonic()
        assert asker.ask(token(RESTRICTED)) == down(10)
        assert time.monotonic() - began < 2
    assert keys.calls == 2
