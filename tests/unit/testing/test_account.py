from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from stackauth_middleware import UserType
from stackauth_middleware.testing import Account, team
from stackauth_middleware.testing._account import LONG_AGO_MILLIS, AccountFields
from tests.unit.testing.helpers import USER_ID

TEAM_ID = "55555555-5555-4555-8555-555555555555"


@pytest.mark.parametrize(
    ("account", "reason", "user_type"),
    [
        (Account(id=USER_ID), None, UserType.NORMAL),
        (Account(id=USER_ID, must_verify_email=True), "email_not_verified", UserType.RESTRICTED),
        (Account(id=USER_ID, must_verify_email=True, primary_email_verified=True), None, UserType.NORMAL),
        (Account(id=USER_ID, restricted_by_admin=True), "restricted_by_administrator", UserType.RESTRICTED),
        (
            Account(id=USER_ID, restricted_by_admin=True, must_verify_email=True),
            "email_not_verified",
            UserType.RESTRICTED,
        ),
        (Account(id=USER_ID, is_anonymous=True, restricted_by_admin=True), "anonymous", UserType.ANONYMOUS),
    ],
)
def test_restriction_and_type_follow_the_account(account: Account, reason: str | None, user_type: UserType) -> None:
    told = None if reason is None else {"type": reason}
    assert account.restricted_reason == told
    assert account.user_type is user_type
    for as_client in (False, True):
        read = account.read(as_client=as_client)
        assert read["restricted_reason"] == told
        assert read["is_restricted"] is (reason is not None)
        assert read["is_anonymous"] is account.is_anonymous


def test_a_server_read_has_27_members_and_a_client_read_21_of_them() -> None:
    account = Account(id=USER_ID, server_metadata={"s": 1}, restricted_by_admin_private_details="p")
    server, client = account.read(), account.read(as_client=True)
    assert (len(server), len(client)) == (27, 21)
    assert set(server) - set(client) == {
        "primary_email_auth_enabled",
        "last_active_at_millis",
        "server_metadata",
        "restricted_by_admin_private_details",
        "country_code",
        "risk_scores",
    }
    assert set(client) < set(server)
    assert server["risk_scores"] == {"sign_up": {"bot": 0, "free_trial_abuse": 0}}
    assert server["signed_up_at_millis"] == LONG_AGO_MILLIS
    assert server["oauth_providers"] == []


@pytest.mark.parametrize(
    ("password", "otp", "with_email"), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_auth_with_email_needs_a_password_or_otp(password: bool, otp: bool, with_email: bool) -> None:
    account = Account(id=USER_ID, has_password=password, otp_auth_enabled=otp)
    assert account.read()["auth_with_email"] is with_email


def test_client_read_leaves_server_fields_of_the_team_out() -> None:
    account = Account(id=USER_ID, selected_team=team(TEAM_ID, "Crew"))
    server, client = account.read(), account.read(as_client=True)
    assert server["selected_team_id"] == client["selected_team_id"] == TEAM_ID
    assert server["selected_team"] == team(TEAM_ID, "Crew")
    assert client["selected_team"] == {
        "client_read_only_metadata": None,
        "client_metadata": None,
        "profile_image_url": None,
        "display_name": "Crew",
        "id": TEAM_ID,
    }


def test_no_team_is_selected_by_default() -> None:
    for as_client in (False, True):
        read = Account(id=USER_ID).read(as_client=as_client)
        assert (read["selected_team_id"], read["selected_team"]) == (None, None)


def test_a_team_has_the_members_of_a_server_read() -> None:
    assert team(TEAM_ID) == {
        "id": TEAM_ID,
        "display_name": "Team",
        "profile_image_url": None,
        "client_metadata": None,
        "client_read_only_metadata": None,
        "server_metadata": None,
        "created_at_millis": LONG_AGO_MILLIS,
    }


def test_account_is_immutable() -> None:
    account = Account(id=USER_ID)
    with pytest.raises(FrozenInstanceError):
        account.id = "x"
    assert set(AccountFields.__annotations__) == {each.name for each in fields(Account)} - {"id"}


def test_account_is_in_its_projects_or_in_every_one() -> None:
    assert Account(id="x").exists_in("p")
    assert Account(id="x", projects=frozenset({"p"})).exists_in("p")
    assert not Account(id="x", projects=frozenset({"p"})).exists_in("q")
