"""Permissions: what is sent, and what the recorded answers are read as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stackauth_middleware import AuthServerError
from stackauth_middleware._core.server_api import permissions
from stackauth_middleware._core.server_api.errors import NotFoundError
from stackauth_middleware._core.server_api.permissions import Permission
from stackauth_middleware._core.server_api.request import Request
from tests.unit.core.helpers import as_id, reply

from .recorded import RECORDED, Server, recorded_request, reply_to

TEAM, NO_TEAM = "1af0611d-13cf-4386-949c-541de130e3f0", "55a97294-589c-4dac-a51a-be44d3f466fe"
USER, MEMBER = "8f697e8c-008f-411f-932d-2587b7831dcb", "2a3be3e6-2489-434b-a420-fc87bc782c5d"
STRANGER, UNKNOWN_USER = "19fa431b-0973-48a3-8179-7f10d5ad2114", "4321c818-6fd6-4ef6-b775-17bdea51589f"

CALLS: dict[str, Callable[[], Request[Any]]] = {
    "team perms: user+team recursive": lambda: permissions.list_of(USER, TEAM),
    "team perms: user+team recursive=false": lambda: permissions.list_of(USER, TEAM, direct=True),
    "team perms: user recursive, all teams": lambda: permissions.list_of_teams(USER),
    "team perms: user2 recursive": lambda: permissions.list_of(MEMBER, TEAM),
    "team perms: unknown team": lambda: permissions.list_of(USER, NO_TEAM),
    "team perms: unknown user": lambda: permissions.list_of(UNKNOWN_USER, TEAM),
    "team perms: not a member": lambda: permissions.list_of(STRANGER, TEAM),
    "project perms: recursive": lambda: permissions.list_of(USER, None),
    "project perms: unknown user": lambda: permissions.list_of(UNKNOWN_USER, None),
    "team permission: grant": lambda: permissions.grant(MEMBER, "reporter", TEAM),
    "team permission: grant again": lambda: permissions.grant(MEMBER, "reporter", TEAM),
    "team permission: grant unknown": lambda: permissions.grant(MEMBER, "nosuch", TEAM),
    "team permission: grant to a non-member": lambda: permissions.grant(STRANGER, "reporter", TEAM),
    "project permission: grant": lambda: permissions.grant(USER, "moderator"),
    "project permission: grant a team permission": lambda: permissions.grant(USER, "reporter"),
    "team permission: revoke": lambda: permissions.revoke(MEMBER, "reporter", TEAM),
    "team permission: revoke again": lambda: permissions.revoke(MEMBER, "reporter", TEAM),
    "project permission: revoke": lambda: permissions.revoke(USER, "moderator"),
    "project permission: revoke again": lambda: permissions.revoke(USER, "moderator"),
}
CODES = {
    "team permission: grant unknown": "PERMISSION_NOT_FOUND",
    "team permission: grant to a non-member": "TEAM_MEMBERSHIP_NOT_FOUND",
    "project permission: grant a team permission": "WRONG_PERMISSION_SCOPE",
    "team permission: revoke again": "TEAM_PERMISSION_NOT_FOUND",
    "project permission: revoke again": "PERMISSION_NOT_FOUND",
}


@pytest.mark.parametrize("name", CALLS)
def test_call_and_answer_are_those_of_the_recording(name: str) -> None:
    recorded = f"teams-permissions: {name}"
    server, body = Server(reply_to(recorded)), RECORDED[recorded]["response"]["body"]
    if name in CODES:
        with pytest.raises(NotFoundError) as raised:
            server.send(CALLS[name]())
        assert raised.value.code == CODES[name]
    else:
        result = server.send(CALLS[name]())
        found = result if isinstance(result, list) else [result] if result else []
        expected = body.get("items", [body] if "id" in body else [])
        assert [each.to_dict() for each in found] == [{"team_id": None, **each} for each in expected]
    assert server.sent == [recorded_request(recorded)]


@pytest.mark.parametrize("name", ["project perms: no user_id, server", "team perms: nothing, server"])
def test_permissions_of_everybody_are_never_taken_for_those_of_a_user(name: str) -> None:
    reply_to_everybody = reply_to(f"teams-permissions: {name}")
    make = permissions.list_of_teams if name.startswith("team") else lambda user_id: permissions.list_of(user_id, None)
    with pytest.raises(AuthServerError, match="permissions of another user"):
        Server(reply_to_everybody).send(make(STRANGER))


@pytest.mark.parametrize(
    "item", [{}, {"id": "a"}, {"id": "a", "user_id": USER}, {"id": 1, "user_id": USER, "team_id": TEAM}]
)
def test_incomplete_permission_is_an_outage(item: dict[str, Any]) -> None:
    with pytest.raises(AuthServerError):
        Server(reply({"items": [item]})).send(permissions.list_of(USER, TEAM))


@pytest.mark.parametrize(
    "make",
    [
        lambda: permissions.list_of("me", None),
        lambda: permissions.list_of(USER, "x"),
        lambda: permissions.list_of(USER, None, direct="no"),
        lambda: permissions.list_of_teams("me"),
        lambda: permissions.grant(USER, "Not Good"),
        lambda: permissions.grant(USER, "../x", TEAM),
        lambda: permissions.grant("me", "read"),
        lambda: permissions.grant(USER, "read", ""),
        lambda: permissions.revoke(USER, "a/b"),
    ],
    ids=range(9),
)
def test_wrong_argument_is_refused(make: Callable[[], Request[Any]]) -> None:
    with pytest.raises((ValueError, TypeError)):
        make()


@pytest.mark.parametrize("team_id", [None, TEAM], ids=as_id)
def test_system_permission_has_its_dollar_sign_in_the_path(team_id: str | None) -> None:
    server = Server(reply({"id": "$read_members", "user_id": USER, "team_id": TEAM, "new": 1}))
    granted = server.send(permissions.grant(USER, "$read_members", team_id))
    assert (granted.id, granted.team_id, granted.raw) == ("$read_members", team_id, {"new": 1})
    assert server.sent[0][1].endswith(f"/{USER}/$read_members")
    assert Permission("read", USER, None).raw == {}
