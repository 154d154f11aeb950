"""Users by id: the owners of API keys."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stackauth_middleware._core.api_keys import api_key_from_json
from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.upstream import Answer, Call
from stackauth_middleware._core.user_profile import UserProfile, profile_from_json
from stackauth_middleware._core.users import UserType
from stackauth_middleware._core.users_by_id import NO_EXPIRY, UserLookup, owner_of
from stackauth_middleware.errors import AuthServerError, ErrorCode, RefusedError
from tests.data import load_recorded

from .helpers import API, BROKEN, PROJECT, USER_ID, Clock, FakeRunner, reply
from .test_api_keys import FORM, body

USERS = [each for each in load_recorded("server-api") if each["name"].startswith("users: user by id, server: ")]


class Setup:
    """A lookup under test, a clock moved by hand, and the calls that it made."""

    def __init__(self, answer: Answer) -> None:
        config = StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_canary", api_key_ttl=20)
        self.clock, self.lookup, self.calls, self.answer = Clock(), UserLookup(config), list[Call](), answer

    def ask(self, user_id: str = USER_ID, *, fresh: bool = False) -> UserProfile:
        def answered(call: Call) -> Answer:
            self.calls.append(call)
            return self.answer

        script = self.lookup.profile(user_id, self.clock.now, fresh=fresh)
        found: UserProfile = FakeRunner(self.clock, answered)(script)
        return found


def test_user_is_fetched_with_server_access_and_cached_for_api_key_ttl() -> None:
    setup = Setup(reply({"id": USER_ID, "display_name": "Jane"}))
    assert setup.ask().display_name == setup.ask().display_name == "Jane"
    (call,) = setup.calls
    assert (call.method, call.url) == ("GET", f"{API}/api/v1/users/{USER_ID}")
    assert call.headers["x-stack-secret-server-key"] == "ssk_canary"
    setup.clock.pass_by(20)
    setup.ask()
    setup.clock.pass_by(2)
    setup.ask(fresh=True)
    assert len(setup.calls) == 3


@pytest.mark.parametrize("each", USERS, ids=lambda each: each["name"])
def test_recorded_answer(each: dict[str, Any]) -> None:
    answer, user_id = each["response"], each["request"]["path"].rpartition("/")[2]
    setup = Setup(reply(answer["body"], answer["status"]))
    if answer["status"] == 404:
        with pytest.raises(RefusedError) as caught:
            setup.ask(user_id)
        assert caught.value.code is ErrorCode.INVALID_API_KEY
    else:
        found = setup.ask(user_id)
        assert (found.id, found.is_restricted, found.is_anonymous) == (
            user_id,
            answer["body"]["is_restricted"],
            answer["body"]["is_anonymous"],
        )


def test_outage_and_another_user_are_no_refusal() -> None:
    for answer in (BROKEN, reply({"id": FORM.id}), reply({"code": "INVALID_SECRET_SERVER_KEY"}, 401)):
        with pytest.raises(AuthServerError):
            Setup(answer).ask()


@pytest.mark.parametrize("user_id", ["me", "../users/me", f"{USER_ID}?x=1", f"{USER_ID}/", ""])
def test_id_that_is_no_uuid_is_not_sent(user_id: str) -> None:
    setup = Setup(BROKEN)
    with pytest.raises(RefusedError) as caught:
        setup.ask(user_id)
    assert caught.value.code is ErrorCode.INVALID_API_KEY
    assert setup.calls == []


@pytest.mark.parametrize("each", [each for each in USERS if each["response"]["status"] == 200], ids=lambda e: e["name"])
def test_owner_has_the_flags_and_the_profile_of_the_account(each: dict[str, Any]) -> None:
    profile = profile_from_json(each["response"]["body"])
    key = api_key_from_json(body(), FORM)
    user = owner_of(key, profile)
    kind = UserType.ANONYMOUS if profile.is_anonymous else UserType.RESTRICTED
    assert user.user_type is (kind if profile.is_restricted else UserType.NORMAL)
    assert (user.user_id, user.email, user.display_name) == (profile.id, profile.primary_email, profile.display_name)
    assert (user.is_restricted, user.restricted_reason) == (profile.is_restricted, profile.restricted_reason)
    assert user.signed_up_at == each["response"]["body"]["signed_up_at_millis"] / 1000
    assert (user.issued_at, user.expires_at) == (key.created_at, key.expires_at)
    assert (user.profile, user.session_id, user.claims) == (profile, None, {})
    json.dumps(user.to_dict(), allow_nan=False)


def test_owner_of_a_key_without_an_expiry_has_a_finite_one() -> None:
    key = api_key_from_json(body(expires_at_millis=None), FORM)
    user = owner_of(key, profile_from_json({"id": USER_ID}))
    assert user.expires_at == NO_EXPIRY
    assert user.signed_up_at is None
