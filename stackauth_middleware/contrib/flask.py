"""Flask: a decorator that passes the user first, and refusals that the app's own error handlers see.

::

    app.wsgi_app = StackAuthWSGIMiddleware(app.wsgi_app, config=auth)

    @app.get("/me")
    @require_auth
    def me(user: User) -> dict[str, Any]:
        return user.to_dict()
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from flask import current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from .._core.users import User
from .._handler_api import require_user
from ..errors import AuthServerError, RefusedError
from ._shared import auser_with_profile, user_with_profile
from ._werkzeug import exception_of

__all__ = ["refuse", "require_auth"]

P = ParamSpec("P")
R = TypeVar("R")


@overload
def require_auth(view: Callable[Concatenate[User, P], R], /) -> Callable[P, R]: ...


@overload
def require_auth(*, profile: bool = False) -> Callable[[Callable[Concatenate[User, P], R]], Callable[P, R]]: ...


def require_auth(view: Callable[..., Any] | None = None, /, *, profile: bool = False) -> Callable[..., Any]:
    """Let nobody into `view` whom the middleware does not know, and pass the user as its first argument.

    Args:
        view: a function, plain or ``async``. The methods of a `MethodView` call `require_user` instead.
        profile: pass the user with the profile, remembered or asked for: ``@require_auth(profile=True)``.

    Raises:
        werkzeug.exceptions.HTTPException: from the view, where nobody is there or the profile cannot
            be had; the subclass of the row's status. An error handler of the app may answer it;
            unanswered it is what the middleware would send.
        ConfigError: from the view, where no Stack Auth middleware saw the request, or where no key is
            set to ask for a profile with.
    """
    if view is None:
        return partial(require_auth, profile=profile)

    if iscoroutinefunction(view):

        @wraps(view)
        async def aguarded(*args: Any, **kwargs: Any) -> Any:
            try:
                user = await auser_with_profile(request) if profile else require_user(request)
            except (RefusedError, AuthServerError) as error:
                raise exception_of(request, error) from error
            return await view(user, *args, **kwargs)

        return aguarded

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            user = user_with_profile(request) if profile else require_user(request)
        except (RefusedError, AuthServerError) as error:
            raise exception_of(request, error) from error
        return view(user, *args, **kwargs)

    return guarded


def refuse(error: RefusedError | AuthServerError) -> HTTPException | ResponseReturnValue:
    """Answer what a view met that calls `require_user` or `load_profile` itself; an error handler.

    ::

        app.register_error_handler(RefusedError, refuse)
        app.register_error_handler(AuthServerError, refuse)
    """
    return current_app.handle_http_exception(exception_of(request, error))
