"""Effects, replies, the retry rule, and the circuit breaker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from email.utils import format_datetime, formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.records import Clocks
from stackauth_middleware._core.upstream import (
    OPEN_FOR,
    OPENS_AFTER,
    Breaker,
    Call,
    Failure,
    Led,
    NoReply,
    NoReplyKind,
    Reply,
    Resume,
    Share,
    ShareEnd,
    fetch,
)
from stackauth_middleware.errors import ErrorCode

from .helpers import MONO, NOW, WALL, bounded, reply

CANARY = "eyJ-canary"
DEAD = NoReply(NoReplyKind.UNSENT, "a dead pooled connection", inconclusive=True)
OUTAGE = Failure(ErrorCode.SERVER_ERROR, "an outage")
KEY_FAULT = Failure(ErrorCode.SERVER_ERROR, "an odd account", key_only=True)
MISCONFIGURED = Failure(ErrorCode.MISCONFIGURED, "our key")


def throttled(seconds: int) -> Failure:
    return Failure(ErrorCode.SERVER_ERROR, "throttled", seconds)


@pytest.mark.parametrize(
    "record",
    [
        Call("POST", "https://api.example/x", {"x-stack-secret-server-key": CANARY}, CANARY.encode()),
        Reply(200, {"x": CANARY}, CANARY.encode()),
        Led(CANARY),
    ],
    ids=lambda record: type(record).__name__,
)
def test_repr_shows_no_credential_and_the_object_is_no_container(record: object) -> None:
    """A repr is logged; error trackers record local variables and the members of containers."""
    assert CANARY not in repr(record)
    assert not isinstance(record, Mapping | Sequence | Iterable)
    assert not hasattr(record, "__dict__")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "POST", "PATCH"])
@pytest.mark.parametrize("stated", [None, True, False])
def test_only_an_idempotent_call_is_retried_on_a_new_connection(method: str, stated: bool | None) -> None:
    call = Call(method, "https://api.example/x", {"a": "b"}, b"body", 10, idempotent=stated)
    script = fetch(call)
    assert next(script) is call
    if stated is False or (stated is None and method in ("POST", "PATCH")):
        with pytest.raises(StopIteration) as stop:
            script.send(Resume(DEAD, NOW))
        assert stop.value.value.answer is DEAD
        return
    again = script.send(Resume(DEAD, NOW))
    assert isinstance(again, Call)
    assert (again.method, again.url, again.headers) == (method, call.url, call.headers)
    assert (again.body, again.max_bytes, again.idempotent, again.fresh) == (b"body", 10, True, True)


@pytest.mark.parametrize(
    ("status", "headers", "actual"),
    [
        (200, {}, 200),
        (404, {}, 404),
        (200, {"x-stack-actual-status": "401"}, 401),
        (200, {"x-hexclave-actual-status": "403"}, 403),
        (200, {"x-stack-actual-status": "", "x-hexclave-actual-status": "400"}, 400),
        (200, {"x-stack-actual-status": "401", "x-hexclave-actual-status": "200"}, 401),
        (302, {"x-stack-actual-status": "401"}, 401),
        (400, {"x-stack-actual-status": "200"}, 400),
        (503, {"x-stack-actual-status": "200"}, 503),
        (302, {"x-stack-actual-status": "200"}, 302),
        (204, {"x-hexclave-actual-status": "200"}, 204),
        (200, {"x-stack-actual-status": "200", "x-hexclave-actual-status": "401"}, 401),
        (200, {"x-stack-actual-status": "teapot"}, 502),
        (200, {"x-stack-actual-status": "40"}, 502),
        (200, {"x-stack-actual-status": "4010"}, 502),
        (200, {"x-stack-actual-status": "-40"}, 502),
        (200, {"x-stack-actual-status": "\u0664\u0660\u0661"}, 502),
        (200, {"x-stack-actual-status": " 401"}, 502),
    ],
    ids=str,
)
def test_actual_status(status: int, headers: dict[str, str], actual: int) -> None:
    """A 200 can hide a 4xx. A header that cannot be parsed is a 502, and none turns an error into a success."""
    assert Reply(status, headers, b"").meant_status == actual


def in_seconds(seconds: float) -> str:
    return formatdate(WALL + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("0", 1),
        ("1", 1),
        ("30", 30),
        (" 30 ", 30),
        ("60", 60),
        ("61", 60),
        ("9" * 5000, 60),
        ("\u0663", None),
        (in_seconds(20), 20),
        (in_seconds(-3600), 1),
        (in_seconds(3600), 60),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 60),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 1),
        ("Fri, 99 Dec 2026 23:59:59 GMT", None),
        ("Mon, 01 Jan 2026 00:00:00 +99999999999999999999", None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_retry_after_is_clamped(value: str, seconds: int | None) -> None:
    assert reply(retry_after=value).retry_after(WALL) == seconds


def test_retry_after_rounds_up() -> None:
    """A retry a moment too early would be refused again."""
    then = format_datetime(datetime.fromtimestamp(WALL + 10, timezone.utc), usegmt=True)
    assert reply(retry_after=then).retry_after(WALL + 0.5) == 10


def test_retry_after_is_none_without_the_header() -> None:
    assert reply().retry_after(WALL) is None


@bounded
@given(
    st.text(max_size=40)
    | st.lists(
        st.sampled_from(
            ["Mon, ", "01", " ", "Jan", "2026", ":", "-0000", "+9999", "GMT", "(", "9999999999", "\t", "\xff"]
        ),
        max_size=10,
    ).map("".join)
)
def test_retry_after_never_raises(value: str) -> None:
    """Any header value gives whole seconds from 1 to 60, or None."""
    assert reply(retry_after=value).retry_after(WALL) in (None, *range(1, 61))


def test_share_has_no_limits_by_default() -> None:
    share = Share("key", lambda: iter(()))  # type: ignore[arg-type,return-value]
    assert (share.budget, share.wait, share.max_waiters) == (float("inf"), float("inf"), None)


def test_each_kind_of_missing_reply_has_its_own_description() -> None:
    """The description is logged, where it distinguishes a dead host from a slow one."""
    assert len({each.value for each in NoReplyKind}) == len(NoReplyKind) == 5
    assert len(ShareEnd) == 3


# -- the breaker --------------------------------------------------------------------------------------


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
