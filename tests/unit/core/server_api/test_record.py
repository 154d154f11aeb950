"""Records: sealed members, copies and the parts of an answer."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest
from pydantic import TypeAdapter

from stackauth_middleware._core.server_api.record import items_of, seconds_of, text_of
from stackauth_middleware._core.server_api.teams import Team, team_from_json
from tests.unit.core.helpers import USER_ID, as_id

BODY = {
    "id": USER_ID,
    "display_name": "Sales",
    "client_metadata": {"a": [1]},
    "created_at_millis": 1500,
    "server_metadata": {"plan": "pro"},
    "new": [1],
}
TEAM = team_from_json(BODY)
SHOWN = {
    "id": USER_ID,
    "display_name": "Sales",
    "profile_image_url": None,
    "client_metadata": {"a": [1]},
    "client_read_only_metadata": None,
}


def test_encoders_and_repr_see_what_clients_may_see() -> None:
    assert TEAM.to_dict() == TypeAdapter(Team).dump_python(TEAM, mode="json") == SHOWN
    assert "plan" not in repr(TEAM) + str(dataclasses.asdict(TEAM))
    sealed = {"created_at": 1.5, "server_metadata": {"plan": "pro"}, "raw": {"new": [1]}}
    assert TEAM.to_dict(server_only=True) == SHOWN | sealed
    assert TEAM.raw == {"new": (1,)}


def test_copies_are_equal_and_other_records_are_not() -> None:
    for same in (
        pickle.loads(pickle.dumps(TEAM)),
        copy.deepcopy(TEAM),
        dataclasses.replace(TEAM),
        team_from_json(BODY),
    ):
        assert same == TEAM
        assert hash(same) == hash(TEAM)
        assert same.server_metadata == {"plan": "pro"}
    assert dataclasses.replace(TEAM, display_name="x") != TEAM
    assert team_from_json({**BODY, "server_metadata": None}) != TEAM
    assert TEAM != "a team"


def test_decoders_cannot_create_a_record() -> None:
    adapter = TypeAdapter(Team)
    assert adapter.validate_python(TEAM) is TEAM
    with pytest.raises(RuntimeError, match="never decoded"):
        adapter.validate_python(SHOWN)


@pytest.mark.parametrize("body", [None, [], {}, {"items": {}}, {"items": None}, {"items": [1]}, "html"], ids=as_id)
def test_body_without_a_list_of_objects_is_an_error(body: Any) -> None:
    with pytest.raises(ValueError, match="no list"):
        items_of(body)


def test_parts_are_read_by_type() -> None:
    body = {"text": "a", "time": 1500, "fraction": 1500.5, "flag": True, "null": None}
    assert items_of({"items": [body]}) == [body]
    assert text_of(body, "text") == "a"
    for name in ("time", "null", "absent"):
        with pytest.raises(ValueError, match=name):
            text_of(body, name)
    times = {name: seconds_of(body, name) for name in ("time", "fraction", "flag", "null", "text", "absent")}
    assert times == {"time": 1.5, "fraction": 1.5005, "flag": None, "null": None, "text": None, "absent": None}
