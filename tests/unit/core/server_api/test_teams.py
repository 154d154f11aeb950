"""Teams and memberships: what is sent, and what the recorded answers are read as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stackauth_middleware import AuthServerError
from stackauth_middleware._core.server_api import teams
from stackauth_middleware._core.server_api.errors import ConflictError, NotFoundError
from stackauth_middleware._core.server_api.request import Request
from stackauth_middleware._core.server_api.teams import Team, team_from_json
from stackauth_middleware._core.server_api.values import UNSET
from tests.unit.core.helpers import USER_ID, as_id, reply

from .recorded import RECORDED, Server, recorded_request, reply_to

ALPHA, BETA, NO_TEAM = (
    "1af0611d-13cf-4386-949c-541de130e3f0",
    "06884b3f-72dd-4963-9a81-3aa6acba7591",
    "55a97294-589c-4dac-a51a-be44d3f466fe",
)
USER, MEMBER = "8f697e8c-008f-411f-932d-2587b7831dcb", "2a3be3e6-2489-434b-a420-fc87bc782c5d"
METADATA = {"server_metadata": {"plan": "pro"}, "client_metadata": {"a": 1}}

CALLS: dict[str, Callable[[], Request[Any]]] = {
    "team: create with creator, server": lambda: teams.create("Alpha", USER, METADATA),
    "team: create without creator": lambda: teams.create("Beta", None, {"profile_image_url": UNSET}),
    "membership: add": lambda: teams.add_member(ALPHA, MEMBER),
    "membership: add again": lambda: teams.add_member(ALPHA, MEMBER),
    "membership: add, unknown team": lambda: teams.add_member(NO_TEAM, USER),
    "membership: remove": lambda: teams.remove_member(ALPHA, MEMBER),
    "teams of a user": lambda: teams.list_of(USER),
    "teams of a user without any": lambda: teams.list_of("19fa431b-0973-48a3-8179-7f10d5ad2114"),
    "teams, no user_id, server": teams.list_of,
    "team by id, server": lambda: teams.get(ALPHA),
    "team by id, unknown": lambda: teams.get(NO_TEAM),
    "team: delete": lambda: teams.delete(BETA),
}
ERRORS = {
    "membership: add again": (ConflictError, "TEAM_MEMBERSHIP_ALREADY_EXISTS"),
    "membership: add, unknown team": (NotFoundError, "TEAM_NOT_FOUND"),
    "team by id, unknown": (NotFoundError, "TEAM_NOT_FOUND"),
}


@pytest.mark.parametrize("name", CALLS)
def test_call_and_answer_are_those_of_the_recording(name: str) -> None:
    name, call = f"teams-permissions: {name}", CALLS[name]
    server, body = Server(reply_to(name)), RECORDED[name]["response"]["body"]
    kind, code = ERRORS.get(name.partition(": ")[2], (None, ""))
    if kind:
        with pytest.raises(kind) as raised:
            server.send(call())
        assert raised.value.code == code
    else:
        result = server.send(call())
        found = result if isinstance(result, list) else [result] if result else []
        expected = body.get("items", [body] if "display_name" in body else [])
        assert [_as_sent(team) for team in found] == expected
    assert server.sent == [recorded_request(name)]


def _as_sent(team: Team) -> dict[str, Any]:
    """Return the members of a team as the API sent them."""
    assert team.raw == {}
    members = team.to_dict(server_only=True)
    members["created_at_millis"] = round(members.pop("created_at") * 1000)
    del members["raw"]
    return members


def test_update_sends_the_fields_that_are_set() -> None:
    server = Server(reply({"id": ALPHA, "display_name": "x"}))
    fields = {"display_name": "x", "profile_image_url": None, "client_metadata": UNSET}
    assert server.send(teams.update(ALPHA, fields)).display_name == "x"
    expected = {"display_name": "x", "profile_image_url": None}
    assert server.sent == [("PATCH", f"/api/v1/teams/{ALPHA}", [], expected)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: teams.list_of(None),  # not the teams of everybody
        lambda: teams.list_of("me"),
        lambda: teams.get("../users"),
        lambda: teams.delete(""),
        lambda: teams.update("x", {}),
        lambda: teams.update(ALPHA, {"display_name": None}),
        lambda: teams.update(ALPHA, {"creator_user_id": USER}),
        lambda: teams.create("x", "me", {}),
        lambda: teams.create(None, None, {}),
        lambda: teams.add_member(ALPHA, "me"),
        lambda: teams.remove_member("x", USER),
    ],
)
def test_wrong_argument_is_refused(make: Callable[[], Request[Any]]) -> None:
    with pytest.raises((ValueError, TypeError)):
        make()


@pytest.mark.parametrize("body", [{}, {"id": ALPHA}, {"id": USER_ID, "display_name": "x"}, None, []], ids=as_id)
def test_answer_that_is_not_this_team_is_an_outage(body: object) -> None:
    with pytest.raises(AuthServerError):
        Server(reply(body)).send(teams.get(ALPHA))


def test_server_only_members_may_be_absent() -> None:
    team = team_from_json({"id": ALPHA, "display_name": "x"})
    assert (team.created_at, team.server_metadata, team.profile_image_url) == (None, None, None)
    assert Team(ALPHA, "x", None, None, None).server_metadata is None
