"""Settings in a TOML file: settings at the top, one ``[[rules]]`` table for each rule."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ..errors import ConfigError
from .environment import TypedSettings
from .files import read_text
from .import_string import nearest
from .readers import from_toml, item_type, types_of, without_none
from .settings import Given

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - coverage is measured on a newer Python
    import tomli as tomllib

_MAX = 1024 * 1024
"""Maximum size of a file, in bytes."""


def from_file(path: str, settings: TypedSettings, label: str) -> dict[str, Given]:
    """Return those of `settings` that the file has.

    Args:
        path: the file.
        settings: all settings.
        label: what names the file, for messages.

    Raises:
        ConfigError: the file cannot be read or is not TOML, a name is unknown, or an entry of a list of tables is
            wrong. The message has the line.
    """
    text = read_text(path, label, _MAX)
    try:
        document = tomllib.loads(text + "\n")  # so that every error has a line
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    place = _Places(path, text)
    found = {}
    for name, value in document.items():
        if name not in settings:
            raise ConfigError(f"{place(name)}: {_unknown('setting', name, settings)}")
        item = item_type(settings[name].hint)
        if is_dataclass(item) and isinstance(value, list):
            made: Any = [_from_table(item, each, place, (name, at)) for at, each in enumerate(value)]
        else:
            made = from_toml(settings[name].hint, value, f"{name} ({place(name)})")
        found[name] = Given(made, place(name))
    return found


def _from_table(cls: Any, table: Any, place: _Places, path: tuple[str | int, ...]) -> Any:
    """Return an instance of the dataclass `cls`, such as a `Rule`, made of a table. Each member is checked alone first.

    ``"none"`` does not stand for None here: ``api_keys = "none"`` could be meant as ``[]``, and a permission can have
    this id. A member that is absent has its default.

    Raises:
        ConfigError: a name is unknown or missing, or a value is wrong.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{place(*path)}: {path[0]} has {table!r}; each must be a table, as in [[{path[0]}]]")
    hints, members = types_of(cls), {each.name: each for each in fields(cls)}
    arguments = {}
    for name, value in table.items():
        if name not in members:
            raise ConfigError(f"{place(*path, name)}: {_unknown(f'setting of a {cls.__name__}', name, members)}")
        label = f"{name} of a {cls.__name__} ({place(*path, name)})"
        arguments[name] = from_toml(without_none(hints[name]), value, label)
        members[name].metadata["check"](label, arguments[name])
    try:
        return cls(**arguments)
    except (ConfigError, TypeError) as error:  # a TypeError: a name is missing
        raise ConfigError(f"{place(*path)}: {str(error).removeprefix(f'{cls.__name__}.__init__() ')}") from None


def _unknown(what: str, name: str, names: Mapping[str, Any]) -> str:
    similar = nearest(name, names)
    return f"{name!r} is no {what}" + (f"; did you mean {similar!r}?" if similar else "")


class _Places:
    """Where the keys of a TOML file are: file name and line.

    TOML parsers report no positions. The first lines of a longer statement are not TOML by themselves, so each
    statement of a valid file ends at the first line that makes it TOML.
    """

    def __init__(self, path: str, text: str) -> None:
        self._file = path
        self._lines: dict[tuple[str | int, ...], int] = {}
        table: tuple[str | int, ...] = ()
        places: list[tuple[str | int, ...]]
        entries: Counter[str] = Counter()
        statement, start = "", 1
        for number, line in enumerate(text.split("\n"), 1):
            statement += line + "\n"
            try:
                keys = tomllib.loads(statement)
            except tomllib.TOMLDecodeError:
                continue
            if statement.lstrip().startswith("["):
                ((name, content),) = keys.items()
                table = (name, entries[name]) if isinstance(content, list) else (name,)
                entries[name] += 1
                places = [(name,), table]
            else:
                places = [(*table, key) for key in keys]
            for place in places:
                self._lines.setdefault(place, start)
            statement, start = "", number + 1

    def __call__(self, *path: str | int) -> str:
        """Return the place of a key, or of the innermost table around it whose place is known."""
        while path not in self._lines:
            path = path[:-1]
        return f"{self._file}, line {self._lines[path]}"
