from __future__ import annotations

import math
import uuid
from typing import Any

import pytest

from stackauth_middleware import UserType
from stackauth_middleware.testing import OMIT, Account, Accounts, team
from stackauth_middleware.testing._account import LONG_AGO_MILLIS
from stackauth_middleware.testing._claims import (
    LIFETIME,
    account_from_claims,
    default_account,
    full_claims,
    overridden,
    subject_of,
)
from tests.unit.testing.helpers import PROJECT, USER_ID

NORMAL, RESTRICTED, ANONYMOUS = UserType.NORMAL, UserType.RESTRICTED, UserType.ANONYMOUS
URL = "https://api.stack-auth.com"
NOW = 1_800_000_000.75


def claims_for(account: Account, user_type: UserType, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"session_id": None, "now": NOW, "expires_in": LIFETIME, **changes}
    return full_claims(account, user_type, project_id=PROJECT, issuer_url=URL, **settings)


def test_the_claims_of_a_normal_user() -> None:
    account = Account(
        id=USER_ID,
        projects=frozenset({PROJECT}),
        primary_email="ann@example.com",
        primary_email_verified=True,
        display_name="Ann",
        signed_up_at_millis=1_700_000_000_999,
        requires_totp_mfa=True,
        selected_team=team("55555555-5555-4555-8555-555555555555"),
    )
    claims = claims_for(account, NORMAL, session_id="aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
    assert list(claims.items()) == [
        ("sub", USER_ID),
        ("project_id", PROJECT),
        ("branch_id", "main"),
        ("refresh_token_id", "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"),
        ("role", "authenticated"),
        ("name", "Ann"),
        ("email", "ann@example.com"),
        ("email_verified", True),
        ("selected_team_id", "55555555-5555-4555-8555-555555555555"),
        ("signed_up_at", 1_700_000_000),
        ("is_anonymous", False),
        ("is_restricted", False),
        ("restricted_reason", None),
        ("requires_totp_mfa", True),
        ("iss", f"{URL}/api/v1/projects/{PROJECT}"),
        ("iat", 1_800_000_000),
        ("aud", PROJECT),
        ("exp", 1_800_000_600),
    ]


def test_the_claims_of_a_restricted_user() -> None:
    claims = claims_for(default_account(RESTRICTED), RESTRICTED)
    assert claims["iss"] == f"{URL}/api/v1/projects-restricted-users/{PROJECT}"
    assert claims["aud"] == f"{PROJECT}:restricted"
    assert (claims["is_anonymous"], claims["is_restricted"]) == (False, True)
    assert claims["restricted_reason"] == {"type": "email_not_verified"}
    assert (claims["email"], claims["email_verified"]) == ("john@example.com", False)
    assert claims["role"] == "authenticated"


def test_the_claims_of_an_anonymous_user() -> None:
    claims = claims_for(
        Account(id=USER_ID, primary_email="x", display_name="x", primary_email_verified=True), ANONYMOUS
    )
    assert claims["iss"] == f"{URL}/api/v1/projects-anonymous-users/{PROJECT}"
    assert claims["aud"] == f"{PROJECT}:anon"
    assert (claims["is_anonymous"], claims["is_restricted"]) == (True, True)
    assert claims["restricted_reason"] == {"type": "anonymous"}
    assert (claims["name"], claims["email"], claims["email_verified"]) == (None, None, False)
    assert claims["role"] == "authenticated"


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        (Account(id=USER_ID, restricted_by_admin=True), "restricted_by_administrator"),
        (Account(id=USER_ID, must_verify_email=True), "email_not_verified"),
        (Account(id=USER_ID), "email_not_verified"),
        (Account(id=USER_ID, primary_email_verified=True), "restricted_by_administrator"),
        (Account(id=USER_ID, is_anonymous=True), "email_not_verified"),
    ],
)
def test_restricted_reason_follows_the_account(account: Account, reason: str) -> None:
    assert claims_for(account, RESTRICTED)["restricted_reason"] == {"type": reason}


def test_session_id_is_derived_from_the_user_by_default() -> None:
    one, other = Account(id=USER_ID), default_account(NORMAL)
    first, again = claims_for(one, NORMAL), claims_for(one, NORMAL, now=NOW + 9)
    assert first["refresh_token_id"] == again["refresh_token_id"]
    assert str(uuid.UUID(first["refresh_token_id"])) == first["refresh_token_id"]
    assert claims_for(other, NORMAL)["refresh_token_id"] != first["refresh_token_id"]


@pytest.mark.parametrize(
    ("expires_in", "issued", "expires"),
    [
        (60, 1_800_000_000, 1_800_000_060),
        (0.9, 1_800_000_000, 1_800_000_000),
        (0, 1_799_999_400, 1_800_000_000),
        (-1, 1_799_999_399, 1_799_999_999),
    ],
)
def test_an_expired_token_was_issued_a_lifetime_before(expires_in: float, issued: int, expires: int) -> None:
    claims = claims_for(Account(id=USER_ID), NORMAL, expires_in=expires_in)
    assert (claims["iat"], claims["exp"]) == (issued, expires)


def test_members_are_overridden_and_omitted() -> None:
    assert overridden({"a": 1, "b": 2, "c": 3}, {"b": None, "c": OMIT, "d": OMIT, "e": 5}) == {
        "a": 1,
        "b": None,
        "e": 5,
    }
    assert repr(OMIT) == "OMIT"


@pytest.mark.parametrize(
    ("claims", "user_type"),
    [
        ({}, NORMAL),
        ({"is_restricted": True}, RESTRICTED),
        ({"is_anonymous": True}, ANONYMOUS),
        ({"is_anonymous": True, "is_restricted": False}, ANONYMOUS),
        ({"is_restricted": "yes"}, NORMAL),
    ],
)
def test_flags_decide_the_type_without_an_account(claims: dict[str, Any], user_type: UserType) -> None:
    assert subject_of(Accounts(), None, None, claims) == (default_account(user_type), user_type)


@pytest.mark.parametrize(
    ("account", "claims", "user_type"),
    [
        (Account(id=USER_ID), {}, NORMAL),
        (Account(id=USER_ID), {"is_restricted": True}, RESTRICTED),
        (Account(id=USER_ID, restricted_by_admin=True), {}, RESTRICTED),
        (Account(id=USER_ID, restricted_by_admin=True), {"is_anonymous": False}, RESTRICTED),
        (Account(id=USER_ID, restricted_by_admin=True), {"is_restricted": False}, NORMAL),
        (Account(id=USER_ID, is_anonymous=True), {}, ANONYMOUS),
        (Account(id=USER_ID, is_anonymous=True), {"is_anonymous": False}, NORMAL),
        (Account(id=USER_ID, is_anonymous=True), {"is_restricted": True}, RESTRICTED),
    ],
)
def test_flags_take_precedence_over_the_account(account: Account, claims: dict[str, Any], user_type: UserType) -> None:
    assert subject_of(Accounts(), account, None, claims) == (account, user_type)


def test_explicit_user_type_takes_precedence() -> None:
    users = Accounts()
    account = users.create(restricted_by_admin=True)
    assert subject_of(users, account, "normal", {"is_anonymous": True}) == (account, NORMAL)
    assert subject_of(users, account.id, ANONYMOUS, {}) == (account, ANONYMOUS)
    assert subject_of(users, None, "restricted", {}) == (default_account(RESTRICTED), RESTRICTED)
    with pytest.raises(ValueError, match="'guest' is not a valid UserType"):
        subject_of(users, None, "guest", {})


def test_a_user_is_found_by_id() -> None:
    users = Accounts()
    account = users.create()
    assert subject_of(users, account.id, None, {}) == (account, NORMAL)
    with pytest.raises(KeyError, match=USER_ID):
        subject_of(users, USER_ID, None, {})


def test_subject_selects_an_explicit_account() -> None:
    users = Accounts()
    account = users.create(USER_ID, restricted_by_admin=True)
    assert subject_of(users, None, None, {"sub": USER_ID}) == (account, RESTRICTED)


def test_unknown_subject_is_the_default_user_with_that_id() -> None:
    users = Accounts()
    users.auto_create(Account(id=USER_ID, display_name="Implied"))
    account, user_type = subject_of(users, None, None, {"sub": USER_ID})
    assert (account.id, account.display_name, user_type) == (USER_ID, "Jane Doe", NORMAL)
    assert subject_of(users, None, None, {"sub": 7})[0] == default_account(NORMAL)


def test_default_user_can_be_overridden() -> None:
    users = Accounts()
    usual = default_account(NORMAL)
    users.auto_create(usual)
    restricted = users.restrict(usual.id)
    assert subject_of(users, None, None, {}) == (restricted, RESTRICTED)
    assert subject_of(users, None, "normal", {}) == (restricted, NORMAL)
    assert subject_of(users, None, None, {"is_restricted": False}) == (restricted, NORMAL)


def test_claims_describe_an_account() -> None:
    team_id = "55555555-5555-4555-8555-555555555555"
    claims = {
        "sub": USER_ID,
        "name": "Ann",
        "email": "ann@example.com",
        "email_verified": True,
        "signed_up_at": 1_700_000_000.5,
        "requires_totp_mfa": True,
        "selected_team_id": team_id,
    }
    assert account_from_claims(claims, PROJECT) == Account(
        id=USER_ID,
        projects=frozenset({PROJECT}),
        primary_email="ann@example.com",
        primary_email_verified=True,
        primary_email_auth_enabled=True,
        has_password=True,
        display_name="Ann",
        signed_up_at_millis=1_700_000_000_500,
        last_active_at_millis=1_700_000_000_500,
        requires_totp_mfa=True,
        selected_team=team(team_id),
    )


@pytest.mark.parametrize("user_type", UserType)
def test_account_from_claims_has_the_same_type_and_reason(user_type: UserType) -> None:
    for usual in (default_account(user_type), Account(id=USER_ID, primary_email_verified=True)):
        claims = claims_for(usual, user_type)
        account = account_from_claims(claims, PROJECT)
        assert account is not None
        assert account.user_type is user_type
        assert account.restricted_reason == claims["restricted_reason"]


@pytest.mark.parametrize("sub", [None, "", 7, ["x"]])
def test_claims_without_a_subject_describe_no_account(sub: object) -> None:
    assert account_from_claims({"sub": sub}, PROJECT) is None
    assert account_from_claims({}, PROJECT) is None


@pytest.mark.parametrize("odd", [None, "x", math.nan, math.inf, [], {}])
def test_odd_claims_are_ignored(odd: object) -> None:
    names = ("name", "email", "email_verified", "signed_up_at", "requires_totp_mfa", "is_anonymous")
    account = account_from_claims({"sub": USER_ID, "restricted_reason": odd, **dict.fromkeys(names, odd)}, PROJECT)
    text = "x" if odd == "x" else None
    assert account == Account(
        id=USER_ID,
        projects=frozenset({PROJECT}),
        display_name=text,
        primary_email=text,
        primary_email_auth_enabled=True,
        has_password=True,
        signed_up_at_millis=LONG_AGO_MILLIS,
    )
