"""The values a handler is given: from claims, from a profile, from both; and what they never give away."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Mapping
from typing import Any

import pytest

from stackauth_middleware._core.user_profile import profile_from_json
from stackauth_middleware._core.users import GUEST, Permissions, User, UserType, user_from_claims, with_profile

from .helpers import ANONYMOUS, LEFT_OUT, NORMAL, RESTRICTED, USER_ID, WALL, claims
from .test_user_profile import SERVER_ONLY, body


def user(kind: UserType = NORMAL, **changes: Any) -> User:
    told = claims(kind, **changes)
    return user_from_claims(told, kind, json.dumps(told).encode())


# -- from claims --------------------------------------------------------------------------------------


def test_a_user_holds_what_the_claims_say() -> None:
    assert user().to_dict() == {
        "user_id": USER_ID,
        "user_type": "normal",
        "is_anonymous": False,
        "is_restricted": False,
        "restricted_reason": None,
        "email": "jane@example.com",
        "email_verified": True,
        "display_name": "Jane Doe",
        "selected_team_id": None,
        "signed_up_at": WALL - 86_400,
        "session_id": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
        "requires_totp_mfa": False,
        "issued_at": WALL - 60,
        "expires_at": WALL + 540,
        "profile": None,
    }


@pytest.mark.parametrize(
    ("kind", "anonymous", "restricted", "reason"),
    [
        (NORMAL, False, False, None),
        (RESTRICTED, False, True, "email_not_verified"),
        (ANONYMOUS, True, True, "anonymous"),
    ],
    ids=str,
)
def test_the_flags_follow_the_user_type(kind: UserType, anonymous: bool, restricted: bool, reason: str | None) -> None:
    made = user(kind)
    assert (made.user_type, made.is_anonymous, made.is_restricted, made.restricted_reason) == (
        kind,
        anonymous,
        restricted,
        reason,
    )


LESS = {"exp": WALL, "sub": USER_ID}


def test_a_token_of_an_older_stack_auth_says_less() -> None:
    made = user_from_claims(LESS, NORMAL, b"{}")
    assert made == User(USER_ID, NORMAL, False, False, None, None, False, None, None, None, None, False, None, WALL)


@pytest.mark.parametrize(
    ("claim", "value", "field", "held"),
    [
        ("email", 5, "email", None),
        ("email", "\ud800@example.com", "email", "?@example.com"),
        ("name", "J\u00fcrgen", "display_name", "J\u00fcrgen"),
        ("name", ["x"], "display_name", None),
        ("name", "", "display_name", ""),
        ("email_verified", "true", "email_verified", False),
        ("email_verified", 1, "email_verified", False),
        ("requires_totp_mfa", True, "requires_totp_mfa", True),
        ("requires_totp_mfa", "yes", "requires_totp_mfa", False),
        ("selected_team_id", {}, "selected_team_id", None),
        ("signed_up_at", "1", "signed_up_at", None),
        ("signed_up_at", True, "signed_up_at", None),
        ("signed_up_at", 1.5, "signed_up_at", 1.5),
        ("refresh_token_id", None, "session_id", None),
        ("restricted_reason", "text", "restricted_reason", None),
        ("restricted_reason", {"type": 5}, "restricted_reason", None),
        (
            "restricted_reason",
            {"type": "restricted_by_administrator"},
            "restricted_reason",
            "restricted_by_administrator",
        ),
    ],
    ids=str,
)
def test_a_member_that_only_informs_is_none_where_its_type_is_wrong(
    claim: str, value: Any, field: str, held: Any
) -> None:
    assert getattr(user(**{claim: value}), field) == held


@pytest.mark.parametrize("infinite", ["1e999", "-1e999"])
def test_a_number_that_no_encoder_can_write_is_none(infinite: str) -> None:
    """A user is JSON-ready: Starlette's encoder raises on infinity, in the handler that returns the user."""
    told = json.loads(json.dumps(claims()).replace(str(WALL - 86_400), infinite))
    assert told["signed_up_at"] == float(infinite)
    made = user_from_claims(told, NORMAL, b"{}")
    assert json.dumps(made.to_dict(), allow_nan=False)


def test_the_legacy_name_of_the_session_is_read() -> None:
    assert user(refresh_token_id=LEFT_OUT, refreshTokenId="s-1").session_id == "s-1"


def test_an_anonymous_user_without_a_reason_has_the_reason_anonymous() -> None:
    assert user(ANONYMOUS, restricted_reason=LEFT_OUT).restricted_reason == "anonymous"
    assert user(RESTRICTED, restricted_reason={}).restricted_reason is None


# -- the value ----------------------------------------------------------------------------------------


def test_a_user_cannot_be_changed() -> None:
    """One object is handed to all requests of a token."""
    made = user()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.email = "other"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        made.extra = 1  # type: ignore[attr-defined]


def test_a_user_is_hashable_picklable_copyable_with_its_claims() -> None:
    made = with_profile(user(), profile_from_json(body()))
    for again in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert again == made
        assert again.profile.server_metadata == "text"
        assert hash(again) == hash(made)
        assert again.claims == made.claims
        assert again.claims["sub"] == USER_ID


def test_a_user_made_by_hand_has_no_claims() -> None:
    """As tests of an app do."""
    by_hand = User(USER_ID, NORMAL, False, False, None, None, False, None, None, None, None, False, None, WALL)
    assert by_hand.claims == {}
    assert pickle.loads(pickle.dumps(by_hand)) == by_hand
    assert with_profile(by_hand, profile_from_json(body())).claims == {}


def test_a_copy_with_other_values_keeps_the_claims_and_what_is_server_only() -> None:
    made = with_profile(user(), profile_from_json(body()))
    changed = dataclasses.replace(made, email="x")
    assert (changed.email, changed.claims) == ("x", made.claims)
    assert changed.claims["sub"] == USER_ID
    renamed = dataclasses.replace(profile_from_json(body()), display_name="x")
    assert (renamed.display_name, renamed.server_metadata) == ("x", "text")


def test_the_claims_are_frozen_in_depth_and_no_field() -> None:
    made = user(RESTRICTED)
    with pytest.raises(TypeError):
        made.claims["restricted_reason"]["type"] = "other"
    assert made.claims["restricted_reason"] == {"type": "email_not_verified"}
    assert isinstance(made.claims, Mapping)
    assert "claims" not in {each.name for each in dataclasses.fields(User)}


def test_the_fields_are_those_of_the_promise_and_of_to_dict() -> None:
    names = [each.name for each in dataclasses.fields(User)]
    assert names == list(user().to_dict())
    assert set(names) == {
        *("user_id", "user_type", "is_anonymous", "is_restricted", "restricted_reason", "email", "email_verified"),
        *("display_name", "selected_team_id", "signed_up_at", "session_id", "requires_totp_mfa", "issued_at"),
        *("expires_at", "profile"),
    }


def test_the_names_that_frameworks_ask_for() -> None:
    made = user()
    assert made.id == made.identity == made.user_id == USER_ID
    assert made.is_authenticated is True
    assert made


def test_a_user_type_is_its_own_text() -> None:
    assert [str(kind) for kind in UserType] == ["normal", "restricted", "anonymous"]
    assert json.dumps({"type": UserType.RESTRICTED}) == '{"type": "restricted"}'
    assert f"{UserType.ANONYMOUS}" == "anonymous"


# -- with a profile ----------------------------------------------------------------------------------


def test_the_dict_of_a_profile_is_what_the_client_read_sends() -> None:
    """By the members of both reads in contract.md section 3, for the user and for the selected team."""
    team = {
        "id": "team-1",
        "display_name": "T",
        "profile_image_url": None,
        "client_metadata": {"a": 1},
        "client_read_only_metadata": None,
    }
    told = body(selected_team={**team, "server_metadata": {"b": 2}, "created_at_millis": 5})
    shown = {**{name: value for name, value in told.items() if name not in SERVER_ONLY}, "selected_team": team}
    made = with_profile(user(), profile_from_json(told))
    assert made.to_dict()["profile"] == shown
    assert made.to_dict(server_only=True)["profile"] == {**told, "raw": {}}


def test_a_users_dict_with_a_profile_is_json() -> None:
    made = with_profile(user(), profile_from_json(body()))
    assert json.loads(json.dumps(made.to_dict()))["profile"]["client_metadata"] == {"a": [1, {"b": None}]}


@pytest.mark.parametrize("token_kind", UserType, ids=lambda kind: f"token-{kind}")
@pytest.mark.parametrize("profile_kind", UserType, ids=lambda kind: f"profile-{kind}")
def test_the_stricter_of_token_and_profile_wins(token_kind: UserType, profile_kind: UserType) -> None:
    """A user restricted since the token was minted, and one freed since: both are restricted here."""
    profile = profile_from_json(body(is_anonymous=profile_kind is ANONYMOUS, is_restricted=profile_kind is not NORMAL))
    made = with_profile(user(token_kind), profile)
    strictness = [NORMAL, RESTRICTED, ANONYMOUS]
    stricter = max(token_kind, profile_kind, key=strictness.index)
    assert made.user_type is stricter
    assert made.is_anonymous is (stricter is ANONYMOUS)
    assert made.is_restricted is (stricter is not NORMAL)


def test_a_profile_that_is_anonymous_but_says_not_restricted_is_restricted() -> None:
    made = with_profile(user(), profile_from_json(body(is_anonymous=True, is_restricted=False)))
    assert (made.user_type, made.is_restricted) == (ANONYMOUS, True)


def test_with_a_profile_what_it_tells_is_the_profiles() -> None:
    told = user(RESTRICTED, email="old@example.com", name="Old", selected_team_id="old", requires_totp_mfa=False)
    profile = profile_from_json(body(requires_totp_mfa=True, restricted_reason={"type": "restricted_by_administrator"}))
    made = with_profile(told, profile)
    assert (made.email, made.email_verified, made.display_name, made.selected_team_id, made.requires_totp_mfa) == (
        "jane@example.com",
        True,
        "Jane",
        "team-1",
        True,
    )
    assert made.restricted_reason == "restricted_by_administrator"
    assert made.profile is profile
    assert made.claims == told.claims
    assert (made.user_id, made.session_id, made.issued_at, made.expires_at) == (
        told.user_id,
        told.session_id,
        told.issued_at,
        told.expires_at,
    )


def test_the_tokens_reason_stands_where_the_profile_has_none() -> None:
    assert with_profile(user(RESTRICTED), profile_from_json(body())).restricted_reason == "email_not_verified"


# -- nobody -------------------------------------------------------------------------------------------


def test_the_guest_is_falsy_and_not_authenticated() -> None:
    """What Starlette's and Django's code asks of nobody."""
    assert not GUEST
    assert (GUEST.is_authenticated, GUEST.display_name, GUEST.identity) == (False, "", "")


def test_permissions_are_a_list_of_scopes() -> None:
    assert Permissions(["authenticated"]).scopes == ["authenticated"]
