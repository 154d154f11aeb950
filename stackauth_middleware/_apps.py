"""Apps named by strings: import, call of a factory, and whether the app is an ASGI or a WSGI app."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any

from ._adapters import accepts, is_async
from ._core.import_string import import_string
from .errors import ConfigError

_SERVE = "stackauth_middleware.serve"


class Kind(Enum):
    """The interface of an app. The value is its name in messages."""

    ASGI = "an ASGI app"
    WSGI = "a WSGI app"


def load(spec: str, label: str) -> tuple[Callable[..., Any], frozenset[Kind]]:
    """Return the app that ``module:attribute`` names, and the interfaces that it can have.

    A function or class that can be called without arguments is a factory, and is called. Others are called only if
    the name ends with ``()``.

    Args:
        spec: the name.
        label: name of the variable or argument that holds `spec`, for messages.

    Raises:
        ConfigError: there is no such object, it is not an app, or its module or factory raises. That exception is the
            cause.
    """
    if spec.partition(":")[0] == _SERVE:
        raise ConfigError(f"{label} is {spec!r}, the module that serves the app; it must name the app itself")
    name = spec.removesuffix("()")
    app = import_string(name, label)
    if name != spec or _is_factory(app):
        try:
            app = app()
        except Exception as error:
            raise ConfigError(f"{label} is {spec!r}; calling {name} raised {type(error).__name__}: {error}") from error
    kinds = _kinds(app)
    if not kinds:
        what = type(app).__name__
        if inspect.iscoroutine(app):
            app.close()
        raise ConfigError(
            f"{label} is {spec!r}, and that is of the type {what}; it must be an ASGI or WSGI app, or a plain function "
            "without arguments that returns one"
        )
    return app, kinds


def _is_factory(app: Any) -> bool:
    """Return whether `app` can be called without arguments, and has no ``*args``."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except Exception:  # not callable, written in C, or a proxy without an object yet
        return False
    return accepts(app, 0) and all(each.kind is not each.VAR_POSITIONAL for each in parameters)


def _kinds(app: Any) -> frozenset[Kind]:
    """Return the interfaces that `app` can have by its parameters: both if it takes any number of arguments."""
    if not callable(app):
        return frozenset()
    if is_async(app):
        return frozenset({Kind.ASGI} if accepts(app, 3) else ())
    found = {Kind.ASGI} if accepts(app, 3) or accepts(app, 1) else set()
    return frozenset(found | ({Kind.WSGI} if accepts(app, 2) else set()))
