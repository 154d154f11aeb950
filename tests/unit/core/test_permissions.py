"""Permissions of users: the calls, what recorded answers mean, and that a failure is never a refusal."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.permissions import PermissionLookup
from stackauth_middleware._core.policy import Permission, Policy
from stackauth_middleware._core.upstream import Answer, Call
from stackauth_middleware._core.users import user_from_claims
from stackauth_middleware.errors import AuthServerError, ErrorCode, RefusedError
from tests.data import load_recorded

from .helpers import API, BROKEN, NORMAL, PROJECT, USER_ID, Clock, FakeRunner, bounded, claims, reply

TEAM, OTHER_TEAM = "1af0611d-13cf-4386-949c-541de130e3f0", "06884b3f-72dd-4963-9a81-3aa6acba7591"
JANE = user_from_claims(claims(NORMAL), NORMAL, b"{}")
RECORDED = {each["name"].partition(": ")[2]: each["response"] for each in load_recorded("server-api")}
RECORDED_USER = "8f697e8c-008f-411f-932d-2587b7831dcb"


def project(*ids: str, user_id: str = USER_ID) -> list[dict[str, str]]:
    return [{"id": each, "user_id": user_id} for each in ids]


def team(*ids: str, team_id: str = TEAM, user_id: str = USER_ID) -> list[dict[str, str]]:
    return [{"id": each, "user_id": user_id, "team_id": team_id} for each in ids]


def items(*found: Any) -> Answer:
    return reply({"items": list(found), "is_paginated": False})


class Setup:
    """A lookup under test, a clock moved by hand, and the URLs that it called."""

    def __init__(self, of_project: Answer = BROKEN, of_teams: Answer = BROKEN, **settings: Any) -> None:
        config = StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_canary", **settings)
        self.clock, self.lookup, self.urls = Clock(), PermissionLookup(config), list[str]()
        self.answers = {"project": of_project, "team": of_teams}

    def _answer(self, call: Call) -> Answer:
        assert call.headers["x-stack-secret-server-key"] == "ssk_canary"
        self.urls.append(call.url)
        return self.answers[call.url.removeprefix(f"{API}/api/v1/").partition("-")[0]]

    def holds(self, permission: str, team_id: str | None = None, user_id: str = USER_ID) -> bool:
        script = self.lookup.holds(user_id, Permission(permission, team_id), self.clock.now)
        held: bool = FakeRunner(self.clock, self._answer)(script)
        return held

    def require(self, *permissions: Permission) -> None:
        policy = Policy("required", False, False, False, (), permissions)
        FakeRunner(self.clock, self._answer)(self.lookup.require(JANE, policy, self.clock.now))


def test_all_permissions_come_in_one_call_for_permission_ttl() -> None:
    setup = Setup(items(*project("admin")), items(*team("read", "$read_members")), permission_ttl=30)
    for _ in range(500):
        assert setup.holds("admin")
        assert not setup.holds("read")
        assert setup.holds("read", TEAM)
        assert setup.holds("$read_members", TEAM)
        assert not setup.holds("read", OTHER_TEAM)
        assert not setup.holds("admin", TEAM)
    assert setup.urls == [
        f"{API}/api/v1/project-permissions?user_id={USER_ID}&recursive=true",
        f"{API}/api/v1/team-permissions?user_id={USER_ID}&recursive=true",
    ]
    setup.answers["project"] = items()
    assert setup.holds("admin")
    setup.clock.pass_by(30)
    assert not setup.holds("admin")


def test_recorded_answers() -> None:
    setup = Setup(
        reply(RECORDED["project perms: recursive"]["body"]),
        reply(RECORDED["team perms: user recursive, all teams"]["body"]),
    )
    found = {
        (permission, team_id)
        for permission in ("moderator", "see_all", "team_admin", "team_member", "$delete_team", "reporter")
        for team_id in (None, TEAM, OTHER_TEAM)
        if setup.holds(permission, team_id, RECORDED_USER)
    }
    assert found == {
        ("moderator", None),
        ("see_all", None),  # contained in moderator
        ("team_admin", TEAM),
        ("$delete_team", TEAM),  # contained in team_admin
        ("team_member", OTHER_TEAM),
    }


@pytest.mark.parametrize(
    "name", ["project perms: unknown user", "team perms: not a member", "team perms: unknown team"]
)
def test_recorded_answer_without_items_is_no_permission(name: str) -> None:
    answer = reply(RECORDED[name]["body"])
    setup = Setup(answer, answer)
    assert not setup.holds("read")
    assert not setup.holds("read", TEAM)


@pytest.mark.parametrize("name", ["team perms: no user_id, server, recursive", "project perms: no user_id, server"])
def test_recorded_answer_about_everybody_is_a_failure(name: str) -> None:
    """Server access without a user id gets the permissions of all users."""
    answer = reply(RECORDED[name]["body"])
    with pytest.raises(AuthServerError):
        Setup(answer, answer).holds("read", TEAM)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (BROKEN, ErrorCode.SERVER_ERROR),
        (reply(b"", 503), ErrorCode.SERVER_ERROR),
        (reply(b"<html>"), ErrorCode.SERVER_ERROR),
        (reply({}), ErrorCode.SERVER_ERROR),
        (reply({"items": None}), ErrorCode.SERVER_ERROR),
        (reply({"items": ["read"]}), ErrorCode.SERVER_ERROR),
        (reply({"items": [], "is_paginated": True}), ErrorCode.SERVER_ERROR),
        (items(*project("read", user_id=TEAM)), ErrorCode.SERVER_ERROR),
        (items({"id": 1, "user_id": USER_ID}), ErrorCode.SERVER_ERROR),
        (reply({"code": "TEAM_PERMISSION_REQUIRED"}, 401), ErrorCode.SERVER_ERROR),
        (reply({"code": "USER_NOT_FOUND"}, 404), ErrorCode.SERVER_ERROR),
        (reply(RECORDED["team perms: wrong key"]["body"], 401), ErrorCode.MISCONFIGURED),
        (reply(RECORDED["team perms: id of bad form"]["body"], 400), ErrorCode.MISCONFIGURED),
    ],
)
def test_answer_without_permissions_is_a_failure_and_no_refusal(answer: Answer, code: ErrorCode) -> None:
    setup = Setup(answer, answer)
    for team_id in (None, TEAM):
        with pytest.raises(AuthServerError) as caught:
            setup.holds("read", team_id)
        assert caught.value.code is code


def test_member_that_says_nothing_about_pages_is_read() -> None:
    assert Setup(reply({"items": project("read")})).holds("read")


def test_permission_in_a_team_that_is_not_known_costs_no_call() -> None:
    setup = Setup()
    with pytest.raises(RefusedError) as caught:
        setup.require(Permission("read", segment=1))
    assert caught.value.code is ErrorCode.FORBIDDEN
    assert setup.urls == []


PERMISSIONS = st.sampled_from([Permission(*each) for each in product(("read", "$x"), (None, TEAM, OTHER_TEAM))])


@bounded
@given(st.frozensets(PERMISSIONS), st.lists(PERMISSIONS, max_size=4))
def test_all_permissions_of_a_policy_have_to_be_held(held: frozenset[Permission], needed: list[Permission]) -> None:
    setup = Setup(
        items(*(item for each in held if each.team_id is None for item in project(each.id))),
        items(*(item for each in held if each.team_id for item in team(each.id, team_id=each.team_id))),
    )
    if set(needed) <= held:
        setup.require(*needed)
    else:
        with pytest.raises(RefusedError) as caught:
            setup.require(*needed)
        assert (caught.value.code, caught.value.detail) == (
            ErrorCode.FORBIDDEN,
            "a permission of the rule is not held",
        )
    assert len(setup.urls) <= 2
