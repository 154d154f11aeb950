"""The same app in each framework, behind the middleware as the framework has it mounted. One module per framework.

To add a framework, add a module here and a line to `ADAPTERS`.

Each app has these routes, whose handlers append to `App.ran`:

``/me``, ``/admin``
    the fields of the user.
``/public/hello``, ``/optional/hello``
    ``{"email": ...}`` of the user, or null.
``/public/guarded``, ``/optional/guarded``
    `cases.seen` of the user, by what the contrib module guards a handler with.
``/optional/profile``
    the same with the profile, by what the contrib module loads it with.
``/permitted``
    as ``/me``, where the rule demands a permission.
``/optional/permitted``, ``/optional/teams/<team_id>``
    `cases.seen` of the user, by what the contrib module demands the permission ``admin`` of the project with, or
    ``read`` in the team.
``/v1/hello``, ``/v1/guarded``
    `cases.seen_key` of the API key; and `cases.seen` of the user, as ``/optional/guarded``.
``/stream``
    the email in three lines.
``/later``
    work that goes on after the response and notes the email.
``/buy``, ``/gone``
    an exception of the app, whose handler sends `raised`; and the framework's own 410.
``/public/socket``, ``/optional/socket``, ``/socket``
    WebSockets that send `cases.seen` of the user, or null on the public one, and close.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple

from stackauth_middleware import ConfigError, RefusedError, StackAuthConfig
from stackauth_middleware.errors import StackAuthError


class OutOfStock(Exception):
    """An exception of the app."""


OWN_ERRORS = (OutOfStock, ConfigError)
"""Exceptions for which the app has handlers, which send `raised` with status 409."""


def raised(error: Exception) -> dict[str, str]:
    return {"raised": type(error).__name__, "message": str(error)}


def native(error: BaseException) -> dict[str, str]:
    """Return what the app's handler of 401 sends: the code of the cause of the framework's exception."""
    cause = error if isinstance(error, StackAuthError) else error.__cause__
    assert isinstance(cause, RefusedError)
    return {"own": cause.code.value}


@dataclass
class App:
    """What an adapter builds an app from.

    Attributes:
        config: the settings of the middleware; None leaves the middleware out.
        plain: the handlers are of the less usual kind of the framework: plain functions or coroutines.
        own: the app has a handler for the framework's exception for 401, which sends `native`.
        cors: the framework's CORS tool is inside the middleware, and allows `cases.ORIGIN`.
        ran: values noted by handlers.
    """

    config: StackAuthConfig | None
    plain: bool = False
    own: bool = False
    cors: bool = False
    ran: list[Any] = field(default_factory=list)


class Adapter(NamedTuple):
    """A framework, and a way to use it.

    Attributes:
        module: of this folder; its ``serve`` takes an `App` and runs the framework's application while it is open.
        asgi: whether the application is ASGI.
        sockets: whether the adapter has the WebSocket routes.
        native: whether a refusal is an exception of the framework's, for which an app may have a handler.
        plain: see `App`.
        options: passed to ``serve``.
    """

    module: str
    asgi: bool
    sockets: bool = False
    native: bool = True
    plain: bool = False
    options: dict[str, Any] = {}

    @property
    def is_variant(self) -> bool:
        """Whether another adapter in `ADAPTERS` uses the same framework in the usual way."""
        return "below" in self.options or (self.plain and self.module != "falcon")

    def serve(self, app: App) -> AbstractContextManager[Any]:
        make: Callable[..., AbstractContextManager[Any]] = import_module(f".{self.module}", __name__).serve
        app.plain = self.plain
        return make(app, **self.options)


ADAPTERS = {
    "fastapi": Adapter("fastapi", asgi=True, sockets=True),
    "fastapi-plain": Adapter("fastapi", asgi=True, plain=True),
    "starlette": Adapter("starlette", asgi=True, sockets=True, native=False),
    "litestar": Adapter("litestar", asgi=True, sockets=True),
    "quart": Adapter("quart", asgi=True, sockets=True),
    "quart-plain": Adapter("quart", asgi=True, plain=True),
    "falcon-asgi": Adapter("falcon", asgi=True, sockets=True),
    "falcon-wsgi": Adapter("falcon", asgi=False, plain=True),
    "flask": Adapter("flask", asgi=False),
    "flask-async": Adapter("flask", asgi=False, plain=True),
    "bottle": Adapter("bottle", asgi=False),
    "bottle-async": Adapter("bottle", asgi=False, plain=True),
    "django-wsgi": Adapter("django", asgi=False, native=False, options={"asgi": False}),
    "django-wsgi-async-views": Adapter("django", asgi=False, native=False, plain=True, options={"asgi": False}),
    "django-wsgi-above-async": Adapter(
        "django", asgi=False, native=False, options={"asgi": False, "below": "AsyncOnly"}
    ),
    "django-asgi": Adapter("django", asgi=True, native=False, options={"asgi": True}),
    "django-asgi-async-views": Adapter("django", asgi=True, native=False, plain=True, options={"asgi": True}),
    "django-asgi-above-sync": Adapter("django", asgi=True, native=False, options={"asgi": True, "below": "SyncOnly"}),
}
