from __future__ import annotations

from stackauth_middleware.testing import LocalStackAuth
from tests.data import load_endpoints
from tests.unit.testing.helpers import CLIENT, PROJECT, SERVER, send
from tests.unit.testing.replay import differences


def test_recordings_are_answered_alike() -> None:
    assert differences(load_endpoints("api-keys")) == {}


def test_key_is_described_and_stays_with_its_type(local: LocalStackAuth) -> None:
    local.api_key()
    key = local._store.api_keys.of_owner("user", local.user().id, PROJECT)[0]
    assert send(local, SERVER, "PATCH", f"/user-api-keys/{key.id}", {"description": "new"}).json["description"] == "new"
    team_path = f"/team-api-keys/{key.id}?team_id={local.team().id}"
    assert send(local, SERVER, "GET", team_path).code == "API_KEY_NOT_FOUND"
    assert send(local, CLIENT, "GET", f"/user-api-keys/{key.id}").code == "USER_AUTHENTICATION_REQUIRED"
