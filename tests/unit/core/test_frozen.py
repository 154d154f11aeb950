"""Immutable JSON values, which encoders and comparisons treat as plain ones."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.frozen import FrozenDict, freeze, thaw

from .helpers import bounded

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)

WRITES: dict[str, Callable[[Any], object]] = {
    "set": lambda d: d.__setitem__("a", 2),
    "delete": lambda d: d.__delitem__("a"),
    "clear": lambda d: d.clear(),
    "pop": lambda d: d.pop("a"),
    "popitem": lambda d: d.popitem(),
    "setdefault": lambda d: d.setdefault("b", 2),
    "update": lambda d: d.update(a=2),
    "or-assign": lambda d: d.__ior__({"a": 2}),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_no_dict_method_changes_a_frozen_dict(write: Callable[[Any], object]) -> None:
    frozen = FrozenDict(a=1)
    with pytest.raises(TypeError, match="cannot be changed; copy it first"):
        write(frozen)
    assert frozen == {"a": 1}


def test_every_writing_method_of_dict_is_tried() -> None:
    """Fails if a later Python adds a method to dict."""
    readers = {"get", "items", "keys", "values", "copy", "fromkeys"}
    assert {name for name in dir(dict) if not name.startswith("_")} - readers == set(WRITES) - {
        "set",
        "delete",
        "or-assign",
    }


@bounded
@given(JSON)
def test_thaw_reverses_freeze(value: Any) -> None:
    frozen = freeze(value)
    assert thaw(frozen) == value
    assert json.dumps(thaw(frozen), sort_keys=True) == json.dumps(frozen, sort_keys=True)


@bounded
@given(JSON)
def test_frozen_values_are_hashable_and_picklable(value: Any) -> None:
    frozen = freeze(value)
    assert hash(frozen) == hash(freeze(copy.deepcopy(value)))
    again = pickle.loads(pickle.dumps(frozen))
    assert again == frozen
    assert type(again) is type(frozen)


def test_freeze_applies_at_any_depth() -> None:
    frozen = freeze({"a": [{"b": [1]}]})
    with pytest.raises(TypeError):
        frozen["a"][0]["b"] = 2
    assert frozen == {"a": ({"b": (1,)},)}


def test_freeze_and_thaw_copy() -> None:
    """Changes to the source or to the thawed copy do not affect the frozen value."""
    mine: dict[str, Any] = {"a": [1]}
    frozen = freeze(mine)
    mine["a"].append(2)
    yours = thaw(frozen)
    yours["a"].append(3)
    assert frozen == {"a": (1,)}


def test_copy_of_a_frozen_dict_is_itself() -> None:
    frozen = freeze({"a": {}})
    assert copy.copy(frozen) is frozen
    assert copy.deepcopy(frozen) is frozen


def test_encoders_accept_a_frozen_dict() -> None:
    assert isinstance(freeze({}), dict)
    assert json.dumps(freeze({"a": [1, None]})) == '{"a": [1, null]}'


def test_merge_returns_a_plain_dict() -> None:
    merged = FrozenDict(a=1) | {"b": 2}
    merged["c"] = 3
    assert merged == {"a": 1, "b": 2, "c": 3}
