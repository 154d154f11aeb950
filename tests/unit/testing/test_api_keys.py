from __future__ import annotations

import re
import zlib

import pytest

from stackauth_middleware.testing._api_keys import ApiKeys, ApiKeyType, key_value
from stackauth_middleware.testing._projects import EVERY
from tests.unit.testing.helpers import OTHER_PROJECT, PROJECT, USER_ID


@pytest.mark.parametrize("key_type", ["user", "team"])
@pytest.mark.parametrize("public", [False, True])
def test_value_has_the_form_and_the_checksum(key_type: ApiKeyType, public: bool) -> None:
    value = key_value(USER_ID, key_type, public=public)
    prefix, scanner = ("pk", "3") if public else ("sk", "1")
    form = rf"{prefix}_[0-9a-hjkmnp-tv-z]{{45}}{USER_ID.replace('-', '')}{key_type}{scanner}574ck4u7h([0-9a-f]{{8}})"
    matched = re.fullmatch(form, value)
    assert matched
    assert (len(value), int(matched[1], 16)) == (102, zlib.crc32(value[:-8].encode()))


def test_key_is_found_in_its_project_by_id_value_and_owner() -> None:
    keys = ApiKeys()
    one = keys.create("user", USER_ID, PROJECT, created_at_millis=1)
    two = keys.create("user", USER_ID, EVERY, created_at_millis=2, description="two")
    assert keys.get(one.id, PROJECT) == keys.find(one.value, PROJECT) == one
    assert keys.get(one.id, OTHER_PROJECT) is keys.find(one.value, OTHER_PROJECT) is None
    assert keys.find(two.value, OTHER_PROJECT) == two
    assert keys.of_owner("user", USER_ID, PROJECT) == [two, one]
    assert keys.of_owner("team", USER_ID, PROJECT) == []
    assert one.value not in repr(one)
    assert keys.describe(one.id, "new").read()["description"] == "new"
    assert keys.revoke(one.id, 5) == keys.revoke(one.id, 6)
    keys.remove_owner(USER_ID)
    assert keys.of_owner("user", USER_ID, PROJECT) == []
    with pytest.raises(KeyError):
        keys.revoke(one.id, 7)
