"""Sessions: the recordings, and what they do not have."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from stackauth_middleware.testing import LocalStackAuth
from tests.data import load_endpoints
from tests.unit.testing.helpers import (
    CLIENT,
    OAUTH,
    PROJECT,
    PUBLISHABLE,
    REFRESH,
    SIGN_OUT,
    Got,
    ask,
    claims_of,
    me,
    two_projects,
)
from tests.unit.testing.replay import differences


@pytest.fixture
def local() -> LocalStackAuth:
    return two_projects()


def test_recordings_are_answered_alike() -> None:
    assert differences(load_endpoints("sessions")) == {}


def grant(**changes: str) -> dict[str, str]:
    members = {"grant_type": "refresh_token", "client_id": PROJECT, "client_secret": PUBLISHABLE, **changes}
    return {name: value for name, value in members.items() if value}


def ask_grant(local: LocalStackAuth, members: dict[str, str], *, as_json: bool = False) -> Got:
    content_type = "application/json" if as_json else "application/x-www-form-urlencoded"
    body = json.dumps(members) if as_json else urlencode(members)
    return ask(local, OAUTH, {"content-type": content_type}, method="POST", body=body.encode())


def test_a_grant_may_need_a_key(local: LocalStackAuth) -> None:
    local.add_project(PROJECT, require_publishable_client_key=True)
    got = ask_grant(local, grant(client_secret="__stack_public_client__", refresh_token="x"))
    assert (got.status, got.code) == (401, "PUBLISHABLE_CLIENT_KEY_REQUIRED_FOR_PROJECT")


def refresh(local: LocalStackAuth, refresh_token: str, **changes: Any) -> Got:
    return ask(local, REFRESH, {**CLIENT, "x-stack-refresh-token": refresh_token, **changes}, method="POST")


def test_a_session_is_refreshed(local: LocalStackAuth) -> None:
    session = local.sign_in()
    local.users.restrict(session.user_id)
    for _ in range(2):  # refresh tokens do not rotate
        got = refresh(local, session.refresh_token)
        assert (got.status, list(got.json)) == (200, ["access_token"])
        claims = claims_of(got.json["access_token"])
        assert claims["aud"] == f"{PROJECT}:restricted"
        assert claims["restricted_reason"] == {"type": "restricted_by_administrator"}


def sign_out(local: LocalStackAuth, token: str | None) -> Got:
    sent = {} if token is None else {"x-stack-access-token": token}
    return ask(local, SIGN_OUT, {**CLIENT, **sent}, method="DELETE")


def test_sign_out_ends_the_session_but_not_the_access_token(local: LocalStackAuth) -> None:
    session = local.sign_in()
    got = sign_out(local, session.access_token)
    assert (got.status, got.body) == (200, b'{"success":true}')
    assert me(local, token=session.access_token).status == 200
    assert refresh(local, session.refresh_token).status == 401
    assert sign_out(local, session.access_token).status == 500


def test_authorization_code_is_not_offered(local: LocalStackAuth) -> None:
    assert ask_grant(local, grant(grant_type="authorization_code")).status == 501
