"""Users: the recordings, and what they do not have: creation, updates, filters and pages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stackauth_middleware.testing import LocalStackAuth
from tests.data import load_endpoints
from tests.unit.testing.helpers import CLIENT, ME, OTHER_PROJECT, PROJECT, SERVER, Got, ask
from tests.unit.testing.replay import differences

NOW = 1_800_000_000
USERS = "/api/v1/users"


def test_recordings_are_answered_alike() -> None:
    assert differences(load_endpoints("users")) == {}


@pytest.fixture
def local() -> LocalStackAuth:
    return LocalStackAuth(PROJECT, clock=lambda: NOW)


def send(local: LocalStackAuth, method: str, target: str, body: Any = None, **headers: str) -> Got:
    sent = {"content-type": "application/json", **headers}
    return ask(local, target, sent, method=method, body=b"" if body is None else json.dumps(body).encode())


def server(local: LocalStackAuth, method: str, target: str, body: Any = None) -> Got:
    return send(local, method, target, body, **SERVER)


def own(local: LocalStackAuth, method: str, body: Any = None, base: dict[str, str] = CLIENT, **claims: Any) -> Got:
    return send(local, method, ME, body, **base, **local.headers(**claims))


def test_created_user_has_the_given_values_and_defaults(local: LocalStackAuth) -> None:
    values = {
        "primary_email": "Ann@Example.com",
        "primary_email_auth_enabled": True,
        "password": "x",
        "display_name": "",
    }
    got = server(local, "POST", USERS, {**values, "server_metadata": {"plan": None}, "totp_secret_base64": None})
    created = got.json
    assert (got.status, server(local, "GET", f"{USERS}/{created['id']}").json) == (201, created)
    assert created["primary_email"] == "ann@example.com"
    assert created["signed_up_at_millis"] == created["last_active_at_millis"] == NOW * 1000
    assert (created["has_password"], created["requires_totp_mfa"]) == (True, False)
    assert (created["display_name"], created["server_metadata"]) == (None, {"plan": None})
    other = {**SERVER, "x-stack-project-id": OTHER_PROJECT}
    assert send(local, "GET", f"{USERS}/{created['id']}", **other).code == "USER_NOT_FOUND"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"primary_email": "jane@example.com", "primary_email_auth_enabled": True}, 409, "USER_EMAIL_ALREADY_EXISTS"),
        ({"primary_email": "jane@example.com"}, 201, ""),
        ({"primary_email": "no-address"}, 400, "body.primary_email must be a valid email"),
        ({"primary_email_verified": True}, 400, "primary_email_verified cannot be true without primary_email"),
        ({"primary_email_auth_enabled": True}, 400, "primary_email_auth_enabled cannot be true without primary_email"),
        ({"selected_team_id": None}, 400, "body contains unknown properties: selected_team_id"),
        ({"restricted_by_admin_reason": "x"}, 400, "restricted_by_admin_reason must be null when"),
        ({"passkey_auth_enabled": True}, 400, "Cannot manually enable passkey auth"),
        ({"display_name": 7}, 201, '"7"'),
    ],
)
def test_creation_is_checked(local: LocalStackAuth, body: dict[str, Any], status: int, text: str) -> None:
    local.user()
    got = server(local, "POST", USERS, body)
    assert (got.status, text in got.body.decode()) == (status, True)
    assert len(local.users) == (2 if status == 201 else 1)


def test_update_changes_what_is_given_and_nothing_else(local: LocalStackAuth) -> None:
    jane = local.user()
    target = f"{USERS}/{jane.id}"
    session = local.sign_in(jane)
    assert server(local, "PATCH", target, {"client_metadata": [1]}).json == {**jane.read(), "client_metadata": [1]}
    same = {"primary_email": jane.primary_email}
    assert server(local, "PATCH", target, same).json["primary_email_verified"] is True
    moved = server(local, "PATCH", target, {"primary_email": "new@example.com"}).json
    assert (moved["primary_email"], moved["primary_email_verified"]) == ("new@example.com", False)
    restricted = server(
        local, "PATCH", target, {"restricted_by_admin": True, "restricted_by_admin_reason": "spam"}
    ).json
    assert (restricted["is_restricted"], restricted["restricted_by_admin_reason"]) == (True, "spam")
    freed = server(local, "PATCH", target, {"restricted_by_admin": False}).json
    assert (freed["is_restricted"], freed["restricted_by_admin_reason"]) == (False, None)
    gone = server(local, "PATCH", target, {"primary_email": None, "password": None}).json
    assert (gone["primary_email"], gone["primary_email_auth_enabled"], gone["has_password"]) == (None, False, False)
    assert local.users.session(session.refresh_token, PROJECT) is None
    assert server(local, "PATCH", f"{USERS}/{session.session_id}", {}).code == "USER_NOT_FOUND"


def test_anonymous_user_becomes_a_normal_one(local: LocalStackAuth) -> None:
    user = local.user(user_type="anonymous")
    got = server(local, "PATCH", f"{USERS}/{user.id}", {"is_anonymous": False}).json
    assert (got["is_anonymous"], got["is_restricted"], got["signed_up_at_millis"]) == (False, False, NOW * 1000)


def test_user_selects_a_team_of_theirs(local: LocalStackAuth) -> None:
    jane = local.user()
    team = local.team(members=[jane])
    assert own(local, "PATCH", {"selected_team_id": team.id}).json["selected_team"]["id"] == team.id
    assert own(local, "PATCH", {"selected_team_id": None}).json["selected_team"] is None
    assert own(local, "PATCH", {"selected_team_id": local.team().id}).code == "TEAM_MEMBERSHIP_NOT_FOUND"


def test_user_is_deleted_by_a_server_or_if_allowed_by_a_client(local: LocalStackAuth) -> None:
    assert own(local, "PATCH", {"server_metadata": 1}, base=SERVER).json["server_metadata"] == 1
    assert own(local, "DELETE").status == 400
    local.add_project(PROJECT, client_user_deletion=True)
    assert (own(local, "DELETE").json, len(local.users)) == ({"success": True}, 0)
    bob = local.users.create()
    assert (server(local, "DELETE", f"{USERS}/{bob.id}").json, len(local.users)) == ({"success": True}, 0)


def test_pages_hold_each_user_once_in_order(local: LocalStackAuth) -> None:
    made = [local.users.create(signed_up_at_millis=at).id for at in (5, 3, 4, 1, 2)]
    seen, cursor = [], ""
    while cursor is not None:
        page = server(local, "GET", f"{USERS}?limit=2" + (f"&cursor={cursor}" if cursor else "")).json
        seen += [each["id"] for each in page["items"]]
        cursor = page["pagination"]["next_cursor"]
    assert seen == [made[index] for index in (3, 4, 1, 2, 0)]
    backwards = server(local, "GET", f"{USERS}?desc=true&order_by=signed_up_at").json
    assert [each["id"] for each in backwards["items"]] == seen[::-1]
    assert server(local, "GET", f"{USERS}?cursor={local.team().id}").json["items"] == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "jane other"),
        ("include_restricted=true", "jane other john"),
        ("include_anonymous=true", "jane other john None"),
        ("include_anonymous=true&only_anonymous=true", "None"),
        ("query=JANE@", "jane"),
        ("query=her%20name", "jane"),
        ("query=44444444-4444-4444-8444-444444444444", "other"),
        ("team_id=55555555-5555-4555-8555-555555555555", "jane"),
    ],
)
def test_list_is_filtered(local: LocalStackAuth, query: str, found: str) -> None:
    local.users.create(primary_email="jane", display_name="Her Name", signed_up_at_millis=1)
    jane = next(iter(local.users))
    local.users.update(jane.id, primary_email="jane@")
    local.users.create("44444444-4444-4444-8444-444444444444", primary_email="other", signed_up_at_millis=2)
    local.users.create(primary_email="john", must_verify_email=True, signed_up_at_millis=3)
    local.users.create(is_anonymous=True, signed_up_at_millis=4)
    local.users.create(primary_email="elsewhere", projects=frozenset({OTHER_PROJECT}))
    local.team(team_id="55555555-5555-4555-8555-555555555555", members=[jane])
    items = server(local, "GET", f"{USERS}?{query}").json["items"]
    assert " ".join(str(each["primary_email"]).rstrip("@") for each in items) == found


@pytest.mark.parametrize("query", ["only_anonymous=true", "limit=0", "limit=1.5", "limit=x", "cursor=x", "x=1"])
def test_wrong_filters_are_refused(local: LocalStackAuth, query: str) -> None:
    assert server(local, "GET", f"{USERS}?{query}").status == 400
