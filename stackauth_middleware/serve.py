"""Serve an app behind the middleware without a change to its code.

The environment variable ``STACKAUTH_APP`` names the app, as ``package.module:app``, or a function or class that
makes it when it is called without arguments. Settings are read as `StackAuthConfig` reads them::

    STACKAUTH_APP=shop.main:app uvicorn stackauth_middleware.serve:app
    STACKAUTH_APP=shop.wsgi:application gunicorn stackauth_middleware.serve:application

The attributes `app`, for ASGI servers, and `application`, for WSGI servers, are made when they are first read:
importing this module does nothing. Servers that do not read attributes of a module, such as Hypercorn and uWSGI, take
the functions: ``stackauth_middleware.serve:create_app()``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._apps import Kind, load
from ._core.environment import APP, app_spec
from .asgi import StackAuthASGIMiddleware
from .errors import ConfigError
from .wsgi import StackAuthWSGIMiddleware

__all__ = ["create_app", "create_application"]

app: StackAuthASGIMiddleware
"""The ASGI app that ``STACKAUTH_APP`` names, behind the middleware."""
application: StackAuthWSGIMiddleware
"""The WSGI app that ``STACKAUTH_APP`` names, behind the middleware."""


def create_app() -> StackAuthASGIMiddleware:
    """Return the ASGI app that ``STACKAUTH_APP`` names, behind the middleware.

    Raises:
        ConfigError: there is no such app, it is a WSGI app, or a setting is missing or wrong. An exception of the
            app's own module is its cause.

    Example::

        uvicorn.run("stackauth_middleware.serve:create_app", factory=True)
    """
    return StackAuthASGIMiddleware(_loaded(Kind.ASGI, "application, under a WSGI server"))


def create_application() -> StackAuthWSGIMiddleware:
    """Return the WSGI app that ``STACKAUTH_APP`` names, behind the middleware.

    Raises:
        ConfigError: there is no such app, it is an ASGI app, or a setting is missing or wrong. An exception of the
            app's own module is its cause.

    Example::

        waitress.serve(create_application(), listen="127.0.0.1:8080")
    """
    return StackAuthWSGIMiddleware(_loaded(Kind.WSGI, "app, under an ASGI server"))


_MADE: dict[str, Callable[[], Any]] = {"app": create_app, "application": create_application}


def __getattr__(name: str) -> Any:
    if name not in _MADE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        made = globals()[name] = _MADE[name]()
    except AttributeError as error:  # servers would take it for a missing attribute, and hide it
        raise RuntimeError(f"{__name__}.{name} cannot be made: {error}") from error
    return made


def _loaded(kind: Kind, other: str) -> Callable[..., Any]:
    spec = app_spec()
    if not spec:
        raise ConfigError(f"{APP} is not set; it must name the app to serve, as in {APP}=package.module:app")
    loaded, kinds = load(spec, APP)
    if kind not in kinds:
        (found,) = kinds
        raise ConfigError(f"{APP} is {spec!r}, {found.value} and not {kind.value}; serve {__name__}:{other}")
    return loaded
