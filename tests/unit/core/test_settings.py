"""Fields that carry their check, and the shared checks. Wrong values of each setting are in test_validation."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import Any

import pytest

from stackauth_middleware._core.settings import (
    OWN,
    PRIVATE,
    flag,
    flag_or_none,
    is_list,
    one_of,
    plain_function,
    seconds,
    setting,
    some_of,
    whole_number,
)
from stackauth_middleware.errors import ConfigError

from .helpers import as_id


def test_setting_is_a_field_with_default_check_and_flags() -> None:
    @dataclass
    class Some:
        plain: int = setting(whole_number, default=5)
        key: str = setting(one_of("a", "b"), default="a", prefixes=PRIVATE, secret=True)

    plain, key = fields(Some)
    assert Some() == Some(5, "a")
    assert plain.metadata == {"check": whole_number, "prefixes": OWN, "secret": False}
    assert (key.metadata["prefixes"], key.metadata["secret"]) == (PRIVATE, True)


class Callable:
    def __call__(self) -> None: ...


class CoroutineCallable:
    async def __call__(self) -> None: ...


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (flag, [True, False], [None, 0, 1, "true"]),
        (flag_or_none, [True, False, None], [0, 1, "true"]),
        (one_of("a", "b"), ["a", "b"], ["c", "", None, ["a"], "ab"]),
        (seconds(0.5, 60), [0.5, 1, 60], [0.4, 61, True, "1", None, float("nan"), float("inf")]),
        (whole_number, [0, 1, 10**9], [-1, 1.0, True, "1", None]),
        (
            plain_function,
            [print, bool, functools.partial(print), Callable(), lambda: None],
            [None, "print", coroutine, functools.partial(coroutine), CoroutineCallable()],
        ),
    ],
    ids=["flag", "flag_or_none", "one_of", "seconds", "whole_number", "plain_function"],
)
def test_check_returns_a_right_value_and_rejects_a_wrong_one(check: Any, right: list[Any], wrong: list[Any]) -> None:
    assert [check("x", value) for value in right] == right
    for value in wrong:
        with pytest.raises(ConfigError, match=r"^x is "):
            check("x", value)


def test_choices_are_returned_as_a_frozenset() -> None:
    assert some_of("a", "b", "c")("x", ["a", "b", "a"]) == frozenset({"a", "b"})


@pytest.mark.parametrize("value", ["a", [], None, ["d"], ["a", "d"], [[]], iter(["a"])], ids=as_id)
def test_choices_other_than_the_named_are_rejected(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^x is .*; it must name some of 'a', 'b', 'c'$"):
        some_of("a", "b", "c")("x", value)


def test_list_is_a_collection_other_than_a_string_or_mapping() -> None:
    values: list[Any] = [[], (), set(), {}, "a", 5, None, iter([])]
    assert [is_list(each) for each in values] == [True] * 3 + [False] * 5
