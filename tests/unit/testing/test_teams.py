from __future__ import annotations

import pytest

from stackauth_middleware.testing._projects import EVERY
from stackauth_middleware.testing._teams import Held, Team, Teams
from tests.data import load_endpoints
from tests.unit.testing.helpers import OTHER_PROJECT, PROJECT
from tests.unit.testing.replay import differences


def test_recordings_are_answered_alike() -> None:
    assert differences(load_endpoints("teams-permissions")) == {}


@pytest.fixture
def teams() -> Teams:
    teams = Teams()
    for team_id, project_id in (("everywhere", EVERY), ("here", PROJECT)):
        teams.add(Team(id=team_id, project_id=project_id, display_name="T", created_at_millis=0))
        teams.add_member(team_id, "ann")
        teams.add_member(team_id, "ann", permission_id="team_admin")  # changes nothing
    return teams


def test_team_is_in_its_project_or_in_every_one(teams: Teams) -> None:
    assert [team.id for team in teams.of_project(PROJECT, "ann")] == ["everywhere", "here"]
    assert [team.id for team in teams.of_project(OTHER_PROJECT)] == ["everywhere"]
    assert teams.get("here", OTHER_PROJECT) is teams.get("nowhere", PROJECT) is None
    assert teams.update("here", {"display_name": "U"}).display_name == "U"
    assert set(teams.get("here", PROJECT).read(as_client=True)) < set(teams.update("here", {}).read())


def test_permissions_end_with_membership_user_or_team(teams: Teams) -> None:
    teams.define("admin", scope="project")
    teams.grant(EVERY, Held("", "ann", "admin"))
    assert len(teams.held(PROJECT, "team")) == 2
    teams.remove_member("here", "ann")
    assert [held.team_id for held in teams.held(PROJECT, "team")] == ["everywhere"]
    assert teams.held(OTHER_PROJECT, "project", user_id="ann") == [Held("", "ann", "admin")]
    teams.revoke(PROJECT, Held("", "ann", "admin"))
    assert teams.held(OTHER_PROJECT, "project") == []
    teams.remove_user("ann")
    teams.remove("everywhere")
    assert teams.held(PROJECT, "team") == []
