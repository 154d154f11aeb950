"""Dataclass fields that carry their check, and the checks that several settings share."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from typing import Any, NamedTuple, TypeAlias, TypeVar

from ..errors import ConfigError

T = TypeVar("T")

Check: TypeAlias = Callable[[str, Any], Any]
"""Takes the name of a setting and its value, and returns the value in its final form or raises `ConfigError`.

The message names the setting, its value and what would be right.
"""

OWN = ("STACKAUTH_",)
"""Prefixes of the environment variables of most settings."""
PRIVATE = ("STACK_", "HEXCLAVE_")
"""Prefixes of the provider's variables for servers, in order of precedence."""
PUBLIC = (*PRIVATE, "NEXT_PUBLIC_STACK_", "NEXT_PUBLIC_HEXCLAVE_")
"""Prefixes of the provider's variables for values that are public, as in the pages of a Next.js site."""


class Given(NamedTuple):
    """A value from the environment or a file, and its source for messages: the variable, or the file and line."""

    value: Any
    source: str


def setting(check: Check, *, default: T, prefixes: tuple[str, ...] = OWN, secret: bool = False) -> T:
    """Return a dataclass field with a check and a default. Its docstring stands below it.

    Its declared type is that of the default, so that type checkers need no plugin.

    Args:
        check: run on every value, the default included.
        default: value of the field where none is given.
        prefixes: of the environment variables, in order of precedence. Unless they are `OWN`, an empty keyword
            counts as not given.
        secret: whether ``repr`` hides the value. A secret can also be read from a file.
    """
    return field(default=default, metadata={"check": check, "prefixes": prefixes, "secret": secret})


def flag(name: str, value: Any) -> Any:
    """Check that `value` is a bool."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; it must be True or False")
    return value


def flag_or_none(name: str, value: Any) -> Any:
    """Check that `value` is a bool or None."""
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; it must be True, False or None")
    return value


def one_of(*choices: str) -> Check:
    """Return a check that a value is one of `choices`."""

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}")
        return value

    return check


def some_of(*choices: str) -> Check:
    """Return a check that a value is a collection of one or more of `choices`. The final form is a frozenset."""

    def check(name: str, value: Any) -> Any:
        if not is_list(value) or not value or not all(each in choices for each in value):
            raise ConfigError(f"{name} is {value!r}; it must name some of {', '.join(map(repr, choices))}")
        return frozenset(value)

    return check


def seconds(least: float, most: float) -> Check:
    """Return a check that a value is a number of seconds from `least` to `most`."""

    def check(name: str, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value < math.inf:
            raise ConfigError(f"{name} is {value!r}; it must be a number of seconds")
        if not least <= value <= most:
            raise ConfigError(f"{name} is {value!r}; it must be from {least} to {most} seconds")
        return value

    return check


def whole_number(name: str, value: Any) -> Any:
    """Check that `value` is an int that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{name} is {value!r}; it must be a whole number, 0 or more")
    return value


def plain_function(name: str, value: Any) -> Any:
    """Check that `value` is callable and not a coroutine function, since WSGI cannot await it."""
    if not callable(value):
        raise ConfigError(f"{name} is {value!r}; it must be a function")
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__):
        raise ConfigError(
            f"{name} is the coroutine function {value!r}; it must be a plain function, which WSGI can call as well"
        )
    return value


def is_list(value: object) -> bool:
    """Return whether `value` is a collection, but not a string or mapping, as ``{user = false}`` in TOML is."""
    return isinstance(value, Collection) and not isinstance(value, str | Mapping)
