"""Values by the types of their fields, from text and from TOML."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, Optional

import pytest

from stackauth_middleware import ErrorCode, Rule
from stackauth_middleware._core.config import ErrorBody, typed_settings
from stackauth_middleware._core.readers import can_be_text, from_text, from_toml, item_type, types_of, without_none
from stackauth_middleware.errors import ConfigError

Access = Literal["user", "team"]


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (str, " a b ", " a b "),
        (bool, "YES", True),
        (bool, " 0 ", False),
        (int, "-5", -5),
        (float, "1e2", 100.0),
        (float | None, "None", None),
        (Optional[float], "2", 2.0),  # noqa: UP045 - Python before 3.14 has another class for it
        (Access, "robot", "robot"),
        (str | None, "none", None),
        (str | None, "a", "a"),
        (Sequence[str], "a,b\n c,", ["a", "b", "c"]),
        (Collection[Access], "user", ["user"]),
        (tuple[Access, ...] | None, "none", None),
        (str | Sequence[str], "a b", ["a", "b"]),
        (Sequence[int], "1 2", [1, 2]),
        (Sequence[Callable[[Any], object]], "math:sqrt, math:sin", [math.sqrt, math.sin]),
        (Callable[[Any], bool] | None, "math:sqrt", math.sqrt),
        (ErrorBody, "problem", "problem"),
    ],
    ids=str,
)
def test_text_is_read_by_type(hint: Any, text: str, value: Any) -> None:
    assert can_be_text(hint)
    assert from_text(hint, text, "x") == value


@pytest.mark.parametrize(
    ("hint", "text", "message"),
    [
        (bool, "maybe", "x is 'maybe'; it must be true or false"),
        (bool, "2", "it must be true or false"),
        (int, "1.5", "x is '1.5'; it must be a whole number"),
        (float, "5s", "x is '5s'; it must be a number"),
        (float | None, "null", "x is 'null'; it must be a number"),
        (Sequence[Callable[[Any], object]], "math", "x is 'math'; it must be in the form 'package.module:name'"),
    ],
    ids=str,
)
def test_text_of_another_type(hint: Any, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_text(hint, text, "x")


@pytest.mark.parametrize(
    ("hint", "given", "value"),
    [
        (float, 5, 5),
        (bool, "true", "true"),  # TOML has booleans; the check of the setting refuses the string
        (str | None, "none", None),
        (Collection[Access], ["user"], ["user"]),
        (str | Sequence[str], "a", "a"),
        (Sequence[Callable[[Any], object]], ["math:sqrt"], [math.sqrt]),
        (Callable[[Any], bool] | None, "math:sqrt", math.sqrt),
        (ErrorBody, {"missing_token": 1, "403": 2, "other": 3}, {ErrorCode.MISSING_TOKEN: 1, 403: 2, "other": 3}),
        (str, {"a": 1}, {"a": 1}),
        (Sequence[Rule], 5, 5),
    ],
    ids=str,
)
def test_toml_value_is_read_by_type(hint: Any, given: Any, value: Any) -> None:
    assert from_toml(hint, given, "x") == value


def test_types_that_text_cannot_express() -> None:
    for hint in (Sequence[Rule], Mapping[str, Any], dict[str, int] | None):
        assert not can_be_text(hint)
    assert item_type(Mapping[str, int]) is None


def test_every_setting_and_member_of_a_rule_is_of_a_type_that_a_file_can_hold() -> None:
    """A setting of a new kind of type would be read as the text that it is; then its reader belongs in the module."""
    hints = [each.hint for each in typed_settings().values()] + list(types_of(Rule).values())
    assert [hint for hint in hints if not can_be_text(hint)] == [Sequence[Rule]]


def test_type_without_none() -> None:
    assert [without_none(each) for each in (str | None, bool | int | None, str)] == [str, bool | int, str]
