"""Checks of arguments of the server API."""

from __future__ import annotations

import pickle
import re
import string
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.server_api import values
from stackauth_middleware._core.server_api.values import UNSET, body_of, email, flag, json, or_none, permission_id, text
from stackauth_middleware._core.server_api.values import uuid as checked_uuid
from tests.unit.core.helpers import USER_ID, as_id, bounded

SYSTEM = ["$update_team", "$delete_team", "$read_members", "$remove_members", "$invite_members", "$manage_api_keys"]


@bounded
@given(st.uuids(version=4))
def test_any_uuid_is_accepted_in_any_case_and_sent_in_lower_case(value: UUID) -> None:
    assert checked_uuid("id", value) == checked_uuid("id", str(value)) == checked_uuid("id", str(value).upper())
    assert checked_uuid("id", value) == str(value)


@bounded
@given(st.text() | st.from_regex(r"[0-9a-f-]{30,40}", fullmatch=True))
def test_text_is_a_uuid_only_if_the_standard_library_agrees(value: str) -> None:
    try:
        accepted: str | None = checked_uuid("id", value)
    except ValueError:
        accepted = None
    assert accepted is None or accepted == str(UUID(value))
    assert (accepted is not None) == (len(value) == 36 and _is_canonical(value))


def _is_canonical(value: str) -> bool:
    try:
        return str(UUID(value)) == value.lower() and value.isascii()
    except ValueError:
        return False


NO_UUIDS = [
    *(
        "me",
        "",
        "../users",
        f"{USER_ID}/",
        f"{USER_ID}\n",
        f"{USER_ID}?x=1",
        f"{{{USER_ID}}}",
        USER_ID.replace("-", ""),
    ),
    *(None, 1, b"1", UNSET, [USER_ID], f"\uff12{USER_ID[1:]}"),
]


@pytest.mark.parametrize("value", NO_UUIDS, ids=as_id)
def test_what_is_no_uuid_is_refused_without_being_quoted(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^team_id must be a UUID") as raised:
        checked_uuid("team_id", value)
    assert not value or str(value) not in str(raised.value)


@bounded
@given(st.text(string.ascii_lowercase + string.digits + "_:", min_size=1, max_size=200))
def test_permission_ids_of_the_form_of_the_api_are_accepted(value: str) -> None:
    assert permission_id("id", value) == value
    assert permission_id("id", "$" + value) == "$" + value


@bounded
@given(st.text())
def test_other_text_is_no_permission_id(value: str) -> None:
    if not re.fullmatch(r"\$?[a-z0-9_:]+", value):
        with pytest.raises(ValueError, match="id must be a permission id"):
            permission_id("id", value)


def test_system_permissions_are_permission_ids() -> None:
    assert [permission_id("id", each) for each in SYSTEM] == SYSTEM
    for value in ("a" * 201, "Read", "a/b", "a\n", "$$a", "$", None, 1):
        with pytest.raises(ValueError):
            permission_id("id", value)


@pytest.mark.parametrize("value", ["jane@example.com", "o'hara+tag@sub.example.co", "jörg@例え.jp", "a@b"])
def test_email_addresses_are_accepted(value: str) -> None:
    assert email("email", value) == value


NO_ADDRESSES = [
    *("", "jane", "@b", "a@", "a@b@c", "a b@c", "a@b\r\nbcc:x", "Jane <a@b>", "a@b,c@d", "a" * 65 + "@b"),
    *("a@" + "b" * 256, None, 1, b"a@b"),
]


@pytest.mark.parametrize("value", NO_ADDRESSES, ids=as_id)
def test_what_is_no_email_address_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^email must be an email address$"):
        email("email", value)


def test_body_has_the_fields_that_are_set_and_null_for_none() -> None:
    checks = {"name": or_none(text), "verified": flag, "metadata": json, "left": text, "nick": text}
    fields = {"name": None, "nick": "J", "verified": False, "metadata": [1], "left": UNSET}
    assert body_of(fields, checks) == {"name": None, "nick": "J", "verified": False, "metadata": [1]}
    assert body_of({}, checks) == {}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"nam": "x"}, "unknown field 'nam'; the fields are name, verified"),
        ({"name": 1}, "name must be a string"),
        ({"verified": 1}, "verified must be True or False"),
        ({"verified": None}, "verified must be True or False"),
    ],
)
def test_field_that_is_unknown_or_of_the_wrong_type_is_an_error(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(TypeError, match=error):
        body_of(fields, {"name": or_none(text), "verified": flag})


def test_unset_is_a_singleton_that_is_false() -> None:
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET
    assert not UNSET
    assert repr(UNSET) == "UNSET"
    assert isinstance(UNSET, values.Unset)
