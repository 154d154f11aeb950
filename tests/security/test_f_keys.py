"""Threats F1 to F8 through real sockets: floods, outages, and answers that are no key set.

Whatever the server of the keys does: nobody is judged by what is no key set, nobody is blamed for it,
Stack Auth is asked once in ten seconds, and whoever has a held key does not notice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from stackauth_middleware import _flow_keys
from tests.core.helpers import ANONYMOUS, NORMAL, RESTRICTED, SIGNERS, WALL, Clock, Signer, claims, document, token
from tests.core.test_keyset import BODIES
from tests.edges import hostile
from tests.edges.loopback import Exchange, Loopback, closed_port, config_for

from .published import INVALID, LET_IN, OURS, Asker, Published, Said, Way, both_doors, down, every_way, junk

LASTING = {"exp": WALL + 10 * 86_400}
NEW = Signer(77_777, "rotated")


def answering(status: int, body: Any = b"", **headers: str) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.reply(body, status, **headers)


TROUBLES: dict[str, tuple[Callable[[Exchange], None], int]] = {
    "500": (answering(500), 1),
    "HTML": (answering(200, b"<html>"), 1),
    "reset": (hostile.reset_at_once, 2),
    "closed": (hostile.closed_at_once, 2),
    "closed in the body": (hostile.closed_in_the_body, 1),
    "hanging": (hostile.silence, 1),
}
"""A conduct, and how many calls one look at Stack Auth makes of it: one more where none was answered."""
troubles = pytest.mark.parametrize("trouble", TROUBLES)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody wait for long for a key beside those that are held: the second is no subject here."""
    monkeypatch.setattr(_flow_keys, "CARRY_BESIDE", 0.1)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take its time."""
    monkeypatch.setattr(_flow_keys, "CARRY_BESIDE", 30.0)


# -- floods -------------------------------------------------------------------------------------------


@every_way
def test_f1_three_hundred_unknown_kids_are_one_call_in_ten_seconds(way: Way, keys: Published, clock: Clock) -> None:
    with keys.asker(way) as asker:
        assert asker.ask(token()) == LET_IN
        assert [asker.ask(junk(at)) for at in range(300)] == [INVALID] * 300
        assert keys.calls == 1, "so soon after the keys came there is nothing new to ask for"
        clock.pass_by(10)
        assert [asker.ask(junk(at)) for at in range(300)] == [INVALID] * 300
        assert keys.calls == 2
        assert keys.server.requests[1].headers["cache-control"] == "no-cache"
        clock.pass_by(9.9)
        assert [asker.ask(junk(at)) for at in range(300)] == [INVALID] * 300
        assert keys.calls == 2
        assert asker.ask(token(name="Jane")) == LET_IN
        assert asker.passed == 2


@both_doors
def test_f1_a_flood_of_all_kinds_is_a_call_for_each_document(way: Way, keys: Published, clock: Clock) -> None:
    """One for normal users, two for each of the others, whom nobody has to be let in for."""
    kinds = {kind: {name: claims(kind)[name] for name in ("aud", "iss")} for kind in (NORMAL, RESTRICTED, ANONYMOUS)}
    with keys.asker(way) as asker:
        for _ in range(2):
            before = keys.calls
            for at in range(50):
                assert [asker.ask(junk(at, **changes)) for changes in kinds.values()] == [INVALID] * 3
            assert keys.calls - before == 5
            clock.pass_by(10)
        assert asker.passed == 0


@both_doors
def test_f1_who_has_a_held_key_does_not_wait_for_the_flood(
    way: Way, keys: Published, clock: Clock, patient: None
) -> None:
    """The answer to the flood comes only when the honest have been served. At most four threads wait for it."""
    with keys.asker(way) as asker:
        assert asker.ask(token()) == LET_IN
        clock.pass_by(10)

        def conduct(exchange: Exchange) -> None:
            end = time.monotonic() + 20
            while asker.passed < 11:
                assert time.monotonic() < end, "the honest wait for the flood"
                exchange.hold(0.005)
            keys.issuer(exchange)

        keys.conduct = conduct
        tokens = [*(junk(at) for at in range(20)), *(token(name=f"user {at}") for at in range(10))]
        answers = asker.ask_all(tokens, at_once=30)
        assert answers[20:] == [LET_IN] * 10
        in_vain = answers[:20].count(down(1))
        assert answers[:20].count(INVALID) + in_vain == 20
        assert answers[:20].count(INVALID) >= 5
        assert in_vain == 0 or way == "wsgi"
    assert keys.calls == 2


@troubles
@every_way
def test_f2_a_flood_in_an_outage_is_one_look_in_ten_seconds(
    trouble: str, way: Way, keys: Published, clock: Clock, brief: None
) -> None:
    """And 503, not 401: a newly rotated key would look the same. The held keys go on serving."""
    conduct, calls = TROUBLES[trouble]
    with keys.asker(way) as asker:
        assert asker.ask(token()) == LET_IN
        keys.conduct = conduct
        for flood in range(1, 3):
            clock.pass_by(10)
            for at in range(30):
                assert asker.ask(junk(at)) == asker.ask(junk(at + 1)) == down(10)
                assert asker.ask(token(name=f"{flood} {at}")) == LET_IN
            assert keys.calls == 1 + flood * calls
        keys.conduct = None
        clock.pass_by(10)
        assert asker.ask(junk(0)) == INVALID
        assert asker.passed == 61


@troubles
@both_doors
def test_f2_a_stale_set_in_an_outage_is_one_look_in_ten_seconds(
    trouble: str, way: Way, keys: Published, clock: Clock, brief: None
) -> None:
    """Where PyJWKClient asks for every token, and refuses them all."""
    conduct, calls = TROUBLES[trouble]
    with keys.asker(way, timeout=0.1 if trouble == "hanging" else 30) as asker:
        assert asker.ask(token(**LASTING)) == LET_IN
        keys.conduct = conduct
        clock.pass_by(601)
        for look in range(1, 3):
            for at in range(25):
                assert asker.ask(token(name=f"{look} {at}", **LASTING)) == LET_IN
            assert keys.calls == 1 + look * calls
            clock.pass_by(10)


# -- no keys at all -----------------------------------------------------------------------------------


@troubles
@every_way
def test_f3_down_at_the_start_and_back_without_a_restart(trouble: str, way: Way, keys: Published, clock: Clock) -> None:
    conduct, calls = TROUBLES[trouble]
    keys.conduct = conduct
    with keys.asker(way, timeout=0.1 if trouble == "hanging" else 30) as asker:
        for at in range(50):
            assert asker.ask(token(name=f"{at}")) == asker.ask(junk(at)) == down(10)
        clock.pass_by(9.5)
        assert asker.ask(token()) == down(1)
        assert (keys.calls, asker.passed) == (calls, 0)
    clock.pass_by(0.5)
    keys.conduct = None
    with Asker(way, config_for(keys.server.url)) as fresh:  # as after a restart: nothing of this is on the disk
        assert fresh.ask(token()) == LET_IN


@every_way
def test_f3_the_first_who_comes_ten_seconds_later_finds_the_keys(way: Way, keys: Published, clock: Clock) -> None:
    keys.conduct = answering(503)
    with keys.asker(way) as asker:
        assert asker.ask(token()) == down(10)
        keys.conduct = None
        assert asker.ask(token()) == down(10)
        clock.pass_by(10)
        assert asker.ask(token()) == LET_IN
    assert keys.calls == 2


@every_way
def test_f3_nobody_listens(way: Way, network: None, clock: Clock) -> None:
    with Asker(way, config_for(f"http://127.0.0.1:{closed_port()}")) as asker:
        assert [asker.ask(token()) for _ in range(3)] == [down(10)] * 3
        assert asker.passed == 0


@both_doors
def test_f4_stale_keys_serve_for_a_day_and_then_nobody_knows(way: Way, keys: Published, clock: Clock) -> None:
    with keys.asker(way) as asker:
        assert asker.ask(token(**LASTING)) == LET_IN
        keys.conduct = answering(500)
        for hour in range(24):
            clock.pass_by(3599)
            assert [asker.ask(token(name=f"{hour} {at}", **LASTING)) for at in range(3)] == [LET_IN] * 3
        assert keys.calls == 1 + 24
        clock.pass_by(24)
        assert asker.ask(token(**LASTING)) == asker.ask(token(name="23 0", **LASTING)) == down(10)
        assert asker.ask(junk(0, **LASTING)) == down(10)
        keys.conduct = None
        clock.pass_by(10)
        assert asker.ask(token(**LASTING)) == LET_IN


@both_doors
def test_f4_a_withdrawn_key_dies_at_the_next_refresh(way: Way, keys: Published, clock: Clock) -> None:
    """For remembered tokens too. Under ASGI the request that brings the news has passed before."""
    with keys.asker(way) as asker:
        assert asker.ask(token(**LASTING)) == LET_IN
        keys.issuer.signers = {**SIGNERS, NORMAL: (NEW,)}
        clock.pass_by(599)
        assert asker.ask(token(**LASTING)) == LET_IN
        assert keys.calls == 1
        clock.pass_by(1)
        assert asker.ask(token(**LASTING)) == (INVALID if way == "wsgi" else LET_IN)
        assert asker.ask(token(**LASTING)) == INVALID
        assert asker.ask(token(signer=NEW, **LASTING)) == LET_IN
    assert keys.calls == 2


# -- answers that are no key set ----------------------------------------------------------------------


def not_a_key_set(way: Way, keys: Published, clock: Clock, conduct: Callable[[Exchange], None], cold: Said) -> None:
    """Assert that `conduct` judges nobody where there are no keys, and takes none away where there are."""
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
@both_doors
def test_f5_a_body_that_is_no_key_set(body: str, way: Way, keys: Published, clock: Clock) -> None:
    not_a_key_set(way, keys, clock, answering(200, BODIES[body]), down(10))


STATUSES = (201, 202, 203, 206, 226, 301, 302, 303, 307, 308, 400, 401, 403, 404, 410, 418, 429, 451, 500, 502, 503)


@pytest.mark.parametrize("status", STATUSES)
@both_doors
def test_f6_a_status_with_a_perfect_body(status: int, way: Way, keys: Published, clock: Clock) -> None:
    """401 and 404 say that our project is wrong, which is ours to mend and no outage."""
    perfect = answering(status, document(NORMAL))
    not_a_key_set(way, keys, clock, perfect, OURS if status in (401, 404) else down(10))


@pytest.mark.parametrize("status", [204, 304])
@both_doors
def test_f6_a_status_that_has_no_body(status: int, way: Way, keys: Published, clock: Clock) -> None:
    """What follows it is no answer, neither to this call nor to the next."""

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
@both_doors
def test_f6_a_hidden_status_only_ever_lowers(
    status: int, hidden: str, cold: Said, way: Way, keys: Published, clock: Clock
) -> None:
    not_a_key_set(way, keys, clock, answering(status, document(NORMAL), X_Stack_Actual_Status=hidden), cold)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@both_doors
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
@both_doors
def test_f6_retry_after_is_honoured_within_bounds(text: str, way: Way, keys: Published, clock: Clock) -> None:
    """Ten seconds at least, a minute at most, and not a call before."""
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


def pouring(octets: bytes, *head: str) -> tuple[Callable[[Exchange], None], list[int]]:
    """Return a conduct that sends `octets` as often as it can, and what it got rid of."""
    sent: list[int] = []

    def conduct(exchange: Exchange) -> None:
        exchange.send(hostile.OK, *head, "\r\n")
        for _ in range(400):
            exchange.send(octets)
            sent.append(len(octets))

    return conduct, sent


@pytest.mark.parametrize("framing", ["Content-Length: 26214400\r\n", "Transfer-Encoding: chunked\r\n", ""])
@both_doors
def test_f7_reading_stops_at_the_cap(framing: str, way: Way, keys: Published, clock: Clock) -> None:
    """Of 26 MB, what fits into the buffers of the system may be sent, and no more."""
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n" if "chunked" in framing else b" " * 65_536
    keys.conduct, sent = pouring(chunk, framing)
    with keys.asker(way) as asker:
        assert asker.ask(token()) == down(10)
        assert asker.passed == 0
    assert keys.calls == 1
    assert sum(sent) < 13_000_000


@pytest.mark.parametrize("conduct", [answering(200, MANY), hostile.gzip_bomb, hostile.one_over_the_limit])
@both_doors
def test_f7_too_many_keys_or_a_bomb(conduct: Any, way: Way, keys: Published, clock: Clock) -> None:
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
@both_doors
def test_f8_the_total_deadline_holds(conduct: Any, way: Way, keys: Published, clock: Clock) -> None:
    """However little comes at a time. The bound is generous; the budget is a tenth of it."""
    keys.conduct = conduct
    with keys.asker(way, timeout=0.2) as asker:
        began = time.monotonic()
        assert asker.ask(token()) == down(10)
        assert time.monotonic() - began < 2
        assert asker.ask(token()) == down(10)
    assert keys.calls == 1


@both_doors
def test_f8_two_documents_share_one_deadline(way: Way, keys: Published, clock: Clock) -> None:
    """The first takes most of it; the second, which drips, gets the rest."""
    first = threading.Event()

    def conduct(exchange: Exchange) -> None:
        if not first.is_set():
            first.set()
            exchange.hold(0.3)
            keys.issuer(exchange)
        else:
            hostile.body_drip(exchange)

    keys.conduct = conduct
    with keys.asker(way, timeout=0.4) as asker:
        began = time.monotonic()
        assert asker.ask(token(RESTRICTED)) == down(10)
        assert time.monotonic() - began < 2
    assert keys.calls == 2
