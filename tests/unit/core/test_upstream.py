"""The effects, what is read off an answer, the retry rule, and the circuit breaker."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from email.utils import format_datetime, formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
ODD = Failure(ErrorCode.SERVER_ERROR, "an odd account", key_only=True)
OUR_FAULT = Failure(ErrorCode.MISCONFIGURED, "our key")


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
def test_record_shows_no_credential_and_has_no_members_to_walk(record: object) -> None:
    """A repr ends up in logs; error trackers render locals, and the members of what they find there."""
    assert CANARY not in repr(record)
    assert not isinstance(record, Mapping | Sequence | Iterable)
    assert not hasattr(record, "__dict__")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "POST", "PATCH"])
@pytest.mark.parametrize("stated", [None, True, False])
def test_only_an_idempotent_call_is_sent_again_and_on_a_new_connection(method: str, stated: bool | None) -> None:
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
    ("status", "headers", "meant"),
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
def test_the_status_that_is_meant(status: int, headers: dict[str, str], meant: int) -> None:
    """Stack Auth can hide a 4xx behind a 200. What cannot be read is a fault, and nothing makes a success."""
    assert Reply(status, headers, b"").meant_status == meant


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
def test_retry_after_is_kept_within_bounds(value: str, seconds: int | None) -> None:
    assert reply(retry_after=value).retry_after(WALL) == seconds


def test_retry_after_rounds_up() -> None:
    """Coming back a moment too early would only be refused again."""
    then = format_datetime(datetime.fromtimestamp(WALL + 10, timezone.utc), usegmt=True)
    assert reply(retry_after=then).retry_after(WALL + 0.5) == 10


def test_retry_after_is_none_where_it_is_not_said() -> None:
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
    """Whatever an upstream writes there, the answer is whole seconds from 1 to 60, or none."""
    assert reply(retry_after=value).retry_after(WALL) in (None, *range(1, 61))


def test_a_flight_may_take_its_time_unless_it_is_told_not_to() -> None:
    flight = Share("key", lambda: iter(()))  # type: ignore[arg-type,return-value]
    assert (flight.budget, flight.wait, flight.max_waiters) == (float("inf"), float("inf"), None)


def test_every_way_to_get_no_reply_has_words_of_its_own() -> None:
    """The words go into the log, where they are all that tells a dead host from a slow one."""
    assert len({each.value for each in NoReplyKind}) == len(NoReplyKind) == 5
    assert len(ShareEnd) == 3


# -- the breaker --------------------------------------------------------------------------------------


def failing(breaker: Breaker, *failures: tuple[Failure, str, float]) -> Breaker:
    for failure, user_id, mono in failures:
        breaker = breaker.failed(failure, user_id, mono - 0.1, mono)
    return breaker


def opened(mono: float = MONO) -> Breaker:
    return failing(Breaker(), *[(OUTAGE, "jane", mono)] * OPENS_AFTER)


def test_a_new_breaker_lets_calls_through() -> None:
    assert Breaker().permit(MONO) == (Breaker(), True)
    assert not Breaker().is_open(MONO)
    assert Breaker().retry_after(MONO) == 1


def test_five_failures_in_a_row_open_it_for_ten_seconds() -> None:
    four = failing(Breaker(), *[(OUTAGE, "jane", MONO)] * 4)
    assert not four.is_open(MONO)
    assert four.permit(MONO) == (four, True)
    five = four.failed(OUTAGE, "jane", MONO - 0.1, MONO)
    assert five.is_open(MONO + 9.9)
    assert five.permit(MONO + 9.9) == (five, False)
    assert not five.is_open(MONO + 10)
    assert five.retry_after(MONO) == 10
    assert five.retry_after(MONO + 9.9) == 1
    assert five.code is ErrorCode.SERVER_ERROR


def test_a_success_starts_the_count_anew() -> None:
    four = failing(Breaker(), *[(OUTAGE, "jane", MONO)] * 4)
    assert four.succeeded(MONO) == Breaker()
    assert opened().succeeded(MONO - 1) == Breaker()


def test_one_probe_at_a_time() -> None:
    breaker, may = opened().permit(MONO + 10)
    assert may
    assert breaker.permit(MONO + 10) == (breaker, False)
    assert breaker.permit(MONO + 19.9) == (breaker, False)
    assert breaker.permit(MONO + 20)[1]


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker, _ = opened().permit(MONO + 10)
    assert breaker.succeeded(MONO + 10) == Breaker()


def test_a_probe_that_fails_keeps_it_open() -> None:
    breaker, _ = opened().permit(MONO + 10)
    for failure, until in ((OUTAGE, 22), (ODD, 22), (throttled(60), 72), (throttled(1), 22), (OUR_FAULT, 22)):
        again = breaker.failed(failure, "john", MONO + 10, MONO + 12)
        assert again.open_until == MONO + until
        assert again.permit(MONO + until - 0.1) == (again, False)


def test_a_probe_about_a_user_whose_faults_are_counted_gives_its_place_to_another() -> None:
    """It says no more of Stack Auth than it did before: whoever asks first would else keep the others out."""
    users = [f"user {n}" for n in range(OPENS_AFTER)]
    breaker, _ = failing(Breaker(), *[(ODD, user_id, MONO) for user_id in users]).permit(MONO + 10)
    left = breaker.failed(ODD, users[0], MONO + 10, MONO + 12)
    assert (left.failures, left.keys) == (OPENS_AFTER, frozenset(users))
    probing, may = left.permit(MONO + 12)
    assert may
    assert probing.permit(MONO + 12) == (probing, False)


def test_another_call_about_a_user_whose_faults_are_counted_frees_no_probe() -> None:
    breaker, _ = failing(Breaker(), *[(ODD, f"user {n}", MONO) for n in range(OPENS_AFTER)]).permit(MONO + 10)
    assert breaker.failed(ODD, "user 0", MONO - 0.1, MONO + 12) == breaker


def test_a_probe_whose_caller_left_gives_its_place_to_another() -> None:
    breaker, _ = opened().permit(MONO + 10)
    left = breaker.withdrawn(MONO + 10)
    probing, may = left.permit(MONO + 10.5)
    assert may
    assert probing.permit(MONO + 10.5)[1] is False


@pytest.mark.parametrize("breaker", [Breaker(), opened(), Breaker().failed(throttled(30), "jane", MONO - 0.1, MONO)])
def test_another_caller_that_leaves_opens_nothing(breaker: Breaker) -> None:
    assert breaker.withdrawn(MONO - 1) == breaker


def test_one_users_faults_count_once() -> None:
    breaker = failing(Breaker(), *[(ODD, "jane", MONO)] * 50)
    assert (breaker.failures, breaker.is_open(MONO)) == (1, False)
    others = failing(breaker, *[(ODD, f"user {n}", MONO) for n in range(4)])
    assert others.is_open(MONO)


def test_a_connection_failure_counts_each_time_also_for_a_user_with_faults() -> None:
    assert failing(Breaker(), (ODD, "jane", MONO), *[(OUTAGE, "jane", MONO)] * 4).is_open(MONO)


def test_the_keys_are_not_collected_without_end() -> None:
    breaker = failing(Breaker(), *[(ODD, f"user {n}", MONO) for n in range(1000)])
    assert len(breaker.keys) == OPENS_AFTER


@pytest.mark.parametrize("seconds", [1, 7, 60])
def test_retry_after_opens_it_for_as_long_as_is_said(seconds: int) -> None:
    breaker = Breaker().failed(throttled(seconds), "jane", MONO - 0.1, MONO)
    assert breaker.permit(MONO + seconds - 0.01) == (breaker, False)
    assert breaker.retry_after(MONO) == seconds
    assert breaker.permit(MONO + seconds)[1]


@pytest.mark.parametrize("late", [OUTAGE, ODD, throttled(1), OUR_FAULT])
def test_a_late_failure_does_not_cut_a_pause_short(late: Failure) -> None:
    """Calls that were on their way when Stack Auth asked for a pause come back after it did."""
    breaker = Breaker().failed(throttled(60), "jane", MONO - 0.1, MONO).failed(late, "john", MONO - 0.1, MONO + 0.1)
    assert breaker.open_until == MONO + 60


def test_a_late_success_does_not_end_a_pause_that_was_asked_for_after_it() -> None:
    for told in (throttled(60), OUR_FAULT):
        breaker = Breaker().failed(told, "jane", MONO - 0.1, MONO)
        assert breaker.succeeded(MONO - 0.1) == breaker
        assert breaker.succeeded(MONO) == Breaker()


def test_a_later_outage_does_not_let_an_early_success_end_a_pause() -> None:
    breaker = Breaker().failed(throttled(60), "jane", MONO - 0.1, MONO).failed(OUTAGE, "john", MONO - 0.1, MONO + 0.1)
    assert breaker.succeeded(MONO - 0.1) == breaker


def test_after_any_pause_one_call_goes_first() -> None:
    """A pause that ends for all at once would send everybody at once."""
    for told, seconds in ((throttled(3), 3.0), (OUR_FAULT, OPEN_FOR)):
        breaker = Breaker().failed(told, "jane", MONO - 0.1, MONO)
        probing, may = breaker.permit(MONO + seconds)
        assert may
        assert probing.permit(MONO + seconds)[1] is False


def test_a_fault_of_ours_opens_it_at_once_under_its_own_row() -> None:
    breaker = Breaker().failed(OUR_FAULT, "jane", MONO - 0.1, MONO)
    assert breaker.permit(MONO + 9.9) == (breaker, False)
    assert breaker.code is ErrorCode.MISCONFIGURED
    assert opened().code is ErrorCode.SERVER_ERROR


outcomes = st.sampled_from([OUTAGE, ODD, throttled(1), throttled(60), OUR_FAULT, None])
steps = st.lists(st.tuples(outcomes, st.floats(0, 30), st.sampled_from("abc")), max_size=40)


@bounded
@given(steps)
def test_in_any_course_an_open_breaker_stays_open_for_as_long_as_it_said(course: Any) -> None:
    """A model of one caller after another: nothing is sent while it is open, and it always opens again in time."""
    breaker, mono, promised = Breaker(), MONO, -math.inf
    for outcome, passes, user_id in course:
        mono += passes
        breaker, may = breaker.permit(mono)
        assert may == (mono >= promised)
        if not may:
            continue
        breaker = breaker.succeeded(mono) if outcome is None else breaker.failed(outcome, user_id, mono, mono)
        promised = breaker.open_until
        assert promised <= mono + 60
        if outcome is not None and outcome.retry_after:
            assert promised >= mono + outcome.retry_after
    assert breaker.permit(mono + 60)[1]
