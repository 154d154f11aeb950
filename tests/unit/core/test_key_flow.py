"""From an API key to an outcome: the owner, the rules for it, and permissions."""

from __future__ import annotations

from typing import Any

import pytest

from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.key_flow import KeyFlow
from stackauth_middleware._core.outcome import KeyAuthenticated, Unauthenticated
from stackauth_middleware._core.policy import Permission, Policy
from stackauth_middleware._core.records import RequestRecord
from stackauth_middleware._core.upstream import Answer, Call
from stackauth_middleware.errors import AuthServerError, ErrorCode, RefusedError

from .helpers import BROKEN, PROJECT, Clock, FakeRunner, reply
from .test_api_keys import OWNER, key
from .test_key_lookup import BOTH, valid
from .test_permissions import items, project

INBOUND = RequestRecord("GET", "/", "", {})


class Setup:
    """The steps under test, and a Stack Auth that answers each endpoint with what the test says."""

    def __init__(self, **answers: Answer) -> None:
        self.config = StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_canary")
        self.flow, self.clock, self.asked = KeyFlow(self.config), Clock(), list[str]()
        self.answers: dict[str, Answer] = {
            "user_api_keys": valid(user_id=OWNER),
            "team_api_keys": valid(type="team", team_id=OWNER),
            "users": reply({"id": OWNER, "display_name": "Jane"}),
            "project_permissions": items(*project("read", user_id=OWNER)),
            **answers,
        }

    def _answer(self, call: Call) -> Answer:
        name = call.url.partition("/api/v1/")[2].split("/")[0].split("?")[0].replace("-", "_")
        self.asked.append(name)
        return self.answers[name]

    def authorize(self, value: str = key(), **policy: Any) -> KeyAuthenticated:
        demanded = Policy("required", False, False, False, api_keys=BOTH)._replace(**policy)
        script = self.flow.authorize(value, demanded, self.clock.now, INBOUND, in_event_loop=True)
        outcome: KeyAuthenticated = FakeRunner(self.clock, self._answer)(script)
        assert (outcome.config, outcome.policy, outcome.request) == (self.config, demanded, INBOUND)
        return outcome

    def code(self, value: str = key(), **policy: Any) -> ErrorCode:
        with pytest.raises((RefusedError, AuthServerError)) as caught:
            self.authorize(value, **policy)
        assert isinstance(caught.value, RefusedError | AuthServerError)
        return caught.value.code


def test_key_of_a_user_brings_the_user() -> None:
    setup = Setup()
    outcome = setup.authorize(permissions=(Permission("read"),), checks=(lambda user: user.display_name == "Jane",))
    assert outcome.user is not None
    assert (outcome.user.user_id, outcome.user.display_name) == (OWNER, "Jane")
    assert (outcome.api_key.type, outcome.api_key.user_id) == ("user", OWNER)
    setup.authorize()
    assert setup.asked == ["user_api_keys", "users", "project_permissions"]


def test_key_of_a_team_brings_no_user() -> None:
    setup = Setup()
    outcome = setup.authorize(key(kind="team"), profile=True)
    assert (outcome.user, outcome.api_key.team_id) == (None, OWNER)
    assert setup.asked == ["team_api_keys"]


@pytest.mark.parametrize("policy", [{"permissions": (Permission("read"),)}, {"checks": (lambda _: True,)}])
def test_key_of_a_team_is_refused_where_the_rule_demands_something_of_a_user(policy: dict[str, Any]) -> None:
    assert Setup().code(key(kind="team"), **policy) is ErrorCode.FORBIDDEN


@pytest.mark.parametrize(
    ("account", "policy", "code"),
    [
        ({"is_restricted": True}, {}, ErrorCode.RESTRICTED_NOT_ALLOWED),
        ({"is_restricted": True}, {"allow_restricted": True}, None),
        ({"is_restricted": True, "is_anonymous": True}, {"allow_restricted": True}, ErrorCode.ANONYMOUS_NOT_ALLOWED),
        ({"is_restricted": True, "is_anonymous": True}, {"allow_anonymous": True}, None),
        ({}, {"checks": (lambda _: False,)}, ErrorCode.FORBIDDEN),
        ({}, {"permissions": (Permission("write"),)}, ErrorCode.FORBIDDEN),
    ],
)
def test_rules_are_applied_to_the_owner(account: Any, policy: dict[str, Any], code: ErrorCode | None) -> None:
    setup = Setup(users=reply({"id": OWNER, **account}))
    if code is None:
        assert setup.authorize(**policy).user
    else:
        assert setup.code(**policy) is code


@pytest.mark.parametrize(
    ("endpoint", "answer", "code"),
    [
        ("users", reply({"code": "USER_NOT_FOUND"}, 404), ErrorCode.INVALID_API_KEY),
        ("users", BROKEN, ErrorCode.SERVER_ERROR),
        ("user_api_keys", BROKEN, ErrorCode.SERVER_ERROR),
        ("project_permissions", BROKEN, ErrorCode.SERVER_ERROR),
        ("users", reply({"code": "INVALID_SECRET_SERVER_KEY"}, 401), ErrorCode.MISCONFIGURED),
    ],
)
def test_each_answer_decides(endpoint: str, answer: Answer, code: ErrorCode) -> None:
    setup = Setup(**{endpoint: answer})
    assert setup.code(permissions=(Permission("read"),)) is code
    assert setup.asked[-1] == endpoint


def test_outage_where_access_is_optional_passes_the_request_without_a_user() -> None:
    script = Setup().flow.authorize(
        key(), Policy("optional", False, False, False, api_keys=BOTH), Clock().now, INBOUND, in_event_loop=True
    )
    outcome = FakeRunner(Clock(), lambda call: BROKEN)(script)
    assert (type(outcome), outcome.user, outcome.error) == (Unauthenticated, None, ErrorCode.SERVER_ERROR)


def test_refused_owner_costs_no_call_for_permissions() -> None:
    setup = Setup(users=reply({"id": OWNER, "is_restricted": True}))
    setup.code(permissions=(Permission("read"),))
    assert setup.asked == ["user_api_keys", "users"]


def test_profile_of_the_owner_is_that_of_the_check_unless_fresh() -> None:
    setup = Setup()
    outcome = setup.authorize()

    def profile(**how: bool) -> Any:
        return FakeRunner(setup.clock, setup._answer)(setup.flow.profile(outcome, setup.clock.now, **how))

    assert profile() is outcome.user.profile
    setup.answers["users"] = reply({"id": OWNER, "is_restricted": True})
    setup.clock.pass_by(2)
    with pytest.raises(RefusedError) as caught:
        profile(fresh=True)
    assert caught.value.code is ErrorCode.RESTRICTED_NOT_ALLOWED
    assert setup.asked == ["user_api_keys", "users", "users"]
