"""`UserProfile`: parsed from users/me; encoders see the members for clients only."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from stackauth_middleware._core.user_profile import UserProfile, profile_from_json

from .helpers import LEFT_OUT, USER_ID, bounded, without


def body(**changes: Any) -> dict[str, Any]:
    """Return the users/me response to a server (docs/stack-auth.md section 5), with changes."""
    made = {
        "id": USER_ID,
        "primary_email": "jane@example.com",
        "primary_email_verified": True,
        "primary_email_auth_enabled": True,
        "display_name": "Jane",
        "profile_image_url": None,
        "signed_up_at_millis": 1_795_372_533_000,
        "last_active_at_millis": 1_795_372_534_000,
        "has_password": True,
        "otp_auth_enabled": False,
        "passkey_auth_enabled": False,
        "auth_with_email": True,
        "requires_totp_mfa": False,
        "client_metadata": {"a": [1, {"b": None}]},
        "client_read_only_metadata": None,
        "server_metadata": "text",
        "selected_team_id": "team-1",
        "selected_team": {"id": "team-1", "display_name": "T"},
        "oauth_providers": [{"id": "github", "account_id": "1", "email": None}],
        "is_anonymous": False,
        "is_restricted": False,
        "restricted_reason": None,
        "restricted_by_admin": False,
        "restricted_by_admin_reason": None,
        "restricted_by_admin_private_details": None,
        "country_code": "CH",
        "risk_scores": {"sign_up": {"bot": 0, "free_trial_abuse": 100}},
    }
    return without({**made, **changes})


def test_profile_has_all_members_of_the_server_read() -> None:
    server_read = body()
    assert profile_from_json(server_read).to_dict(server_only=True) == {**server_read, "raw": {}}


def test_equality_includes_server_only_members() -> None:
    assert profile_from_json(body()) == UserProfile.from_json(body())
    assert profile_from_json(body()) != profile_from_json(body(server_metadata="other"))
    assert profile_from_json(body()) != body()


SERVER_ONLY = (
    "primary_email_auth_enabled",
    "last_active_at_millis",
    "server_metadata",
    "restricted_by_admin_private_details",
    "country_code",
    "risk_scores",
)


def test_server_only_members_are_none_after_a_client_read() -> None:
    profile = profile_from_json(body(**dict.fromkeys(SERVER_ONLY, LEFT_OUT)))
    assert [getattr(profile, name) for name in SERVER_ONLY] == [None] * len(SERVER_ONLY)


def test_members_other_than_the_id_may_be_missing() -> None:
    profile = profile_from_json({"id": USER_ID})
    assert (profile.id, profile.is_anonymous, profile.is_restricted, profile.oauth_providers) == (
        USER_ID,
        False,
        False,
        (),
    )


def test_unknown_members_are_in_raw() -> None:
    profile = profile_from_json(body(shoe_size=[46], raw="not ours"))
    assert profile.raw == {"shoe_size": (46,), "raw": "not ours"}
    assert profile.to_dict(server_only=True)["raw"] == {"shoe_size": [46], "raw": "not ours"}
    assert "raw" not in profile.to_dict()


@pytest.mark.parametrize("flag", ["is_anonymous", "is_restricted"])
@pytest.mark.parametrize("value", [None, "false", 0, 1, [], {}], ids=repr)
def test_flag_that_decides_about_access_must_be_a_boolean(flag: str, value: Any) -> None:
    """Read as false, it would allow the user."""
    with pytest.raises(ValueError, match=f"{flag} is not a boolean"):
        profile_from_json(body(**{flag: value}))


@pytest.mark.parametrize(
    ("member", "value", "held"),
    [
        ("primary_email", 5, None),
        ("display_name", "\udfff", "?"),
        ("primary_email_verified", "true", False),
        ("has_password", 1, False),
        ("signed_up_at_millis", 1.5, None),
        ("signed_up_at_millis", True, None),
        ("last_active_at_millis", "1", None),
        ("restricted_reason", "text", None),
        ("restricted_reason", {"type": "restricted_by_administrator"}, "restricted_by_administrator"),
        ("selected_team", [], None),
        ("oauth_providers", None, ()),
        ("oauth_providers", ["x", {"id": "a"}], ({"id": "a"},)),
        ("primary_email_auth_enabled", "true", None),
        ("risk_scores", [], None),
        ("server_metadata", {"a": [1]}, {"a": (1,)}),
    ],
    ids=str,
)
def test_member_of_a_wrong_type_is_none_or_empty(member: str, value: Any, held: Any) -> None:
    assert getattr(profile_from_json(body(**{member: value})), member) == held


def test_profile_is_deeply_immutable_and_to_dict_returns_a_copy() -> None:
    profile = profile_from_json(body())
    with pytest.raises(TypeError):
        profile.client_metadata["a"] = 1
    with pytest.raises(TypeError):
        profile.oauth_providers[0]["id"] = "other"
    yours = profile.to_dict()
    yours["client_metadata"]["a"].append("mine")
    assert profile.client_metadata == {"a": (1, {"b": None})}
    assert hash(profile) == hash(profile_from_json(body()))


def test_copy_and_pickle_keep_server_only_members() -> None:
    profile = profile_from_json(body())
    for again in (pickle.loads(pickle.dumps(profile)), copy.copy(profile), copy.deepcopy(profile)):
        assert (again, hash(again)) == (profile, hash(profile))
        assert (again.server_metadata, again.country_code) == ("text", "CH")


def test_json_and_pydantic_encode_the_same_as_to_dict() -> None:
    profile = profile_from_json(body(oauth_providers=[], client_metadata=None))
    assert json.loads(json.dumps(dataclasses.asdict(profile))) == profile.to_dict()
    assert json.loads(TypeAdapter(UserProfile).dump_json(profile)) == profile.to_dict()
    assert "text" not in repr(profile)


def test_pydantic_validates_instances_and_results_of_asdict_only() -> None:
    profile = profile_from_json(body())
    validate = TypeAdapter(UserProfile).validate_python
    assert validate(profile) is profile
    assert validate(dataclasses.asdict(profile)).to_dict() == profile.to_dict()
    with pytest.raises(RuntimeError, match="UserProfile comes from a verified token"):
        validate(profile.to_dict())


@bounded
@given(
    st.dictionaries(
        st.sampled_from(list(body())), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.none())
    )
)
def test_arbitrary_members_make_a_profile_or_raise_value_error(changes: dict[str, Any]) -> None:
    """A response with unexpected types raises no other exception."""
    server_read = body(**changes, id=USER_ID) if "id" not in changes else body(**{**changes, "id": USER_ID})
    try:
        profile = profile_from_json(server_read)
    except ValueError:
        assert not all(isinstance(server_read[flag], bool) for flag in ("is_anonymous", "is_restricted"))
    else:
        assert json.dumps(profile.to_dict())
        hash(profile)


def test_profile_made_by_its_constructor_has_no_server_only_members() -> None:
    needed = (each for each in dataclasses.fields(UserProfile) if each.default is each.default_factory)
    made = dict.fromkeys((each.name for each in needed), None) | {"oauth_providers": ()}
    by_hand = UserProfile(**made)
    assert (by_hand.raw, by_hand.server_metadata) == ({}, None)
    assert by_hand.to_dict(server_only=True) == {**made, **dict.fromkeys(SERVER_ONLY), "raw": {}, "oauth_providers": []}
