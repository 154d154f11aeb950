"""Objects named by strings such as ``"package.module:name"``, and the nearest name to a mistyped one."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from ..errors import ConfigError


def import_string(text: str, label: str) -> Any:
    """Return the object that ``module:attribute`` names; the attribute may be dotted.

    Args:
        text: the string.
        label: the setting or variable that holds it, for messages.

    Raises:
        ConfigError: the form is wrong, there is no such module or attribute, or the module raises when it is
            imported. Its exception is the cause then, with the traceback of the module.
    """
    name, colon, attributes = text.partition(":")
    if not (name and colon and all(map(str.isidentifier, (*name.split("."), *attributes.split("."))))):
        raise ConfigError(f"{label} is {text!r}; it must be in the form 'package.module:name'")
    try:
        value: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"{label} is {text!r}; there is no module {error.name!r} to import") from None
        raise _raised(text, label, name, error) from error
    except Exception as error:
        raise _raised(text, label, name, error) from error
    for at, attribute in enumerate(attributes.split(".")):
        try:
            value = getattr(value, attribute)
        except AttributeError:
            owner = ".".join((name, *attributes.split(".")[:at]))
            similar = nearest(attribute, dir(value))
            hint = f"; did you mean {similar!r}?" if similar else ""
            raise ConfigError(f"{label} is {text!r}; {owner} has no {attribute!r}{hint}") from None
    return value


def nearest(name: str, names: Iterable[str], cutoff: float = 0.7) -> str:
    """Return the one of `names` that is most similar to `name`, or "" if none is similar by `cutoff`, 0 to 1."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, sorted(names), 1, cutoff)), "")


def _raised(text: str, label: str, module: str, error: Exception) -> ConfigError:
    return ConfigError(f"{label} is {text!r}; importing {module} raised {type(error).__name__}: {error}")
