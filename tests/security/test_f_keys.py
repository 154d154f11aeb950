"""Threats F1 to F4 through real sockets: floods, outages, and the ages of keys.

Whatever the server does, it causes no 401, at most one fetch in ten seconds, and no delay for cached keys.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from stackauth_middleware import ErrorCode
from stackauth_middleware._core import key_set_cache
from stackauth_middleware.errors import Event
from tests.network.conftest import Attempts
from tests.unit.core.helpers import ANONYMOUS, NORMAL, RESTRICTED, SIGNERS, Clock, Signer, claims, token
from tests.unit.io import hostile
from tests.unit.io.loopback import Exchange, closed_port, config_for

from .published import (
    INVALID,
    LASTING,
    LET_IN,
    Asker,
    Published,
    Way,
    answering,
    both_middlewares,
    down,
    every_way,
    junk,
)

NEW = Signer(77_777, "rotated")

TROUBLES: dict[str, tuple[Callable[[Exchange], None], bool]] = {
    "500": (answering(500), False),
    "HTML": (answering(200, b"<html>"), False),
    "reset": (hostile.reset_at_once, True),
    "closed": (hostile.closed_at_once, True),
    "closed in the body": (hostile.closed_in_the_body, True),
    "hanging": (hostile.silence, True),
}
"""A server fault, and whether a call that meets it on a pooled connection is retried on a new one."""
troubles = pytest.mark.parametrize("trouble", TROUBLES)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Raise the refresh budget for slow machines, except where the server hangs; one second is no subject here."""
    in_vain = request.node.callspec.params.get("trouble") == "hanging"
    monkeypatch.setattr(key_set_cache, "REFRESH_BUDGET", 0.1 if in_vain else 30.0)


# -- floods -------------------------------------------------------------------------------------------


@every_way
def test_f1_three_hundred_unknown_kids_cause_one_fetch_in_ten_seconds(way: Way, keys: Published, clock: Clock) -> None:
    with keys.asker(way) as asker:
        assert asker.ask(token()) == LET_IN
        assert [asker.ask(junk(at)) for at in range(30)] == [INVALID] * 30
        assert keys.calls == 1, "so soon after the keys came there is nothing new to ask for"
        clock.pass_by(10)
        assert [asker.ask(junk(at)) for at in range(300)] == [INVALID] * 300
        assert keys.calls == 2
        assert keys.server.requests[1].headers["cache-control"] == "no-cache"
        clock.pass_by(9.9)
        assert [asker.ask(junk(at)) for at in range(30)] == [INVALID] * 30
        assert keys.calls == 2
        assert asker.ask(token(name="Jane")) == LET_IN
        assert asker.passed == 2


@both_middlewares
def test_f1_flood_of_all_user_types_fetches_each_document_once(way: Way, keys: Published, clock: Clock) -> None:
    """One for normal users, two for each other type, even if the settings let none of them in."""
    kinds = {kind: {name: claims(kind)[name] for name in ("aud", "iss")} for kind in (NORMAL, RESTRICTED, ANONYMOUS)}
    with keys.asker(way) as asker:
        for _ in range(2):
            before = keys.calls
            for at in range(50):
                assert [asker.ask(junk(at, **changes)) for changes in kinds.values()] == [INVALID] * 3
            assert keys.calls - before == 5
            clock.pass_by(10)
        assert asker.passed == 0


@both_middlewares
def test_f1_users_with_cached_keys_do_not_wait_during_a_flood(
    way: Way, keys: Published, clock: Clock, patient: None
) -> None:
    """The fetch for the flood ends only after the valid tokens have been accepted.

    Of the threads one asks and four wait for it, and it comes only when the others have been sent away. Tasks all wait.
    """
    sent_away: list[Event] = []

    def observe(event: Event) -> None:
        if event.code is ErrorCode.SERVER_ERROR:
            sent_away.append(event)

    with keys.asker(way, observers=[observe]) as asker:
        assert asker.ask(token()) == LET_IN
        clock.pass_by(10)
        in_vain = 15 if way == "wsgi" else 0

        def conduct(exchange: Exchange) -> None:
            end = time.monotonic() + 20
            while asker.passed < 11 or len(sent_away) < in_vain:
                assert time.monotonic() < end, "they wait for the flood"
                exchange.hold(0.005)
            keys.issuer(exchange)

        keys.conduct = conduct
        tokens = [*(junk(at) for at in range(20)), *(token(name=f"user {at}") for at in range(10))]
        answers = asker.ask_all(tokens, at_once=30)
        assert answers[20:] == [LET_IN] * 10
        assert Counter(answers[:20]) == Counter({INVALID: 20 - in_vain, down(1): in_vain})
    assert keys.calls == 2


@troubles
@every_way
def test_f2_flood_in_an_outage_causes_one_fetch_in_ten_seconds(
    trouble: str, way: Way, keys: Published, clock: Clock, looks: Attempts, patient: None
) -> None:
    """The response is 503 and not 401, since a newly rotated key would look the same. Cached keys stay usable."""
    conduct, is_retried = TROUBLES[trouble]
    with keys.asker(way) as asker:
        assert asker.ask(token()) == LET_IN
        keys.conduct = conduct
        for flood in range(1, 3):
            clock.pass_by(10)
            for at in range(15):
                assert asker.ask(junk(at)) == asker.ask(junk(at + 1)) == down(10)
                assert asker.ask(token(name=f"{flood} {at}")) == LET_IN
            assert looks.count == 1 + flood + is_retried
        keys.conduct = None
        clock.pass_by(10)
        assert asker.ask(junk(0)) == INVALID
        assert asker.passed == 31


@troubles
@both_middlewares
def test_f2_stale_key_set_in_an_outage_causes_one_fetch_in_ten_seconds(
    trouble: str, way: Way, keys: Published, clock: Clock, looks: Attempts, patient: None
) -> None:
    """PyJWKClient fetches for every token here, and refuses all of them."""
    conduct, is_retried = TROUBLES[trouble]
    with keys.asker(way, timeout=0.1 if trouble == "hanging" else 30) as asker:
        assert asker.ask(token(**LASTING)) == LET_IN
        keys.conduct = conduct
        clock.pass_by(601)
        for look in range(1, 3):
            for at in range(25):
                assert asker.ask(token(name=f"{look} {at}", **LASTING)) == LET_IN
            assert looks.count == 1 + look + is_retried
            clock.pass_by(10)


# -- no keys at all -----------------------------------------------------------------------------------


@troubles
@every_way
def test_f3_outage_at_the_start_is_503_until_keys_are_fetched(
    trouble: str, way: Way, keys: Published, clock: Clock, looks: Attempts
) -> None:
    keys.conduct, _ = TROUBLES[trouble]
    with keys.asker(way, timeout=0.1 if trouble == "hanging" else 30) as asker:
        for at in range(50):
            assert asker.ask(token(name=f"{at}")) == asker.ask(junk(at)) == down(10)
        clock.pass_by(9.5)
        assert asker.ask(token()) == down(1)
        assert (looks.count, asker.passed) == (1, 0)
    clock.pass_by(0.5)
    keys.conduct = None
    with Asker(way, config_for(keys.server.url)) as fresh:  # as after a restart: nothing of this is on the disk
        assert fresh.ask(token()) == LET_IN


@every_way
def test_f3_first_request_after_ten_seconds_fetches_the_keys(way: Way, keys: Published, clock: Clock) -> None:
    keys.conduct = answering(503)
    with keys.asker(way) as asker:
        assert asker.ask(token()) == down(10)
        keys.conduct = None
        assert asker.ask(token()) == down(10)
        clock.pass_by(10)
        assert asker.ask(token()) == LET_IN
    assert keys.calls == 2


@every_way
def test_f3_refused_connection_is_503(way: Way, network: None, clock: Clock) -> None:
    with Asker(way, config_for(f"http://127.0.0.1:{closed_port()}")) as asker:
        assert [asker.ask(token()) for _ in range(3)] == [down(10)] * 3
        assert asker.passed == 0


@both_middlewares
def test_f4_stale_keys_are_used_for_a_day_and_then_503(way: Way, keys: Published, clock: Clock) -> None:
    seen = token(**LASTING)
    with keys.asker(way) as asker:
        assert asker.ask(seen) == LET_IN
        keys.conduct = answering(500)
        for hour in range(24):
            clock.pass_by(3599)
            assert [asker.ask(text) for text in (seen, token(name=f"{hour}", **LASTING), seen)] == [LET_IN] * 3
        assert keys.calls == 1 + 24
        clock.pass_by(24)
        assert asker.ask(seen) == asker.ask(token(name="24", **LASTING)) == down(10)
        assert asker.ask(junk(0, **LASTING)) == down(10)
        keys.conduct = None
        clock.pass_by(10)
        assert asker.ask(token(**LASTING)) == LET_IN


@both_middlewares
def test_f4_withdrawn_key_is_rejected_after_the_next_refresh(way: Way, keys: Published, clock: Clock) -> None:
    """For cached tokens too. Under ASGI the request that triggers the refresh still passes."""
    seen, late = token(**LASTING), token(name="late", **LASTING)
    with keys.asker(way) as asker:
        assert asker.ask(seen) == LET_IN
        keys.issuer.signers = {**SIGNERS, NORMAL: (NEW,)}
        clock.pass_by(599)
        assert asker.ask(seen) == asker.ask(late) == LET_IN
        assert keys.calls == 1
        clock.pass_by(1)
        assert asker.ask(seen) == (INVALID if way == "wsgi" else LET_IN)
        assert asker.ask(seen) == asker.ask(late) == asker.ask(token(**LASTING)) == INVALID
        assert asker.ask(token(signer=NEW, **LASTING)) == LET_IN
    assert keys.calls == 2
