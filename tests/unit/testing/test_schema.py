from __future__ import annotations

from typing import Any

import pytest

from stackauth_middleware.testing import _schema as schema
from stackauth_middleware.testing._schema import Check, Field, Problem, validated

ID = "AAAAAAAA-AAAA-4AAA-8AAA-AAAAAAAAAAAA"


@pytest.mark.parametrize(
    ("check", "value", "accepted"),
    [
        (schema.text, 7, "7"),
        (schema.text, True, "true"),
        (schema.uuid, ID, ID.lower()),
        (schema.uuid_or_me, "me", "me"),
        (schema.uuid_or_me, ID, ID.lower()),
        (schema.email, "A@b.c", "a@b.c"),
        (schema.permission, "$read_members", "$read_members"),
        (schema.permissions, ["a", "b:c"], ["a", "b:c"]),
        (schema.boolean, "true", True),
        (schema.boolean, False, False),
        (schema.number, "1.5", 1.5),
        (schema.number, 2.0, 2),
        (schema.positive, "3", 3),
        (schema.anything, [None], [None]),
        (schema.one_of("a", "b"), "b", "b"),
    ],
)
def test_value_is_accepted(check: Check, value: Any, accepted: Any) -> None:
    assert (check("body.x", value), type(check("body.x", value))) == (accepted, type(accepted))


@pytest.mark.parametrize(
    ("check", "value", "problem"),
    [
        (schema.text, [1], "body.x must be a `string` type, but the final value was: `[1]`."),
        (schema.uuid, ID[:-1] + "g", "body.x must be a valid UUID"),
        (schema.uuid, "11111111-1111-0111-8111-111111111111", "body.x must be a valid UUID"),
        (schema.email, "a b@c", "body.x must be a valid email"),
        (schema.permission, "Read", 'Only lowercase letters, numbers, ":", "_" and optional "$" at the beginning'),
        (schema.permissions, "a", "body.x must be a `array` type"),
        (schema.boolean, 1, "body.x must be a `boolean` type"),
        (schema.number, True, "body.x must be a `number` type"),
        (schema.number, "inf", "body.x must be a `number` type"),
        (schema.number, [], "body.x must be a `number` type"),
        (schema.positive, 1.5, "body.x must be an integer"),
        (schema.positive, 0, "body.x must be greater than or equal to 1"),
        (schema.one_of("a", "b"), "c", "body.x must be one of the following values: a, b"),
    ],
)
def test_value_is_rejected(check: Check, value: Any, problem: str) -> None:
    with pytest.raises(Problem) as caught:
        check("body.x", value)
    assert str(caught.value).startswith(problem)


def test_problems_of_all_members_are_listed() -> None:
    fields = {
        "a": Field(schema.text, required=True),
        "b": Field(schema.text),
        "c": Field(schema.text, nullable=True),
        "d": Field(schema.text),
        "e": Field(schema.uuid),
    }
    accepted, problems = validated("body", {"c": None, "d": None, "e": "x", "y": 1, "z": 2}, fields)
    assert accepted["c"] is None
    assert problems == [
        "body.a must be defined",
        "body.d cannot be null",
        "body.e must be a valid UUID",
        "body contains unknown properties: y, z",
    ]
