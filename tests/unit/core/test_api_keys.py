"""API keys: the format, checked against recorded keys, and the record that is read from a recorded answer."""

from __future__ import annotations

import dataclasses
import json
import pickle
import string
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from stackauth_middleware._core.api_keys import ApiKey, ApiKeyForm, ApiKeyType, api_key_from_json, form_of
from tests.data import load_recorded

from .helpers import LEFT_OUT, bounded, without

CHECKS = [
    each
    for each in load_recorded("server-api")
    if each["request"]["path"].endswith("-api-keys/check") and each["request"]["body"].keys() == {"api_key"}
]
VALID = [each for each in CHECKS if each["response"]["status"] == 200]
SECRET = [each for each in VALID if not each["response"]["body"]["is_public"]]
ID = "8a3f2d10-0000-4000-8000-0123456789ab"
OWNER = "22222222-2222-4222-8222-222222222222"
NO_KEYS = ["hello", "", 1, None]
"""What was recorded for values that are no keys."""


def key(prefix: str = "sk", kind: str = "user", scanner: str = "1", key_id: str = ID, secret: str = "0" * 45) -> str:
    """Return an API key, made as Stack Auth does (docs/stack-auth.md section 11)."""
    made = f"{prefix}_{secret}{key_id.replace('-', '')}{kind}{scanner}574ck4u7h"
    return f"{made}{zlib.crc32(made.encode()):08x}"


FORM = ApiKeyForm(ID, ApiKeyType.USER, is_public=False)


def body(**changes: Any) -> dict[str, Any]:
    made = {
        "id": ID,
        "type": "user",
        "user_id": OWNER,
        "description": "a key",
        "is_public": False,
        "created_at_millis": 1_795_807_216_021,
        "expires_at_millis": 1_795_810_814_488,
        "value": {"last_four": "396c"},
    }
    return without({**made, **changes})


# -- the format ---------------------------------------------------------------------------------------


def test_every_recorded_key_has_the_form_that_its_answer_describes() -> None:
    assert len(VALID) >= 10
    for each in VALID:
        answer = each["response"]["body"]
        form = form_of(each["request"]["body"]["api_key"])
        assert form == (answer["id"], answer["type"], answer["is_public"]), each["name"]


def test_recorded_keys_are_refused_locally_only_where_stack_auth_does_not_know_them() -> None:
    refused = [each for each in CHECKS if form_of(str(each["request"]["body"]["api_key"])) is None]
    assert {each["response"]["body"]["code"] for each in refused} <= {"API_KEY_NOT_FOUND", "SCHEMA_ERROR"}
    changed = {each["request"]["body"]["api_key"] for each in refused} - set(NO_KEYS)
    assert changed == {
        "sk_5pbr03wt3g9zsg1a7b8w6663j05w92gcpf2gp0jp5689042f330b4b43a4bb5a7d1595e12b92e41user1574ck4u7hce7e396c"
    }


@pytest.mark.parametrize("kind", ["user", "team"])
@pytest.mark.parametrize(("prefix", "scanner"), [("sk", "0"), ("sk", "1"), ("pk", "2"), ("pk", "3")])
def test_form_has_id_type_and_publicity(kind: str, prefix: str, scanner: str) -> None:
    made = key(prefix, kind, scanner)
    assert len(made) == 102
    assert form_of(made) == ApiKeyForm(ID, ApiKeyType(kind), prefix == "pk")


@pytest.mark.parametrize(
    "value",
    [
        key(scanner="2"),
        key(prefix="pk", scanner="1"),
        key(scanner="4"),
        key(kind="orgs"),
        key(prefix="ak"),
        key(key_id=ID.upper()),
        key(secret="0" * 44 + "-"),
        key(secret="0" * 44),
        key() + "\n",
        key().upper(),
        key()[:-1] + "é",
        "sk_" + "é" * 99,
        "ssk_" + "0" * 45,
    ],
    ids=range(13),
)
def test_value_of_another_form_is_no_key(value: str) -> None:
    assert form_of(value) is None


@bounded
@given(st.text(string.ascii_lowercase + string.digits, min_size=45, max_size=45), st.uuids(), st.data())
def test_any_key_is_accepted_and_any_single_change_of_it_is_not(secret: str, key_id: Any, data: st.DataObject) -> None:
    made = key(kind=data.draw(st.sampled_from(["user", "team"])), key_id=str(key_id), secret=secret)
    form = form_of(made)
    assert form is not None
    assert form.id == str(key_id)
    at = data.draw(st.integers(0, 101))
    other = data.draw(st.characters().filter(lambda each: each != made[at]))
    assert form_of(made[:at] + other + made[at + 1 :]) is None


# -- the record ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", SECRET, ids=lambda each: each["name"])
def test_recorded_answer_becomes_an_api_key(each: dict[str, Any]) -> None:
    answer, value = each["response"]["body"], each["request"]["body"]["api_key"]
    form = form_of(value)
    assert form
    made = api_key_from_json(answer, form)
    assert (made.id, made.type, made.description) == (answer["id"], answer["type"], answer["description"])
    assert (made.user_id, made.team_id) == (answer.get("user_id"), answer.get("team_id"))
    assert made.created_at == answer["created_at_millis"] / 1000
    expected = answer["expires_at_millis"] / 1000 if "expires_at_millis" in answer else None
    assert made.expires_at == expected
    assert made.raw == {}
    assert value not in repr(made) + str(made.to_dict())


def test_unknown_members_are_kept_in_raw_and_the_value_is_not() -> None:
    made = api_key_from_json(body(value="sk_whole", scopes=["a"]), FORM)
    assert made.raw == {"scopes": ("a",)}
    assert "sk_whole" not in repr(made) + repr(made.raw)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": OWNER}, "another key"),
        ({"type": "team"}, "another key"),
        ({"user_id": LEFT_OUT, "team_id": OWNER}, "no owner"),
        ({"user_id": ""}, "no owner"),
        ({"user_id": 1}, "no owner"),
        ({"is_public": True}, "public"),
        ({"is_public": LEFT_OUT}, "public"),
        ({"manually_revoked_at_millis": 1}, "revoked"),
        ({"expires_at_millis": "soon"}, "expires_at_millis"),
        ({"expires_at_millis": True}, "expires_at_millis"),
        ({"created_at_millis": 1.5}, "created_at_millis"),
    ],
)
def test_answer_that_is_not_about_this_valid_key_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        api_key_from_json(body(**changes), FORM)


def test_null_times_are_none() -> None:
    made = api_key_from_json(body(created_at_millis=None, expires_at_millis=None, description=None), FORM)
    assert (made.created_at, made.expires_at, made.description) == (None, None, None)


def test_copies_are_equal_and_other_keys_are_not() -> None:
    made = api_key_from_json(body(scopes=["a"]), FORM)
    assert pickle.loads(pickle.dumps(made)) == made == dataclasses.replace(made)
    assert hash(made) == hash(api_key_from_json(body(scopes=["a"]), FORM))
    assert made != api_key_from_json(body(), FORM)
    assert made != "a key"
    assert json.loads(json.dumps(made.to_dict()))["type"] == "user"
    assert str(made.type) == "user"


def test_decoders_cannot_create_a_key_and_encoders_see_the_fields() -> None:
    made, adapter = api_key_from_json(body(), FORM), TypeAdapter(ApiKey)
    fields = adapter.dump_python(made, mode="json")
    assert fields == made.to_dict()
    assert adapter.validate_python(dataclasses.asdict(made)) == dataclasses.replace(made, description="a key")
    with pytest.raises(RuntimeError, match="never decoded"):
        adapter.validate_python(fields)
