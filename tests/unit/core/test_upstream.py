"""Effects, replies, and the retry rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from email.utils import format_datetime, formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.upstream import (
    Call,
    Failure,
    Led,
    NoReply,
    NoReplyKind,
    Refusal,
    Reply,
    Resume,
    Share,
    ShareEnd,
    fetch,
)
from stackauth_middleware.errors import AuthServerError, ErrorCode, RefusedError

from .helpers import NOW, WALL, bounded, reply

CANARY = "eyJ-canary"
DEAD = NoReply(NoReplyKind.UNSENT, "a dead pooled connection", inconclusive=True)


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
    assert (call.url, call.headers, call.body, call.fresh) == ("https://api.example/x", {"a": "b"}, b"body", False)
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


def test_call_has_no_body_and_led_shows_no_result() -> None:
    assert Call("GET", "https://api.example/x").body == b""
    assert (Led(1).result, repr(Led(1))) == (1, "Led(...)")


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
    share = Share("key", lambda: iter(()))
    assert (share.budget, share.wait, share.max_waiters) == (float("inf"), float("inf"), None)


def test_each_kind_of_missing_reply_has_its_own_description() -> None:
    """The description is logged, where it distinguishes a dead host from a slow one."""
    assert len({each.value for each in NoReplyKind}) == len(NoReplyKind) == 5
    assert len(ShareEnd) == 3


def test_text_of_a_missing_reply_is_its_reason() -> None:
    assert str(DEAD) == "a dead pooled connection"


def test_refusal_and_failures_become_the_exceptions_of_their_codes() -> None:
    """A wrong key of ours does not get better by a retry, so only an outage has a Retry-After."""
    refused = Refusal(ErrorCode.RESTRICTED_NOT_ALLOWED, "why", "email_not_verified").error()
    assert isinstance(refused, RefusedError)
    assert (refused.code, refused.detail) == (ErrorCode.RESTRICTED_NOT_ALLOWED, "why")
    assert refused.restricted_reason == "email_not_verified"
    outage = Failure(ErrorCode.SERVER_ERROR, "status 500").error(7)
    misconfigured = Failure(ErrorCode.MISCONFIGURED, "wrong key").error(7)
    assert isinstance(outage, AuthServerError)
    assert (outage.code, outage.retry_after, outage.detail) == (ErrorCode.SERVER_ERROR, 7, "status 500")
    assert (misconfigured.code, misconfigured.detail) == (ErrorCode.MISCONFIGURED, "wrong key")
    assert misconfigured.retry_after is None
