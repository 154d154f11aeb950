"""Read the values of settings from text and from TOML, by the type of the setting's field.

So a new setting needs no code here. The value still has to pass the setting's own check.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import ConfigError
from .import_string import import_string

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


def types_of(cls: Any) -> dict[str, Any]:
    """Return the type of each field of a dataclass, without `KW_ONLY`, on which Python 3.10 would fail."""
    annotations = types.SimpleNamespace(__annotations__={each.name: each.type for each in fields(cls)})
    return get_type_hints(annotations, vars(sys.modules[cls.__module__]))


def members(hint: Any) -> Iterator[Any]:
    """Yield the types of a union; a type that is not a union is its only member."""
    if get_origin(hint) in (Union, types.UnionType):
        for each in get_args(hint):
            yield from members(each)
    else:
        yield hint


def without_none(hint: Any) -> Any:
    """Return the type of the values of `hint` other than None."""
    return Union[tuple(each for each in members(hint) if each is not types.NoneType)]  # noqa: UP007 - of a tuple


def item_type(hint: Any) -> Any:
    """Return the type of the items of a collection, or None if `hint` is not a collection."""
    for each in members(hint):
        origin = get_origin(each)
        if isinstance(origin, type) and issubclass(origin, Collection) and not issubclass(origin, Mapping):
            return get_args(each)[0]
    return None


def can_be_text(hint: Any) -> bool:
    """Return whether a value of this type can be written as text: as an environment variable or in an ini file."""
    item = item_type(hint)
    if item is not None:
        return can_be_text(item)
    return any(each in (str, bool, int, float) or get_origin(each) in (Literal, Callable) for each in members(hint))


def from_text(hint: Any, text: str, label: str) -> Any:
    """Return the value of the type `hint` that `text` stands for.

    Items of a list are separated by commas or white space, a function is ``package.module:name``, and None is ``none``.

    Args:
        hint: the type of the setting.
        text: the text.
        label: name and place of the setting, for messages.

    Raises:
        ConfigError: the text stands for no such value.
    """
    kinds = set(members(hint))
    item = item_type(hint)
    if types.NoneType in kinds and text.strip().lower() == "none":
        return None
    if item is not None:
        return [from_text(item, each, label) for each in re.split(r"[\s,]+", text) if each]
    if bool in kinds:
        return _flag(text, label)
    if kinds & {int, float}:
        return _number(int if int in kinds else float, text, label)
    return _named(hint, text, label)


def from_toml(hint: Any, value: Any, label: str) -> Any:
    """Return the value of the type `hint` for a value of a TOML file, which has types of its own.

    A function is ``"package.module:name"``, None is ``"none"``, and keys of a table become members of enums and
    numbers where the type has these.

    Raises:
        ConfigError: a function cannot be imported.
    """
    item = item_type(hint)
    if isinstance(value, str):
        is_none = types.NoneType in members(hint) and value.lower() == "none"
        return None if is_none else _named(hint, value, label)
    if item is not None and isinstance(value, list):
        return [from_toml(item, each, label) for each in value]
    if isinstance(value, dict):
        for each in members(hint):
            if get_origin(each) is Mapping:
                return {_key(get_args(each)[0], name): member for name, member in value.items()}
    return value


def _flag(text: str, label: str) -> bool:
    lower = text.strip().lower()
    if lower not in (*_TRUE, *_FALSE):
        raise ConfigError(f"{label} is {text!r}; it must be true or false")
    return lower in _TRUE


def _number(kind: Callable[[str], Any], text: str, label: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{label} is {text!r}; it must be a {'whole ' if kind is int else ''}number") from None


def _named(hint: Any, text: str, label: str) -> Any:
    """Return `text`, or the function that it names if `hint` allows functions but not this text."""
    kinds = list(members(hint))
    literals = [choice for each in kinds if get_origin(each) is Literal for choice in get_args(each)]
    if str in kinds or text in literals or not any(get_origin(each) is Callable for each in kinds):
        return text
    return import_string(text, label)


def _key(hint: Any, name: str) -> Any:
    for kind in members(hint):
        if isinstance(kind, type) and issubclass(kind, Enum) and any(name == each.value for each in kind):
            return kind(name)
        if kind is int and name.isdecimal():
            return int(name)
    return name
