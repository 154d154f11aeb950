from __future__ import annotations

import json
from typing import Any

import pytest

from stackauth_middleware.testing import LocalStackAuth
from tests.unit.testing.helpers import OTHER_PROJECT, SERVER, USER_ID, ask

JANE = "11111111-1111-4111-8111-111111111111"


def get(local: LocalStackAuth, target: str) -> Any:
    return ask(local, f"/api/v1{target}", SERVER).json["items"]


def check(local: LocalStackAuth, value: str, key_type: str = "user") -> tuple[int, Any]:
    headers = {**SERVER, "content-type": "application/json"}
    body = json.dumps({"api_key": value}).encode()
    got = ask(local, f"/api/v1/{key_type}-api-keys/check", headers, method="POST", body=body)
    return got.status, got.code or got.json


def test_user_is_the_one_whom_the_same_arguments_sign_in(local: LocalStackAuth) -> None:
    for arguments in ({}, {"sub": USER_ID}, {"user_type": "anonymous"}, {"is_restricted": True}, {"email": "a@b.c"}):
        described = local.user(**arguments)
        local.token(**arguments)
        assert local.users.get(described.id) == described
    ann = local.users.create(display_name="Ann")
    assert local.user(ann) == local.user(ann.id) == ann
    with pytest.raises(KeyError):
        local.user("unknown")
    with pytest.raises(ValueError, match="sub must be the id of a user"):
        local.user(sub="")


def test_team_has_its_members(local: LocalStackAuth) -> None:
    ann = local.users.create()
    team = local.team("Research", members=[ann, JANE, ann.id], server_metadata={"plan": "pro"})
    assert get(local, f"/teams?user_id={JANE}") == [team.read()]
    assert team.read()["server_metadata"] == {"plan": "pro"}
    held = get(local, f"/team-permissions?team_id={team.id}")
    assert {(each["user_id"], each["id"]) for each in held} == {(ann.id, "team_member"), (JANE, "team_member")}
    assert local.team(team_id=USER_ID, project_id=OTHER_PROJECT).project_id == OTHER_PROJECT
    assert len(get(local, "/teams")) == 1


def test_granted_permission_is_held_with_all_that_it_contains(local: LocalStackAuth) -> None:
    team = local.team()
    local.define_permission("editor", contains=["read", "write"])
    local.define_permission("read")
    local.grant("editor", sub=JANE, team=team)
    local.grant("admin")
    local.grant("read", team=team.id)
    path = f"/team-permissions?user_id={JANE}&team_id={team.id}"
    assert [each["id"] for each in get(local, path)] == ["editor", "read", "team_member"]
    found = [each["id"] for each in get(local, path + "&recursive=true")]
    assert found == ["$invite_members", "$read_members", "editor", "read", "team_member"]  # "write" is not defined
    assert get(local, f"/project-permissions?user_id={JANE}") == [{"user_id": JANE, "id": "admin"}]
    with pytest.raises(KeyError):
        local.grant("read", team="nowhere")


def test_api_key_of_each_kind(local: LocalStackAuth) -> None:
    team = local.team()
    assert check(local, local.api_key(description="ci", expires_in=60))[1]["user_id"] == JANE
    assert check(local, local.api_key(team=team), "team")[1]["team_id"] == team.id
    assert check(local, local.api_key(team=team.id)) == (400, "WRONG_API_KEY_TYPE")
    assert check(local, local.api_key(expires_in=-1)) == (401, "API_KEY_EXPIRED")
    assert check(local, local.api_key(revoked=True)) == (401, "API_KEY_REVOKED")
    assert check(local, local.api_key(public=True))[1]["is_public"] is True
    assert check(local, local.api_key(project_id=OTHER_PROJECT)) == (404, "API_KEY_NOT_FOUND")
    value = local.api_key(sub=USER_ID)
    local.revoke_api_key(value)
    assert check(local, value) == (401, "API_KEY_REVOKED")
    with pytest.raises(KeyError):
        local.revoke_api_key("sk_unknown")


@pytest.mark.parametrize("kind", ["user", "team"])
def test_api_key_goes_with_its_owner(local: LocalStackAuth, kind: str) -> None:
    team = local.team(members=[JANE])
    value = local.api_key(team=team) if kind == "team" else local.api_key(sub=JANE)
    assert check(local, value, kind)[0] == 200
    if kind == "team":
        ask(local, f"/api/v1/teams/{team.id}", SERVER, method="DELETE")
    else:
        local.users.delete(JANE)
        assert get(local, f"/team-permissions?team_id={team.id}") == []
    assert check(local, value, kind) == (404, "API_KEY_NOT_FOUND")
