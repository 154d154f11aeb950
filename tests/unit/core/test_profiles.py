"""The call to users/me, and the reader of its replies."""

from __future__ import annotations

import json
import re
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware import StackAuthConfig
from stackauth_middleware._core.profiles import MAX_BYTES, MAX_PARTS, ProfileLookup, call, read
from stackauth_middleware._core.upstream import Answer, Call, Failure, NoReply, Refusal, ShareEnd
from stackauth_middleware._core.users import UserProfile, user_from_claims
from stackauth_middleware._version import __version__
from stackauth_middleware.errors import ErrorCode

from .helpers import (
    API,
    NO_REPLIES,
    NORMAL,
    NOW,
    PROJECT,
    TOO_LARGE,
    USER_ID,
    Clock,
    Pump,
    bounded,
    claims,
    reply,
)

SECRET = "ssk_canary"
PUBLISHABLE = "pck_canary"


def known(code: str, status: int, details: Any = None, **headers: str) -> Any:
    """Return a known error as Stack Auth sends it (docs/stack-auth.md section 6)."""
    body = {"code": code, "error": "words", **({"details": details} if details is not None else {})}
    return reply(json.dumps(body, indent=2).encode(), status, **headers)


def reading(answer: Any) -> Any:
    return read(answer, USER_ID, NOW)


# -- the lookup (what all lookups do is in test_lookup.py) --------------------------------------------


def test_profile_is_fetched_with_the_token_and_cached_by_user_for_profile_ttl() -> None:
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET, profile_ttl=30)
    lookup, clock, calls = ProfileLookup(config), Clock(), list[Call]()
    user = user_from_claims(claims(NORMAL), NORMAL, b"{}")

    def users_me(made: Call) -> Answer:
        calls.append(made)
        return reply({"id": USER_ID, "display_name": f"reply {len(calls)}"})

    def name(token: str, *, fresh: bool = False) -> str | None:
        script = lookup.profile(user, token, token.encode(), clock.now, fresh=fresh)
        profile: UserProfile = Pump(clock, users_me)(script)
        return profile.display_name

    assert name("one") == name("two") == "reply 1"
    (made,) = calls
    expected = call(config, "one", __version__)
    assert (made.method, made.url, made.headers) == ("GET", expected.url, expected.headers)
    clock.pass_by(30)
    assert name("two") == "reply 2"
    clock.pass_by(2)
    assert name("two", fresh=True) == "reply 3"


# -- the call -----------------------------------------------------------------------------------------


def test_server_access_sends_exactly_these_headers() -> None:
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET, publishable_client_key=PUBLISHABLE)
    made = call(config, "to.ke.n", "1.2.3")
    assert made.url == f"{API}/api/v1/users/me"
    assert made.max_bytes == MAX_BYTES == 1_048_576
    assert made.headers == {
        "accept": "application/json",
        "x-stack-project-id": PROJECT,
        "x-stack-access-token": "to.ke.n",
        "x-stack-allow-anonymous-user": "true",
        "x-stack-client-version": "python @stackauth/middleware@1.2.3",
        "x-stack-access-type": "server",
        "x-stack-secret-server-key": SECRET,
    }


def test_client_access_is_used_without_a_secret_key() -> None:
    config = StackAuthConfig(project_id=PROJECT, publishable_client_key=PUBLISHABLE)
    assert call(config, "to.ke.n", "1.2.3").headers == {
        "accept": "application/json",
        "x-stack-project-id": PROJECT,
        "x-stack-access-token": "to.ke.n",
        "x-stack-allow-anonymous-user": "true",
        "x-stack-client-version": "python @stackauth/middleware@1.2.3",
        "x-stack-access-type": "client",
        "x-stack-publishable-client-key": PUBLISHABLE,
    }


def test_client_version_has_the_form_that_the_back_end_parses() -> None:
    """The back end silently ignores a value of another form (docs/stack-auth.md section 5)."""
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET)
    sent = call(config, "to.ke.n", __version__).headers["x-stack-client-version"]
    assert re.fullmatch(r"(\w+)\s+(@[\w/]+)@([\d.]+)", sent, re.ASCII)


def test_repr_of_the_call_shows_no_credential() -> None:
    shown = repr(call(StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET), "to.ke.n", "1"))
    assert SECRET not in shown
    assert "to.ke.n" not in shown


# -- the reading --------------------------------------------------------------------------------------

REFUSALS = {
    "UNPARSABLE_ACCESS_TOKEN": (401, ErrorCode.INVALID_TOKEN),
    "ACCESS_TOKEN_EXPIRED": (401, ErrorCode.EXPIRED_TOKEN),
    "INVALID_PROJECT_FOR_ACCESS_TOKEN": (401, ErrorCode.INVALID_TOKEN),
    "CANNOT_GET_OWN_USER_WITHOUT_USER": (400, ErrorCode.INVALID_TOKEN),
    "ANONYMOUS_AUTHENTICATION_NOT_ALLOWED": (401, ErrorCode.ANONYMOUS_NOT_ALLOWED),
    "RESTRICTED_USER_NOT_ALLOWED": (403, ErrorCode.RESTRICTED_NOT_ALLOWED),
}
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


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("form", ["plain", "hidden by a 200", "wrong status"])
def test_refusal_is_recognised_by_its_code(code: str, form: str) -> None:
    status, error_code = REFUSALS[code]
    answer = {
        "plain": known(code, status),
        "hidden by a 200": known(code, 200, x_stack_actual_status=str(status)),
        "wrong status": known(code, 500),
    }[form]
    assert reading(answer) == Refusal(error_code, f"users/me says {code}")


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


def test_200_with_the_user_id_is_the_profile() -> None:
    made = reading(reply({"id": USER_ID, "display_name": "Jane", "is_restricted": True}))
    assert isinstance(made, UserProfile)
    assert (made.id, made.display_name, made.is_restricted, made.is_anonymous) == (USER_ID, "Jane", True, False)


def test_profile_may_have_a_member_named_code() -> None:
    """Only the error codes known today are read as such."""
    made = reading(reply({"id": USER_ID, "code": "SOMETHING_NEW"}))
    assert isinstance(made, UserProfile)
    assert made.raw == {"code": "SOMETHING_NEW"}


NO_PROFILE = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"<html>200 OK</html>",
    b'{"id": "' + USER_ID.encode(),
    b"\xff\xfe{}",
    json.dumps({"id": "33333333-3333-4333-8333-333333333333"}).encode(),
    json.dumps({"id": f"{USER_ID} "}).encode(),
    json.dumps({"id": [USER_ID]}).encode(),
    json.dumps({"code": ["RESTRICTED_USER_NOT_ALLOWED"]}).encode(),
    json.dumps([{"id": USER_ID}]).encode(),
    b'{"id": "' + USER_ID.encode() + b'", "n": ' + b"1" * 5000 + b"}",
]


@pytest.mark.parametrize("body", NO_PROFILE, ids=range(len(NO_PROFILE)))
def test_200_without_the_profile_of_this_user_is_a_failure(body: bytes) -> None:
    made = reading(reply(body))
    assert isinstance(made, Failure)
    assert made == Failure(ErrorCode.SERVER_ERROR, "a 200 that is not the profile of this user", key_only=True)


@pytest.mark.parametrize("flag", ["is_restricted", "is_anonymous"])
def test_flag_that_is_not_a_boolean_is_a_failure(flag: str) -> None:
    made = reading(reply({"id": USER_ID, flag: "false"}))
    assert made == Failure(ErrorCode.SERVER_ERROR, "a profile whose flags are no booleans", key_only=True)


def too_large(detail: str) -> Failure:
    return Failure(ErrorCode.SERVER_ERROR, detail, key_only=True, too_large=True)


def with_metadata(metadata: bytes, status: int = 200, **headers: str) -> Any:
    return reply(b'{"id": "%b", "client_metadata": %b}' % (USER_ID.encode(), metadata), status, **headers)


TOO_DEEP_TO_HOLD = b"[" * 600 + b"]" * 600
"""json reads deeper than Python code may call."""
TOO_DEEP = b"[" * 30_000 + b"]" * 30_000
TOO_MANY = b"[" + b"0," * MAX_PARTS + b"0]"


@pytest.mark.parametrize("metadata", [TOO_DEEP_TO_HOLD, TOO_DEEP], ids=["to hold", "to parse"])
def test_deeply_nested_metadata_is_a_failure_of_its_key(metadata: bytes) -> None:
    """Metadata is user-controlled."""
    assert reading(with_metadata(metadata)) == too_large("a profile nested too deeply")


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
def test_profile_with_too_many_parts_is_not_parsed(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(parts: int) -> Any:
        return with_metadata(b"[%b]" % ",".join([part] * parts).encode())

    most = (MAX_PARTS - 2) // (1 if part == "0" else 2)
    assert isinstance(reading(answer(most)), UserProfile)
    monkeypatch.setattr(json, "loads", lambda *_: pytest.fail("parsed"))
    assert reading(answer(most + 1)) == too_large("a profile of too many parts")


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


def test_failure_holds_no_text_of_the_reply() -> None:
    for answer in (known("CANARY", 500), reply(b"CANARY", 500), reply({"id": "CANARY"}), reply(b"CANARY")):
        assert "CANARY" not in repr(reading(answer))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
members = st.dictionaries(
    st.sampled_from(["id", "code", "is_restricted", "is_anonymous", "details", "restricted_reason", "selected_team"]),
    json_values | st.sampled_from([USER_ID, *REFUSALS, *MISCONFIGURED]),
)


@bounded
@given(st.binary(max_size=40) | members.map(lambda body: json.dumps(body).encode()), st.integers(100, 599), st.data())
def test_only_a_200_with_the_user_id_gives_a_profile(body: bytes, status: int, data: st.DataObject) -> None:
    """And only a known code gives a refusal, whatever the status and text."""
    made = reading(reply(body, status))
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    body_object = value if isinstance(value, dict) else {}
    code = body_object.get("code") if isinstance(body_object.get("code"), str) else None
    if isinstance(made, UserProfile):
        assert status == 200
        assert body_object["id"] == USER_ID
    elif isinstance(made, Refusal):
        assert made.code is REFUSALS[str(code)][1]
    else:
        assert (made.code is ErrorCode.MISCONFIGURED) == (code in MISCONFIGURED)
