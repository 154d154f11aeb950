"""`User`: created from claims and a profile; immutable, picklable, and encoded by its fields only."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import TypeAdapter

from stackauth_middleware._core.user_profile import profile_from_json
from stackauth_middleware._core.users import (
    GUEST,
    Permissions,
    User,
    UserType,
    project_of,
    user_from_claims,
    with_profile,
)

from .helpers import ANONYMOUS, LEFT_OUT, NORMAL, PROJECT, RESTRICTED, USER_ID, WALL, claims
from .test_user_profile import SERVER_ONLY, body


def user(kind: UserType = NORMAL, **changes: Any) -> User:
    """Return a user of these claims."""
    made = claims(kind, **changes)
    return user_from_claims(made, kind, json.dumps(made).encode())


# -- from claims --------------------------------------------------------------------------------------


def test_user_has_the_values_of_the_claims() -> None:
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
def test_flags_follow_the_user_type(kind: UserType, anonymous: bool, restricted: bool, reason: str | None) -> None:
    made = user(kind)
    assert (made.user_type, made.is_anonymous, made.is_restricted, made.restricted_reason) == (
        kind,
        anonymous,
        restricted,
        reason,
    )


@pytest.mark.parametrize("kind", UserType)
def test_project_is_that_of_the_audience_for_every_user_type(kind: UserType) -> None:
    assert (project_of(user(kind)), project_of(user(kind, aud=LEFT_OUT))) == (PROJECT, "")


LESS = {"exp": WALL, "sub": USER_ID}


def test_missing_claims_are_none_or_false() -> None:
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
def test_claim_of_a_wrong_type_is_none_or_false(claim: str, value: Any, field: str, held: Any) -> None:
    assert getattr(user(**{claim: value}), field) == held


@pytest.mark.parametrize("infinite", ["1e999", "-1e999"])
def test_infinite_number_is_none(infinite: str) -> None:
    """The JSON encoder of Starlette raises on infinity."""
    infinite_claims = json.loads(json.dumps(claims()).replace(str(WALL - 86_400), infinite))
    assert infinite_claims["signed_up_at"] == float(infinite)
    made = user_from_claims(infinite_claims, NORMAL, b"{}")
    assert json.dumps(made.to_dict(), allow_nan=False)


def test_legacy_claim_of_the_session_id_is_read() -> None:
    assert user(refresh_token_id=LEFT_OUT, refreshTokenId="s-1").session_id == "s-1"


def test_reason_of_an_anonymous_user_defaults_to_anonymous() -> None:
    assert user(ANONYMOUS, restricted_reason=LEFT_OUT).restricted_reason == "anonymous"
    assert user(RESTRICTED, restricted_reason={}).restricted_reason is None


# -- the value ----------------------------------------------------------------------------------------


def test_user_is_immutable() -> None:
    """All requests with one token share one object."""
    made = user()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.email = "other"
    with pytest.raises((AttributeError, TypeError)):
        made.extra = 1


def test_hash_pickle_and_copy_keep_claims_and_profile() -> None:
    made = with_profile(user(), profile_from_json(body()))
    for again in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert again == made
        assert again.profile.server_metadata == "text"
        assert hash(again) == hash(made)
        assert again.claims == made.claims
        assert again.claims["sub"] == USER_ID


def test_user_made_by_its_constructor_has_no_claims() -> None:
    """As tests of an app make one."""
    by_hand = User(USER_ID, NORMAL, False, False, None, None, False, None, None, None, None, False, None, WALL)
    assert by_hand.claims == {}
    assert pickle.loads(pickle.dumps(by_hand)) == by_hand
    assert with_profile(by_hand, profile_from_json(body())).claims == {}


def test_dataclasses_replace_keeps_claims_and_server_only_members() -> None:
    made = with_profile(user(), profile_from_json(body()))
    changed = dataclasses.replace(made, email="x")
    assert (changed.email, changed.claims) == ("x", made.claims)
    assert changed.claims["sub"] == USER_ID
    renamed = dataclasses.replace(profile_from_json(body()), display_name="x")
    assert (renamed.display_name, renamed.server_metadata) == ("x", "text")


def test_claims_are_deeply_immutable_and_no_field() -> None:
    made = user(RESTRICTED)
    with pytest.raises(TypeError):
        made.claims["restricted_reason"]["type"] = "other"
    assert made.claims["restricted_reason"] == {"type": "email_not_verified"}
    assert isinstance(made.claims, Mapping)
    assert "claims" not in {each.name for each in dataclasses.fields(User)}


def test_fields_are_the_documented_ones_and_the_keys_of_to_dict() -> None:
    names = [each.name for each in dataclasses.fields(User)]
    assert names == list(user().to_dict())
    assert set(names) == {
        *("user_id", "user_type", "is_anonymous", "is_restricted", "restricted_reason", "email", "email_verified"),
        *("display_name", "selected_team_id", "signed_up_at", "session_id", "requires_totp_mfa", "issued_at"),
        *("expires_at", "profile"),
    }


def test_user_has_the_attributes_that_frameworks_read() -> None:
    made = user()
    assert made.id == made.identity == made.user_id == USER_ID
    assert made.is_authenticated is True
    assert made


def test_user_type_is_a_string() -> None:
    assert [str(kind) for kind in UserType] == ["normal", "restricted", "anonymous"]
    assert json.dumps({"type": UserType.RESTRICTED}) == '{"type": "restricted"}'
    assert f"{UserType.ANONYMOUS}" == "anonymous"


def test_pydantic_validates_instances_and_results_of_asdict_only() -> None:
    validate = TypeAdapter(User).validate_python
    for made in (user(), with_profile(user(), profile_from_json(body()))):
        assert validate(made) is made
        assert validate(dataclasses.asdict(made)).to_dict() == made.to_dict()
        with pytest.raises(RuntimeError, match="User comes from a verified token"):
            validate(made.to_dict())


# -- with a profile ----------------------------------------------------------------------------------


def test_dict_of_a_profile_is_the_client_read() -> None:
    """With the members of docs/stack-auth.md section 5, for the user and the selected team."""
    team = {
        "id": "team-1",
        "display_name": "T",
        "profile_image_url": None,
        "client_metadata": {"a": 1},
        "client_read_only_metadata": None,
    }
    server_read = body(selected_team={**team, "server_metadata": {"b": 2}, "created_at_millis": 5})
    client_read = {
        **{name: value for name, value in server_read.items() if name not in SERVER_ONLY},
        "selected_team": team,
    }
    made = with_profile(user(), profile_from_json(server_read))
    assert made.to_dict()["profile"] == client_read
    assert made.to_dict(server_only=True)["profile"] == {**server_read, "raw": {}}


def test_dict_of_a_user_with_a_profile_is_json() -> None:
    made = with_profile(user(), profile_from_json(body()))
    assert json.loads(json.dumps(made.to_dict()))["profile"]["client_metadata"] == {"a": [1, {"b": None}]}


@pytest.mark.parametrize("token_kind", UserType, ids=lambda kind: f"token-{kind}")
@pytest.mark.parametrize("profile_kind", UserType, ids=lambda kind: f"profile-{kind}")
def test_stricter_flag_of_token_and_profile_wins(token_kind: UserType, profile_kind: UserType) -> None:
    """A user who was restricted, or whose restriction was lifted, after the token was issued is restricted."""
    profile = profile_from_json(body(is_anonymous=profile_kind is ANONYMOUS, is_restricted=profile_kind is not NORMAL))
    made = with_profile(user(token_kind), profile)
    strictness = [NORMAL, RESTRICTED, ANONYMOUS]
    stricter = max(token_kind, profile_kind, key=strictness.index)
    assert made.user_type is stricter
    assert made.is_anonymous is (stricter is ANONYMOUS)
    assert made.is_restricted is (stricter is not NORMAL)


def test_anonymous_profile_is_restricted() -> None:
    made = with_profile(user(), profile_from_json(body(is_anonymous=True, is_restricted=False)))
    assert (made.user_type, made.is_restricted) == (ANONYMOUS, True)


def test_values_of_the_profile_replace_those_of_the_token() -> None:
    of_token = user(RESTRICTED, email="old@example.com", name="Old", selected_team_id="old", requires_totp_mfa=False)
    profile = profile_from_json(body(requires_totp_mfa=True, restricted_reason={"type": "restricted_by_administrator"}))
    made = with_profile(of_token, profile)
    assert (made.email, made.email_verified, made.display_name, made.selected_team_id, made.requires_totp_mfa) == (
        "jane@example.com",
        True,
        "Jane",
        "team-1",
        True,
    )
    assert made.restricted_reason == "restricted_by_administrator"
    assert made.profile is profile
    assert made.claims == of_token.claims
    assert (made.user_id, made.session_id, made.issued_at, made.expires_at) == (
        of_token.user_id,
        of_token.session_id,
        of_token.issued_at,
        of_token.expires_at,
    )


def test_reason_of_the_token_is_kept_if_the_profile_has_none() -> None:
    assert with_profile(user(RESTRICTED), profile_from_json(body())).restricted_reason == "email_not_verified"


# -- unauthenticated ----------------------------------------------------------------------------------


def test_guest_is_falsy_and_not_authenticated() -> None:
    """As code for Starlette and Django expects of an unauthenticated user."""
    assert not GUEST
    assert (GUEST.is_authenticated, GUEST.display_name, GUEST.identity) == (False, "", "")


def test_permissions_are_a_list_of_scopes() -> None:
    assert Permissions(["authenticated"]).scopes == ["authenticated"]
