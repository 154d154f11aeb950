"""The users/me call, the reading of its answers, and the breaker: what is asked, what it means, when to stop."""

from __future__ import annotations

import json
import re
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware import StackAuthConfig
from stackauth_middleware._core.profiles import MAX_BYTES, MAX_PARTS, call, read
from stackauth_middleware._core.upstream import Failure, NoReply, Refusal, ShareEnd
from stackauth_middleware._core.users import UserProfile
from stackauth_middleware._version import __version__
from stackauth_middleware.errors import ErrorCode

from .helpers import API, NO_REPLIES, NOW, PROJECT, TOO_LARGE, USER_ID, bounded, reply

SECRET = "ssk_canary"
PUBLISHABLE = "pck_canary"


def known(code: str, status: int, details: Any = None, **headers: str) -> Any:
    """Return a known error as Stack Auth sends it (contract.md section 3)."""
    body = {"code": code, "error": "words", **({"details": details} if details is not None else {})}
    return reply(json.dumps(body, indent=2).encode(), status, **headers)


def reading(answer: Any) -> Any:
    return read(answer, USER_ID, NOW)


# -- the call -----------------------------------------------------------------------------------------


def test_server_access_sends_these_headers_and_no_other() -> None:
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


def test_client_access_is_for_where_there_is_no_secret() -> None:
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


def test_the_client_version_is_of_the_form_that_the_back_end_reads() -> None:
    """What does not match is ignored without a word (contract.md section 10)."""
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET)
    sent = call(config, "to.ke.n", __version__).headers["x-stack-client-version"]
    assert re.fullmatch(r"(\w+)\s+(@[\w/]+)@([\d.]+)", sent, re.ASCII)


def test_the_call_shows_neither_key_nor_token() -> None:
    shown = repr(call(StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET), "to.ke.n", "1"))
    assert SECRET not in shown
    assert "to.ke.n" not in shown


# -- the reading --------------------------------------------------------------------------------------

JUDGED = {
    "UNPARSABLE_ACCESS_TOKEN": (401, ErrorCode.INVALID_TOKEN),
    "ACCESS_TOKEN_EXPIRED": (401, ErrorCode.EXPIRED_TOKEN),
    "INVALID_PROJECT_FOR_ACCESS_TOKEN": (401, ErrorCode.INVALID_TOKEN),
    "CANNOT_GET_OWN_USER_WITHOUT_USER": (400, ErrorCode.INVALID_TOKEN),
    "ANONYMOUS_AUTHENTICATION_NOT_ALLOWED": (401, ErrorCode.ANONYMOUS_NOT_ALLOWED),
    "RESTRICTED_USER_NOT_ALLOWED": (403, ErrorCode.RESTRICTED_NOT_ALLOWED),
}
OUR_FAULTS = {
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


@pytest.mark.parametrize("code", JUDGED)
@pytest.mark.parametrize("disguise", ["as it is", "hidden behind a 200", "under any status"])
def test_a_judgement_is_read_by_its_code(code: str, disguise: str) -> None:
    status, row = JUDGED[code]
    answer = {
        "as it is": known(code, status),
        "hidden behind a 200": known(code, 200, x_stack_actual_status=str(status)),
        "under any status": known(code, 500),
    }[disguise]
    assert reading(answer) == Refusal(row, f"users/me says {code}")


@pytest.mark.parametrize("code", OUR_FAULTS)
def test_a_fault_of_ours_is_never_the_users(code: str) -> None:
    for answer in (known(code, OUR_FAULTS[code]), known(code, 200, x_hexclave_actual_status="401")):
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
def test_the_reason_of_a_restriction_is_passed_on_where_it_is_one(details: Any, reason: str | None) -> None:
    answer = known("RESTRICTED_USER_NOT_ALLOWED", 403, details)
    assert reading(answer).restricted_reason == reason


def test_a_200_with_the_users_id_is_the_profile() -> None:
    made = reading(reply({"id": USER_ID, "display_name": "Jane", "is_restricted": True}))
    assert isinstance(made, UserProfile)
    assert (made.id, made.display_name, made.is_restricted, made.is_anonymous) == (USER_ID, "Jane", True, False)


def test_a_profile_may_have_a_member_that_is_called_code() -> None:
    """A later Stack Auth may add what it likes: only the codes that it answers with today are read as such."""
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
def test_a_200_that_is_not_the_profile_of_this_user_judges_nobody(body: bytes) -> None:
    made = reading(reply(body))
    assert isinstance(made, Failure)
    assert made == Failure(ErrorCode.SERVER_ERROR, "a 200 that is not the profile of this user", key_only=True)


@pytest.mark.parametrize("flag", ["is_restricted", "is_anonymous"])
def test_a_flag_that_is_no_boolean_judges_nobody(flag: str) -> None:
    made = reading(reply({"id": USER_ID, flag: "false"}))
    assert made == Failure(ErrorCode.SERVER_ERROR, "a profile whose flags are no booleans", key_only=True)


def overgrown(detail: str) -> Failure:
    return Failure(ErrorCode.SERVER_ERROR, detail, key_only=True, too_large=True)


def with_metadata(metadata: bytes, status: int = 200, **headers: str) -> Any:
    return reply(b'{"id": "%b", "client_metadata": %b}' % (USER_ID.encode(), metadata), status, **headers)


TOO_DEEP_TO_HOLD = b"[" * 600 + b"]" * 600
"""json reads deeper than Python code may call."""
TOO_DEEP = b"[" * 30_000 + b"]" * 30_000
TOO_MANY = b"[" + b"0," * MAX_PARTS + b"0]"


@pytest.mark.parametrize("metadata", [TOO_DEEP_TO_HOLD, TOO_DEEP], ids=["to hold", "to parse"])
def test_metadata_nested_too_deeply_judges_nobody(metadata: bytes) -> None:
    """Metadata is the user's own to write."""
    assert reading(with_metadata(metadata)) == overgrown("a profile nested too deeply")


@pytest.mark.parametrize("metadata", [TOO_DEEP, TOO_MANY], ids=["too deep", "too many parts"])
@pytest.mark.parametrize(("status", "for_user"), [(500, True), (404, False)])
def test_what_is_no_profile_is_not_an_overgrown_one(metadata: bytes, status: int, for_user: bool) -> None:
    """It is the status that counts, also one hidden behind a 200, and the pause that is asked for."""
    failure = Failure(ErrorCode.SERVER_ERROR, f"status {status}", key_only=for_user)
    assert reading(with_metadata(metadata, status)) == failure
    assert reading(with_metadata(metadata, x_stack_actual_status=str(status))) == failure
    paused = failure._replace(retry_after=7, key_only=False)
    assert reading(with_metadata(metadata, status, retry_after="7")) == paused


@pytest.mark.parametrize("part", ["[]", "{}", "0"])
def test_a_profile_of_too_many_parts_is_not_even_parsed(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(parts: int) -> Any:
        return with_metadata(b"[%b]" % ",".join([part] * parts).encode())

    most = (MAX_PARTS - 2) // (1 if part == "0" else 2)
    assert isinstance(reading(answer(most)), UserProfile)
    monkeypatch.setattr(json, "loads", lambda *_: pytest.fail("parsed"))
    assert reading(answer(most + 1)) == overgrown("a profile of too many parts")


@pytest.mark.parametrize("answer", [each for each in NO_REPLIES if each is not TOO_LARGE])
def test_no_answer_is_an_outage_for_all(answer: NoReply) -> None:
    assert reading(answer) == Failure(ErrorCode.SERVER_ERROR, answer.reason)


def test_a_profile_over_the_limit_is_its_users_own() -> None:
    """Else whoever can write metadata could open the breaker for everybody."""
    assert reading(TOO_LARGE) == overgrown(TOO_LARGE.reason)


def test_a_flight_is_no_answer() -> None:
    assert reading(ShareEnd.FULL).code is ErrorCode.SERVER_ERROR


@pytest.mark.parametrize(
    ("status", "for_user"),
    [(204, False), (302, False), (403, False), (404, False), (429, False), (500, True), (502, True), (503, True)],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"message": "words"}'])
def test_without_a_code_the_status_tells_whose_trouble_it_is(status: int, for_user: bool, body: bytes) -> None:
    assert reading(reply(body, status)) == Failure(ErrorCode.SERVER_ERROR, f"status {status}", key_only=for_user)


def test_the_status_that_is_meant_counts() -> None:
    """Stack Auth can hide a refusal behind a 200 (contract.md section 3)."""
    for header in ("x_stack_actual_status", "x_hexclave_actual_status"):
        made = reading(reply({"id": USER_ID}, 200, **{header: "500"}))
        assert made == Failure(ErrorCode.SERVER_ERROR, "status 500", key_only=True)


def test_an_unknown_code_judges_nobody() -> None:
    for status in (400, 401, 403, 500):
        made = reading(known("A_CODE_OF_TOMORROW", status))
        assert made == Failure(ErrorCode.SERVER_ERROR, f"status {status}", key_only=True)


@pytest.mark.parametrize("status", [403, 429, 500, 503])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"code": "rate_limited"}'])
@pytest.mark.parametrize(("said", "held"), [("5", 5), ("0", 1), ("60", 60), ("86400", 60)])
def test_retry_after_is_honoured_whoever_sent_it(status: int, body: bytes, said: str, held: int) -> None:
    """A firewall in front of Stack Auth has bodies, and codes, of its own."""
    made = reading(reply(body, status, retry_after=said))
    assert made == Failure(ErrorCode.SERVER_ERROR, f"status {status}", held)


def test_retry_after_can_be_a_date() -> None:
    """Told by the wall clock, of which there is no other than that of the request."""
    date = formatdate(NOW.wall + 30, usegmt=True)
    assert reading(reply(b"", 503, retry_after=date)).retry_after == 30


def test_a_failure_holds_nothing_of_the_answers_text() -> None:
    for answer in (known("CANARY", 500), reply(b"CANARY", 500), reply({"id": "CANARY"}), reply(b"CANARY")):
        assert "CANARY" not in repr(reading(answer))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
members = st.dictionaries(
    st.sampled_from(["id", "code", "is_restricted", "is_anonymous", "details", "restricted_reason", "selected_team"]),
    json_values | st.sampled_from([USER_ID, *JUDGED, *OUR_FAULTS]),
)


@bounded
@given(st.binary(max_size=40) | members.map(lambda body: json.dumps(body).encode()), st.integers(100, 599), st.data())
def test_whatever_is_answered_a_user_comes_only_of_a_200_with_the_users_id(
    body: bytes, status: int, data: st.DataObject
) -> None:
    """And a refusal only of a code that says so: no status and no text makes either."""
    made = reading(reply(body, status))
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    told = value if isinstance(value, dict) else {}
    code = told.get("code") if isinstance(told.get("code"), str) else None
    if isinstance(made, UserProfile):
        assert status == 200
        assert told["id"] == USER_ID
    elif isinstance(made, Refusal):
        assert made.code is JUDGED[str(code)][1]
    else:
        assert (made.code is ErrorCode.MISCONFIGURED) == (code in OUR_FAULTS)
