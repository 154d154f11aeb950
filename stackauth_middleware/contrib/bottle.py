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
from ..errors import AuthServerError, RefusedError
from ._shared import Demand, refusal_of

__all__ = ["refuse", "require_auth", "require_permission"]

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
            app has an error handler for the status of the error code. Its ``exception`` is the `RefusedError` or
            `AuthServerError`.
        bottle.HTTPResponse: from the callback, if the app has no such handler: the response that the middleware would
            send.
        ConfigError: from the callback, if no Stack Auth middleware saw the request, or if a profile is wanted and no
            key is set for the Stack Auth API.
    """
    guard = partial(_guarded, Demand(profile=profile))
    return guard if callback is None else guard(callback)


def require_permission(permission: str, *, team: str | None = None) -> _Passing:
    """Require a signed-in user who holds a permission, and pass the user to the callback as the first argument.

    ::

        @app.get("/teams/<team_id>/reports")
        @require_permission("read_reports", team="team_id")
        def reports(user: User, team_id: str) -> dict[str, Any]: ...

    Args:
        permission: id of the permission.
        team: name of the parameter of the route that is the id of the team; None for a permission of the project.

    Returns:
        A decorator for a callback, as `require_auth` is.

    Raises:
        bottle.HTTPError: from the callback, as `require_auth` does, and with 403 if the user does not hold the
            permission.
        bottle.HTTPResponse: from the callback, as `require_auth` does.
        ConfigError: `permission` is not a permission id; or from the callback, as `require_auth` does, and if the
            route has no parameter `team`.
    """
    return partial(_guarded, Demand.of(permission, team))


def _guarded(demand: Demand, callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls `callback` with a user who meets `demand`."""
    view = callback
    if iscoroutinefunction(callback):
        from asgiref.sync import async_to_sync

        view = async_to_sync(callback)

    @wraps(callback)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            user = demand.user(request, kwargs)
        except (RefusedError, AuthServerError) as error:
            raise _exception(error) from error
        return view(user, *args, **kwargs)

    return guarded


def refuse(callback: Callable[P, R]) -> Callable[P, R]:
    """Respond to the exceptions of `require_user` and `load_profile`, where `callback` calls them directly.

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
    """Return an `HTTPError` if the app has an error handler for the status, else the response of the middleware."""
    app: Any = request.app
    refusal = refusal_of(request, error)
    if refusal.status in app.error_handler:
        return HTTPError(refusal.status, refusal.message, exception=error, headers=refusal.headers)
    return HTTPResponse(refusal.response.body.decode("ascii"), refusal.status, dict(refusal.response.headers))
