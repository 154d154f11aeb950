"""The call to users/me, and the reader of its replies."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware import StackAuthConfig
from stackauth_middleware._core.profiles import ProfileLookup, call, read
from stackauth_middleware._core.replies import nested_too_deeply
from stackauth_middleware._core.upstream import MAX_BYTES, Answer, Call, Failure, Refusal
from stackauth_middleware._core.users import UserProfile, user_from_claims
from stackauth_middleware._version import __version__
from stackauth_middleware.errors import ErrorCode

from .helpers import (
    API,
    NORMAL,
    NOW,
    PROJECT,
    USER_ID,
    Clock,
    FakeRunner,
    bounded,
    claims,
    reply,
)
from .test_replies import MISCONFIGURED, known

SECRET = "ssk_canary"
PUBLISHABLE = "pck_canary"


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
        profile: UserProfile = FakeRunner(clock, users_me)(script)
        return profile.display_name

    assert name("one") == name("two") == "reply 1"
    (made,) = calls
    expected = call(config, "one")
    assert (made.method, made.url, made.headers) == ("GET", expected.url, expected.headers)
    clock.pass_by(30)
    assert name("two") == "reply 2"
    clock.pass_by(2)
    assert name("two", fresh=True) == "reply 3"


# -- the call -----------------------------------------------------------------------------------------


def test_server_access_sends_exactly_these_headers() -> None:
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET, publishable_client_key=PUBLISHABLE)
    made = call(config, "to.ke.n")
    assert made.url == f"{API}/api/v1/users/me"
    assert made.max_bytes == MAX_BYTES == 1_048_576
    assert made.headers == {
        "accept": "application/json",
        "x-stack-project-id": PROJECT,
        "x-stack-access-token": "to.ke.n",
        "x-stack-allow-anonymous-user": "true",
        "x-stack-client-version": f"python @stackauth/middleware@{__version__}",
        "x-stack-access-type": "server",
        "x-stack-secret-server-key": SECRET,
    }


def test_client_access_is_used_without_a_secret_key() -> None:
    config = StackAuthConfig(project_id=PROJECT, publishable_client_key=PUBLISHABLE)
    assert call(config, "to.ke.n").headers == {
        "accept": "application/json",
        "x-stack-project-id": PROJECT,
        "x-stack-access-token": "to.ke.n",
        "x-stack-allow-anonymous-user": "true",
        "x-stack-client-version": f"python @stackauth/middleware@{__version__}",
        "x-stack-access-type": "client",
        "x-stack-publishable-client-key": PUBLISHABLE,
    }


def test_client_version_has_the_form_that_the_back_end_parses() -> None:
    """The back end silently ignores a value of another form (docs/stack-auth.md section 5)."""
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET)
    sent = call(config, "to.ke.n").headers["x-stack-client-version"]
    assert re.fullmatch(r"(\w+)\s+(@[\w/]+)@([\d.]+)", sent, re.ASCII)


def test_repr_of_the_call_shows_no_credential() -> None:
    shown = repr(call(StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET), "to.ke.n"))
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


def test_metadata_that_is_nested_too_deeply_to_hold_is_a_failure_of_its_key() -> None:
    """Metadata is user-controlled."""
    metadata = b"[" * 600 + b"]" * 600  # json reads deeper than Python code may call
    body = b'{"id": "%b", "client_metadata": %b}' % (USER_ID.encode(), metadata)
    assert reading(reply(body)) == nested_too_deeply()


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
