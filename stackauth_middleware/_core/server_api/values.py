"""Checks of arguments, so that none is refused by Stack Auth for its form, and none changes the path of a call."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeAlias
from uuid import UUID

Check: TypeAlias = Callable[[str, Any], Any]
"""Takes the name of an argument and its value, and returns what is sent. Raises ValueError or TypeError; the message
names the argument and never its value, which may be a credential in the wrong place."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PERMISSION = re.compile(r"\$?[a-z0-9_:]{1,200}")
_EMAIL = re.compile(r"[^\s@\x00-\x20\x7f<>,;\"]{1,64}@[^\s@\x00-\x20\x7f<>,;\"]{1,255}")


class Unset(Enum):
    """Type of `UNSET`, which stands for a field that stays as it is. None stands for null.

    Example::

        client.update_user(user_id, display_name=name if name_changed else UNSET)
    """

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return self.value

    def __bool__(self) -> bool:
        return False


UNSET = Unset.UNSET
"""Leaves a field as it is, where None would set it to null. The same as not passing the field."""


def uuid(name: str, value: object) -> str:
    """Return a UUID in lower case, given as text or as `uuid.UUID`."""
    text = str(value) if isinstance(value, UUID) else value
    if not isinstance(text, str) or not _UUID.fullmatch(text):
        raise ValueError(f"{name} must be a UUID, as in '22222222-2222-4222-8222-222222222222'")
    return text.lower()


def permission_id(name: str, value: object) -> str:
    """Return a permission id: lower-case letters, digits, ``_`` and ``:``, with ``$`` before those of the system."""
    if not isinstance(value, str) or not _PERMISSION.fullmatch(value):
        raise ValueError(f"{name} must be a permission id: a-z, 0-9, '_' and ':', with an optional '$' before them")
    return value


def email(name: str, value: object) -> str:
    """Return an email address, after a rough check of its form. Stack Auth checks the rest."""
    if not isinstance(value, str) or not _EMAIL.fullmatch(value):
        raise ValueError(f"{name} must be an email address")
    return value


def text(name: str, value: object) -> str:
    """Return a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string")
    return value


def flag(name: str, value: object) -> bool:
    """Return a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False")
    return value


def json(_name: str, value: object) -> object:
    """Return any value. What is not JSON fails when the body is made."""
    return value


def or_none(check: Check) -> Check:
    """Return a check that also accepts None."""
    return lambda name, value: None if value is None else check(name, value)


def body_of(fields: Mapping[str, Any], checks: Mapping[str, Check]) -> dict[str, Any]:
    """Return the JSON object that sets `fields`, without those that are `UNSET`.

    Args:
        fields: values by name, as the caller passed them.
        checks: the names that are known, each with its check.

    Raises:
        TypeError: a name is unknown, or a value has the wrong type.
        ValueError: a value has the wrong form.
    """
    for name in fields:
        if name not in checks:
            raise TypeError(f"unknown field {name!r}; the fields are {', '.join(checks)}")
    return {name: checks[name](name, value) for name, value in fields.items() if value is not UNSET}
