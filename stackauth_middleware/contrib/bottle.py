"""Bottle: a decorator that passes the user to a callback, a plugin, and refusals that the app's error handlers see.

::

    @app.get("/me")
    @require_auth
    def me(user: User) -> dict[str, Any]:
        return user.to_dict()

    application = StackAuthWSGIMiddleware(app, config=auth)
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from bottle import HTTPError, HTTPResponse, request

from .._core.users import User
from .._handler_api import require_user
from ..errors import AuthServerError, RefusedError
from ._shared import refusal_of, user_with_profile

__all__ = ["refuse", "require_auth"]

P = ParamSpec("P")
R = TypeVar("R")


class _Passing(Protocol):
    """Decorator type: removes the user argument, and makes async callbacks sync."""

    @overload
    def __call__(self, callback: Callable[Concatenate[User, P], Coroutine[Any, Any, R]], /) -> Callable[P, R]: ...
    @overload
    def __call__(self, callback: Callable[Concatenate[User, P], R], /) -> Callable[P, R]: ...


@overload
def require_auth(callback: Callable[Concatenate[User, P], Coroutine[Any, Any, R]], /) -> Callable[P, R]: ...
@overload
def require_auth(callback: Callable[Concatenate[User, P], R], /) -> Callable[P, R]: ...
@overload
def require_auth(*, profile: bool = False) -> _Passing: ...


def require_auth(callback: Callable[..., Any] | None = None, /, *, profile: bool = False) -> Callable[..., Any]:
    """Require a signed-in user, and pass it to `callback` as the first argument.

    ::

        @app.get("/me")
        @require_auth
        def me(user: User) -> dict[str, Any]:
            return user.to_dict()

        @app.get("/plan")
        @require_auth(profile=True)
        def plan(user: User) -> dict[str, Any]: ...

    Args:
        callback: a function. Bottle cannot call ``async`` ones; decorated, each call runs in an event loop of its own.
        profile: also load the profile of the user from Stack Auth, unless it is cached or a rule has loaded it.
            Needs `secret_server_key` or `publishable_client_key`.

    Raises:
        bottle.HTTPError: from the callback, if the request is unauthenticated or the profile cannot be loaded, and the
            app has an error handler for the status of the error code. Its ``exception`` is ours.
        bottle.HTTPResponse: from the callback, if the app has no such handler: the response that the middleware would
            send.
        ConfigError: from the callback, if no Stack Auth middleware saw the request, or if a profile is wanted and no
            API key is configured.
    """
    if callback is None:
        return partial(require_auth, profile=profile)
    view = callback
    if iscoroutinefunction(callback):
        from asgiref.sync import async_to_sync

        view = async_to_sync(callback)

    @wraps(callback)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            user = user_with_profile(request) if profile else require_user(request)
        except (RefusedError, AuthServerError) as error:
            raise _exception(error) from error
        return view(user, *args, **kwargs)

    return guarded


def refuse(callback: Callable[P, R]) -> Callable[P, R]:
    """Answer the exceptions of `require_user` and `load_profile`, where `callback` calls them directly.

    A plugin for the whole app, or a decorator::

        app.install(refuse)

        @app.get("/plan")
        def plan() -> dict[str, Any]:
            return {"email": load_profile(request).primary_email}

    An error handler of the app for the status is called; without one the client gets the response that the middleware
    would send.

    Args:
        callback: a function.

    Raises:
        bottle.HTTPError: from the callback, as `require_auth` does.
        bottle.HTTPResponse: from the callback, as `require_auth` does.

    Not promised: anything about a generator, whose code runs after the callback has returned.
    """

    @wraps(callback)
    def answering(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return callback(*args, **kwargs)
        except (RefusedError, AuthServerError) as error:
            raise _exception(error) from error

    return answering


def _exception(error: RefusedError | AuthServerError) -> HTTPResponse:
    """Return `error` for the error handler that the app has for the status, else as the middleware's response."""
    app: Any = request.app
    refusal = refusal_of(request, error)
    if refusal.status in app.error_handler:
        return HTTPError(refusal.status, refusal.message, exception=error, headers=refusal.headers)
    return HTTPResponse(refusal.response.body.decode("ascii"), refusal.status, dict(refusal.response.headers))
