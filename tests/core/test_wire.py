"""The records that cross a door or an edge: what they show, and how an answer's headers are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from email.utils import format_datetime, formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._wire import Call, Flight, FlightEnd, Inbound, NoReplyKind, Reply, Response, Tick

from .helpers import NOW, WALL, bounded, reply

CANARY = "eyJ-canary"


@pytest.mark.parametrize(
    "record",
    [
        Inbound("GET", "/a", "", {"authorization": CANARY}),
        Call("https://api.example/jwks", 1024, {"x-stack-secret-server-key": CANARY}),
        Reply(200, {"x": CANARY}, CANARY.encode()),
        Tick(Reply(200, {"x": CANARY}, CANARY.encode()), NOW),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_that_holds_credentials_does_not_show_them(record: object) -> None:
    """A repr ends up in logs and in tracebacks that render locals."""
    assert CANARY not in repr(record)
    assert CANARY not in f"{record}"


@pytest.mark.parametrize(
    "record",
    [Inbound("GET", "/", "", {}), Call("https://api.example/jwks", 1024), Reply(200, {}, b"")],
    ids=lambda record: type(record).__name__,
)
def test_a_record_that_holds_credentials_has_no_members_to_walk(record: object) -> None:
    """As an error tracker would; a test in tests/rest/test_canaries.py does."""
    assert not isinstance(record, Mapping | Sequence | Iterable)
    assert not hasattr(record, "__dict__")


def test_an_inbound_shows_what_helps_to_find_a_fault() -> None:
    shown = repr(Inbound("GET", "/a\n", "/r", {"origin": "o", "authorization": "s"}))
    assert shown == "Inbound('GET', '/a\\n', '/r', ['authorization', 'origin'])"


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
    flight = Flight("key", lambda: iter(()))  # type: ignore[arg-type,return-value]
    assert (flight.carry, flight.wait, flight.max_waiters) == (float("inf"), float("inf"), None)


def test_every_way_to_get_no_reply_has_words_of_its_own() -> None:
    """The words go into the log, where they are all that tells a dead host from a slow one."""
    assert len({each.value for each in NoReplyKind}) == len(NoReplyKind) == 5
    assert len(FlightEnd) == 3


def test_a_response_is_in_the_forms_of_both_doors() -> None:
    response = Response.of(503, [("Retry-After", "7")], b"x")
    assert (response.status_line, response.headers) == ("503 Service Unavailable", (("Retry-After", "7"),))
    assert (response.status, response.raw_headers, response.body) == (503, ((b"retry-after", b"7"),), b"x")


def test_responses_compare_by_value() -> None:
    """The oracles of the doors compare responses whole."""
    assert Response.of(401, [("A", "b")], b"x") == Response.of(401, (("A", "b"),), b"x")
