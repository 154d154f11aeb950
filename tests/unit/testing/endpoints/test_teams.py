from __future__ import annotations

import pytest

from stackauth_middleware.testing import LocalStackAuth
from tests.data import load_endpoints
from tests.unit.testing.helpers import CLIENT, PROJECT, SERVER, send
from tests.unit.testing.replay import differences


def test_recordings_are_answered_alike() -> None:
    assert differences(load_endpoints("teams-permissions")) == {}


@pytest.fixture
def jane(local: LocalStackAuth) -> dict[str, str]:
    return {**CLIENT, **local.headers()}


def test_client_creates_changes_and_deletes_a_team(local: LocalStackAuth, jane: dict[str, str]) -> None:
    assert send(local, CLIENT, "POST", "/teams", {"display_name": "T"}).code == "USER_AUTHENTICATION_REQUIRED"
    other = local.users.create().id
    assert send(local, jane, "POST", "/teams", {"display_name": "T", "creator_user_id": other}).status == 403
    made = send(local, jane, "POST", "/teams?add_current_user=true", {"display_name": "T", "client_metadata": [1]})
    team = made.json
    assert (made.status, set(team) >= {"server_metadata"}, team["client_metadata"]) == (201, False, [1])
    assert send(local, jane, "PATCH", f"/teams/{team['id']}", {"display_name": "U"}).json["display_name"] == "U"
    changed = send(local, SERVER, "PATCH", f"/teams/{team['id']}", {"server_metadata": None}).json
    assert (changed["display_name"], changed["server_metadata"]) == ("U", None)
    assert send(local, jane, "DELETE", f"/teams/{team['id']}").json == {"success": True}
    assert send(local, SERVER, "PATCH", f"/teams/{team['id']}", {"display_name": "V"}).code == "TEAM_NOT_FOUND"
    local.add_project(PROJECT, client_team_creation=False)
    assert send(local, jane, "POST", "/teams", {"display_name": "T"}).status == 403


def test_member_needs_permissions_to_act_on_others(local: LocalStackAuth, jane: dict[str, str]) -> None:
    ann, me = local.users.create().id, local.user().id
    team = local.team(members=[ann, me]).id
    assert len(send(local, jane, "GET", f"/team-member-profiles?team_id={team}").json["items"]) == 2
    assert send(local, jane, "GET", f"/team-member-profiles/{team}/{ann}").json["user_id"] == ann
    assert send(local, jane, "DELETE", f"/team-memberships/{team}/{ann}").code == "TEAM_PERMISSION_REQUIRED"
    assert send(local, jane, "DELETE", f"/teams/{team}").code == "TEAM_PERMISSION_REQUIRED"
    local.grant("$remove_members", team=team)
    assert send(local, jane, "DELETE", f"/team-memberships/{team}/{ann}").json == {"success": True}
