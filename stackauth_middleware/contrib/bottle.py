"""Bottle: a decorator that passes the user first, and refusals that the app's own error handlers see.

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

__all__ = ["require_auth"]

P = ParamSpec("P")
R = TypeVar("R")


class _Passing(Protocol):
    """Passes the user first; what was ``async`` is not any more."""

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
    """Let nobody into `callback` whom the middleware does not know, and pass the user as its first argument.

    Args:
        callback: a function. Bottle knows no ``async`` ones; decorated, they run to their end in an
            event loop of their own.
        profile: pass the user with the profile, remembered or asked for: ``@require_auth(profile=True)``.

    Raises:
        bottle.HTTPError: from the callback, where nobody is there or the profile cannot be had, and
            the app has an error handler for the row's status.
        bottle.HTTPResponse: where it has none: what the middleware would send.
        ConfigError: from the callback, where no Stack Auth middleware saw the request, or where no
            key is set to ask for a profile with.
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


def _exception(error: RefusedError | AuthServerError) -> HTTPResponse:
    """Return `error` in the app's own form, if it has one for the status."""
    app: Any = request.app
    refusal = refusal_of(request, error)
    if refusal.status in app.error_handler:
        return HTTPError(refusal.status, refusal.message, exception=error, headers=refusal.headers)
    return HTTPResponse(refusal.response.body.decode("ascii"), refusal.status, dict(refusal.response.headers))
