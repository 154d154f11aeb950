"""Replies of the Stack Auth API: the object or the error in one."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Any

import pytest

from stackauth_middleware._core.replies import MAX_PARTS, nested_too_deeply, read_object
from stackauth_middleware._core.upstream import Failure, NoReply, ShareEnd
from stackauth_middleware.errors import ErrorCode

from .helpers import NO_REPLIES, NOW, TOO_LARGE, USER_ID, reply

REFUSALS = {
    "USER_NOT_FOUND": ErrorCode.INVALID_TOKEN,
    "RESTRICTED_USER_NOT_ALLOWED": ErrorCode.RESTRICTED_NOT_ALLOWED,
}


def known(code: str, status: int, details: Any = None, **headers: str) -> Any:
    """Return a known error as Stack Auth sends it (docs/stack-auth.md section 6)."""
    body = {"code": code, "error": "words", **({"details": details} if details is not None else {})}
    return reply(json.dumps(body, indent=2).encode(), status, **headers)


def reading(answer: Any) -> Any:
    return read_object(answer, NOW, REFUSALS, "users/me")


MISCONFIGURED = {
    "INVALID_SECRET_SERVER_KEY": 401,
    "SERVER_AUTHENTICATION_REQUIRED": 401,
    "INVALID_PUBLISHABLE_CLIENT_KEY": 401,
    "PUBLISHABLE_CLIENT_KEY_REQUIRED_FOR_PROJECT": 401,
    "INSUFFICIENT_ACCESS_TYPE": 401,
    "CURRENT_PROJECT_NOT_FOUND": 400,
    "BRANCH_DOES_NOT_EXIST": 400,
    "ACCESS_TYPE_REQUIRED": 400,
    "ACCESS_TYPE_WITHOUT_PROJECT_ID": 400,
    "PROJECT_KEY_WITHOUT_ACCESS_TYPE": 400,
    "INVALID_ACCESS_TYPE": 400,
    "SCHEMA_ERROR": 400,
}


@pytest.mark.parametrize("code", MISCONFIGURED)
def test_rejected_key_of_ours_is_misconfigured(code: str) -> None:
    for answer in (known(code, MISCONFIGURED[code]), known(code, 200, x_hexclave_actual_status="401")):
        assert reading(answer) == Failure(ErrorCode.MISCONFIGURED, f"users/me says {code}")


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"restricted_reason": {"type": "email_not_verified"}}, "email_not_verified"),
        ({"restricted_reason": {"type": 1}}, None),
        ({"restricted_reason": "email_not_verified"}, None),
        ({}, None),
        ([], None),
        ("text", None),
    ],
)
def test_restriction_reason_is_passed_on_if_it_is_a_string(details: Any, reason: str | None) -> None:
    answer = known("RESTRICTED_USER_NOT_ALLOWED", 403, details)
    assert reading(answer).restricted_reason == reason


def too_large(detail: str) -> Failure:
    return Failure(ErrorCode.SERVER_ERROR, detail, key_only=True, is_outage=False)


def with_metadata(metadata: bytes, status: int = 200, **headers: str) -> Any:
    return reply(b'{"id": "%b", "client_metadata": %b}' % (USER_ID.encode(), metadata), status, **headers)


TOO_DEEP = b"[" * 30_000 + b"]" * 30_000
TOO_MANY = b"[" + b"0," * MAX_PARTS + b"0]"


def test_reply_that_is_nested_too_deeply_to_parse_is_a_failure_of_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata is user-controlled. Python 3.15 parses any depth, and `profiles` fails to freeze the result."""

    def loads(_: str) -> Any:
        raise RecursionError

    monkeypatch.setattr("stackauth_middleware._core.replies.json.loads", loads)
    assert reading(with_metadata(TOO_DEEP)) == nested_too_deeply() == too_large("a reply nested too deeply")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b"\xff\xfe{}", b'{"n": ' + b"1" * 5000 + b"}"])
def test_200_without_an_object_is_an_empty_object(body: bytes) -> None:
    assert reading(reply(body)) == {}


@pytest.mark.parametrize("metadata", [TOO_DEEP, TOO_MANY], ids=["too deep", "too many parts"])
@pytest.mark.parametrize(("status", "for_user"), [(500, True), (404, False)])
def test_status_decides_even_if_the_body_is_too_large_to_parse(metadata: bytes, status: int, for_user: bool) -> None:
    """The actual status counts, even if hidden by a 200, and so does a Retry-After."""
    failure = Failure(ErrorCode.SERVER_ERROR, f"status {status}", key_only=for_user)
    assert reading(with_metadata(metadata, status)) == failure
    assert reading(with_metadata(metadata, x_stack_actual_status=str(status))) == failure
    paused = failure._replace(retry_after=7, key_only=False)
    assert reading(with_metadata(metadata, status, retry_after="7")) == paused


@pytest.mark.parametrize("part", ["[]", "{}", "0"])
def test_reply_with_too_many_parts_is_not_parsed(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(parts: int) -> Any:
        return with_metadata(b"[%b]" % ",".join([part] * parts).encode())

    most = (MAX_PARTS - 2) // (1 if part == "0" else 2)
    assert reading(answer(most))["id"] == USER_ID
    monkeypatch.setattr(json, "loads", lambda *_: pytest.fail("parsed"))
    assert reading(answer(most + 1)) == too_large("a reply of too many parts")


@pytest.mark.parametrize("answer", [each for each in NO_REPLIES if each is not TOO_LARGE])
def test_no_reply_is_a_failure_for_all_keys(answer: NoReply) -> None:
    assert reading(answer) == Failure(ErrorCode.SERVER_ERROR, answer.reason)


def test_reply_over_the_size_limit_is_a_failure_of_its_key() -> None:
    """Otherwise a user with large metadata could open the breaker for all users."""
    assert reading(TOO_LARGE) == too_large(TOO_LARGE.reason)


def test_result_of_a_share_is_a_failure() -> None:
    assert reading(ShareEnd.FULL).code is ErrorCode.SERVER_ERROR


@pytest.mark.parametrize(
    ("status", "for_user"),
    [(204, False), (302, False), (403, False), (404, False), (429, False), (500, True), (502, True), (503, True)],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"message": "words"}'])
def test_without_a_code_the_status_decides_whether_the_key_is_at_fault(
    status: int, for_user: bool, body: bytes
) -> None:
    assert reading(reply(body, status)) == Failure(ErrorCode.SERVER_ERROR, f"status {status}", key_only=for_user)


def test_hidden_status_is_used() -> None:
    """Stack Auth can hide a refusal behind a 200 (docs/stack-auth.md section 6)."""
    for header in ("x_stack_actual_status", "x_hexclave_actual_status"):
        made = reading(reply({"id": USER_ID}, 200, **{header: "500"}))
        assert made == Failure(ErrorCode.SERVER_ERROR, "status 500", key_only=True)


def test_unknown_code_is_a_failure() -> None:
    for status in (400, 401, 403, 500):
        made = reading(known("A_CODE_OF_TOMORROW", status))
        assert made == Failure(ErrorCode.SERVER_ERROR, f"status {status}", key_only=True)


@pytest.mark.parametrize("status", [403, 429, 500, 503])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"code": "rate_limited"}'])
@pytest.mark.parametrize(("value", "seconds"), [("5", 5), ("0", 1), ("60", 60), ("86400", 60)])
def test_retry_after_is_honoured_with_any_body(status: int, body: bytes, value: str, seconds: int) -> None:
    """A firewall in front of Stack Auth sends its own bodies and codes."""
    made = reading(reply(body, status, retry_after=value))
    assert made == Failure(ErrorCode.SERVER_ERROR, f"status {status}", seconds)


def test_retry_after_can_be_a_date() -> None:
    """Relative to the wall clock."""
    date = formatdate(NOW.wall + 30, usegmt=True)
    assert reading(reply(b"", 503, retry_after=date)).retry_after == 30
