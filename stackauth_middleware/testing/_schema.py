"""Validation of queries, path parameters and bodies, with the messages of the real server's schema library."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

Check: TypeAlias = "Callable[[str, Any], Any]"
"""Takes the path of a value and the value, and returns the value to use. Raises `Problem`."""

ME: Final = "me"
"""Placeholder for the user of the access token."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z", re.IGNORECASE)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\Z")
_PERMISSION = re.compile(r"\$?[a-z0-9_:]+\Z")


class Problem(Exception):
    """A value that the schema rejects."""


class Field(NamedTuple):
    """A member of a schema."""

    check: Check
    required: bool = False
    nullable: bool = False


def validated(part: str, values: Mapping[str, Any], fields: Mapping[str, Field]) -> tuple[dict[str, Any], list[str]]:
    """Return the accepted values of one part of a request, and the problems with the others.

    Args:
        part: ``"query"``, ``"params"`` or ``"body"``.
        values: the values.
        fields: all members that may occur.
    """
    accepted: dict[str, Any] = {}
    problems: list[str] = []
    for name, field in fields.items():
        path = f"{part}.{name}"
        if name not in values:
            problems += [f"{path} must be defined"] if field.required else []
        elif values[name] is None:
            problems += [] if field.nullable else [f"{path} cannot be null"]
            accepted[name] = None
        else:
            try:
                accepted[name] = field.check(path, values[name])
            except Problem as problem:
                problems.append(str(problem))
    unknown = [name for name in values if name not in fields]
    problems += [f"{part} contains unknown properties: {', '.join(unknown)}"] if unknown else []
    return accepted, problems


def text(path: str, value: Any) -> str:
    """Accept text; numbers and booleans become text."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        raise _wrong_type(path, "string", value)
    return value


def uuid(path: str, value: Any) -> str:
    """Accept a UUID; it becomes lower case, as the database reads it."""
    if not _UUID.match(text(path, value)):
        raise Problem(f"{path} must be a valid UUID")
    return text(path, value).lower()


def uuid_or_me(path: str, value: Any) -> str:
    """Accept a UUID or ``me``."""
    return ME if value == ME else uuid(path, value)


def email(path: str, value: Any) -> str:
    """Accept an e-mail address; it becomes lower case."""
    if not _EMAIL.match(text(path, value)):
        raise Problem(f"{path} must be a valid email")
    return text(path, value).lower()


def permission(path: str, value: Any) -> str:
    """Accept the id of a permission."""
    if not _PERMISSION.match(text(path, value)):
        raise Problem('Only lowercase letters, numbers, ":", "_" and optional "$" at the beginning are allowed')
    return text(path, value)


def permissions(path: str, value: Any) -> list[str]:
    """Accept a list of ids of permissions."""
    if not isinstance(value, list):
        raise _wrong_type(path, "array", value)
    return [permission(f"{path}[{index}]", each) for index, each in enumerate(value)]


def boolean(path: str, value: Any) -> bool:
    """Accept true and false, also as text."""
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise _wrong_type(path, "boolean", value)
    return value


def number(path: str, value: Any) -> float:
    """Accept a number, also as text."""
    try:
        if isinstance(value, bool):
            raise ValueError
        parsed = float(value)
        if not math.isfinite(parsed):
            raise ValueError
    except (TypeError, ValueError):
        raise _wrong_type(path, "number", value) from None
    return int(parsed) if parsed.is_integer() else parsed


def positive(path: str, value: Any) -> int:
    """Accept a whole number from 1."""
    found = number(path, value)
    if not isinstance(found, int):
        raise Problem(f"{path} must be an integer")
    if found < 1:
        raise Problem(f"{path} must be greater than or equal to 1")
    return found


def anything(_path: str, value: Any) -> Any:
    """Accept any JSON."""
    return value


def one_of(*allowed: str) -> Check:
    """Return a check that accepts these words only."""

    def check(path: str, value: Any) -> Any:
        if value not in allowed:
            raise Problem(f"{path} must be one of the following values: {', '.join(allowed)}")
        return value

    return check


def _wrong_type(path: str, wanted: str, value: Any) -> Problem:
    return Problem(f"{path} must be a `{wanted}` type, but the final value was: `{json.dumps(value)}`.")
