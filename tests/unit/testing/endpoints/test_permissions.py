from __future__ import annotations

from stackauth_middleware.testing import LocalStackAuth
from tests.data import load_endpoints
from tests.unit.testing.helpers import CLIENT, PROJECT, SERVER, send
from tests.unit.testing.replay import differences

ADMIN = {"x-stack-project-id": PROJECT, "x-stack-access-type": "admin", "x-stack-super-secret-admin-key": "sak_x"}


def test_recordings_are_answered_alike() -> None:
    assert differences(load_endpoints("teams-permissions")) == {}


def test_definitions_are_checked_and_listed(local: LocalStackAuth) -> None:
    path = "/team-permission-definitions"
    assert send(local, ADMIN, "POST", path, {"id": "read"}).status == 201
    assert send(local, ADMIN, "POST", path, {"id": "read"}).code == "PERMISSION_ID_ALREADY_EXISTS"
    contained = {"id": "edit", "contained_permission_ids": ["nothing"]}
    assert send(local, ADMIN, "POST", path, contained).code == "CONTAINED_PERMISSION_NOT_FOUND"
    listed = send(local, ADMIN, "GET", path).json["items"]
    assert {"id": "read", "contained_permission_ids": []} in listed
    assert len(listed) == 9


def test_member_only_is_granted_a_team_permission(local: LocalStackAuth) -> None:
    team, jane = local.team(), local.user()
    got = send(local, SERVER, "POST", f"/team-permissions/{team.id}/{jane.id}/team_admin")
    assert got.code == "TEAM_MEMBERSHIP_NOT_FOUND"
    assert send(local, CLIENT, "POST", f"/project-permissions/{jane.id}/x").code == "INSUFFICIENT_ACCESS_TYPE"
