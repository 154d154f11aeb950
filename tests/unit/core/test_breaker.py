"""The circuit breaker: pauses, probes, and the clocks that they are measured on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.breaker import OPEN_FOR, OPENS_AFTER, Breaker
from stackauth_middleware._core.records import Clocks
from stackauth_middleware._core.upstream import Failure
from stackauth_middleware.errors import ErrorCode

from .helpers import MONO, NOW, WALL, bounded

OUTAGE = Failure(ErrorCode.SERVER_ERROR, "an outage")
KEY_FAULT = Failure(ErrorCode.SERVER_ERROR, "an odd account", key_only=True)
MISCONFIGURED = Failure(ErrorCode.MISCONFIGURED, "our key")


def throttled(seconds: int) -> Failure:
    return Failure(ErrorCode.SERVER_ERROR, "throttled", seconds)


def at(seconds: float) -> Clocks:
    return Clocks(WALL + seconds, MONO + seconds)


def failing(breaker: Breaker, *failures: tuple[Failure, str]) -> Breaker:
    for failure, key in failures:
        breaker = breaker.failed(failure, key, at(-0.1), NOW)
    return breaker


def opened() -> Breaker:
    return failing(Breaker(), *[(OUTAGE, "jane")] * OPENS_AFTER)


def test_new_breaker_permits_calls() -> None:
    assert Breaker().permit(NOW) == (Breaker(), True)
    assert not Breaker().is_open(NOW)
    assert Breaker().retry_after(NOW) == 1


def test_five_consecutive_failures_open_the_breaker_for_ten_seconds() -> None:
    four = failing(Breaker(), *[(OUTAGE, "jane")] * 4)
    assert not four.is_open(NOW)
    assert four.permit(NOW) == (four, True)
    five = four.failed(OUTAGE, "jane", at(-0.1), NOW)
    assert five.is_open(at(9.9))
    assert five.permit(at(9.9)) == (five, False)
    assert not five.is_open(at(10))
    assert five.retry_after(NOW) == 10
    assert five.retry_after(at(9.9)) == 1
    assert five.code is ErrorCode.SERVER_ERROR


def test_success_resets_the_count() -> None:
    four = failing(Breaker(), *[(OUTAGE, "jane")] * 4)
    assert four.succeeded(NOW) == Breaker()
    assert opened().succeeded(at(-1)) == Breaker()


def test_half_open_breaker_permits_one_probe() -> None:
    breaker, may = opened().permit(at(10))
    assert may
    assert breaker.permit(at(10)) == (breaker, False)
    assert breaker.permit(at(19.9)) == (breaker, False)
    assert breaker.permit(at(20))[1]


def test_successful_probe_closes_the_breaker() -> None:
    breaker, _ = opened().permit(at(10))
    assert breaker.succeeded(at(10)) == Breaker()


def test_failed_probe_keeps_the_breaker_open() -> None:
    breaker, _ = opened().permit(at(10))
    for failure, until in ((OUTAGE, 22), (KEY_FAULT, 22), (throttled(60), 72), (throttled(1), 22), (MISCONFIGURED, 22)):
        again = breaker.failed(failure, "john", at(10), at(12))
        assert again.permit(at(until - 0.1)) == (again, False)
        assert again.permit(at(until))[1]


def test_inconclusive_probe_permits_another() -> None:
    """A failure of a key that was counted before is no new evidence; it must not lock out all other keys."""
    users = [f"user {n}" for n in range(OPENS_AFTER)]
    breaker, _ = failing(Breaker(), *[(KEY_FAULT, key) for key in users]).permit(at(10))
    left = breaker.failed(KEY_FAULT, users[0], at(10), at(12))
    assert (left.failures, left.keys) == (OPENS_AFTER, frozenset(users))
    probing, may = left.permit(at(12))
    assert may
    assert probing.permit(at(12)) == (probing, False)


def test_inconclusive_call_that_is_not_the_probe_permits_nothing() -> None:
    breaker, _ = failing(Breaker(), *[(KEY_FAULT, f"user {n}") for n in range(OPENS_AFTER)]).permit(at(10))
    assert breaker.failed(KEY_FAULT, "user 0", at(-0.1), at(12)) == breaker


def test_cancelled_probe_permits_another() -> None:
    breaker, _ = opened().permit(at(10))
    left = breaker.withdrawn(at(10))
    probing, may = left.permit(at(10.5))
    assert may
    assert probing.permit(at(10.5))[1] is False


@pytest.mark.parametrize("breaker", [Breaker(), opened(), Breaker().failed(throttled(30), "jane", at(-0.1), NOW)])
def test_cancelled_call_that_is_not_the_probe_changes_nothing(breaker: Breaker) -> None:
    assert breaker.withdrawn(at(-1)) == breaker


def test_failures_of_one_key_count_once() -> None:
    breaker = failing(Breaker(), *[(KEY_FAULT, "jane")] * 50)
    assert (breaker.failures, breaker.is_open(NOW)) == (1, False)
    others = failing(breaker, *[(KEY_FAULT, f"user {n}") for n in range(4)])
    assert others.is_open(NOW)


def test_connection_failures_count_each_time_for_any_key() -> None:
    assert failing(Breaker(), (KEY_FAULT, "jane"), *[(OUTAGE, "jane")] * 4).is_open(NOW)


def test_number_of_counted_keys_is_bounded() -> None:
    breaker = failing(Breaker(), *[(KEY_FAULT, f"user {n}") for n in range(1000)])
    assert len(breaker.keys) == OPENS_AFTER


@pytest.mark.parametrize("seconds", [1, 7, 60])
def test_retry_after_opens_the_breaker_for_that_time(seconds: int) -> None:
    breaker = Breaker().failed(throttled(seconds), "jane", at(-0.1), NOW)
    assert breaker.permit(at(seconds - 0.01)) == (breaker, False)
    assert breaker.retry_after(NOW) == seconds
    assert breaker.permit(at(seconds))[1]


@pytest.mark.parametrize("late", [OUTAGE, KEY_FAULT, throttled(1), MISCONFIGURED])
def test_late_failure_does_not_shorten_a_pause(late: Failure) -> None:
    """A call made before Stack Auth requested a pause can fail after the request."""
    breaker = Breaker().failed(throttled(60), "jane", at(-0.1), NOW).failed(late, "john", at(-0.1), at(0.1))
    assert breaker.permit(at(59.9)) == (breaker, False)
    assert breaker.permit(at(60))[1]


def test_success_of_an_earlier_call_does_not_end_a_pause() -> None:
    for failure in (throttled(60), MISCONFIGURED):
        breaker = Breaker().failed(failure, "jane", at(-0.1), NOW)
        assert breaker.succeeded(at(-0.1)) == breaker
        assert breaker.succeeded(NOW) == Breaker()


def test_success_of_an_earlier_call_does_not_end_a_pause_after_an_outage() -> None:
    breaker = Breaker().failed(throttled(60), "jane", at(-0.1), NOW).failed(OUTAGE, "john", at(-0.1), at(0.1))
    assert breaker.succeeded(at(-0.1)) == breaker


def test_breaker_is_half_open_after_any_pause() -> None:
    """Otherwise all waiting requests would be sent at once."""
    for failure, seconds in ((throttled(3), 3.0), (MISCONFIGURED, OPEN_FOR)):
        breaker = Breaker().failed(failure, "jane", at(-0.1), NOW)
        probing, may = breaker.permit(at(seconds))
        assert may
        assert probing.permit(at(seconds))[1] is False


def test_misconfiguration_opens_the_breaker_at_once_with_its_own_code() -> None:
    breaker = Breaker().failed(MISCONFIGURED, "jane", at(-0.1), NOW)
    assert breaker.permit(at(9.9)) == (breaker, False)
    assert breaker.code is ErrorCode.MISCONFIGURED
    assert opened().code is ErrorCode.SERVER_ERROR


@pytest.mark.parametrize(("wall", "mono"), [(10.0, 0.0), (0.0, 10.0), (-3600.0, 10.0)], ids=str)
def test_pause_ends_on_the_clock_that_advanced_further(wall: float, mono: float) -> None:
    """A suspended host stops the monotonic clock; the wall clock can be set back."""
    before, end = Clocks(WALL + wall - 0.1, MONO + mono - 0.1), Clocks(WALL + wall, MONO + mono)
    breaker = opened()
    assert breaker.permit(before) == (breaker, False)
    assert breaker.retry_after(before) == 1
    probing, may = breaker.permit(end)
    assert may
    assert probing.permit(end)[1] is False


outcomes = st.sampled_from([OUTAGE, KEY_FAULT, throttled(1), throttled(60), MISCONFIGURED, None])
seconds_ = st.integers(0, 30)
steps = st.lists(st.tuples(outcomes, seconds_, seconds_, st.sampled_from("abc")), max_size=40)


@bounded
@given(steps)
def test_open_breaker_permits_no_call_before_its_promised_end(steps_taken: Any) -> None:
    """Sequential calls, on clocks that advance differently: the promise ends on whichever clock reaches it first."""
    breaker, now, promised = Breaker(), NOW, NOW
    for outcome, wall, mono, key in steps_taken:
        now = Clocks(now.wall + wall, now.mono + mono)
        breaker, may = breaker.permit(now)
        assert may == (now.wall >= promised.wall or now.mono >= promised.mono)
        if not may:
            continue
        breaker = breaker.succeeded(now) if outcome is None else breaker.failed(outcome, key, now, now)
        pause = max(0.0, breaker.remaining(now))
        promised = Clocks(now.wall + pause, now.mono + pause)
        assert pause <= 60
        if outcome is not None and outcome.retry_after:
            assert pause >= outcome.retry_after
    assert breaker.permit(Clocks(now.wall + 60, now.mono))[1]
