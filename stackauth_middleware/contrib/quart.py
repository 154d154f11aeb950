"""Quart: a decorator that passes the user first.

::

    app.asgi_app = StackAuthASGIMiddleware(app.asgi_app, config=auth)

    @app.get("/me")
    @require_auth
    async def me(user: User) -> dict[str, Any]:
        return user.to_dict()
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from quart import current_app, has_request_context, request, websocket
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from .._core.users import User
from .._handler_api import require_user
from ..errors import AuthServerError, RefusedError
from ._shared import auser_with_profile
from ._werkzeug import exception_of

__all__ = ["refuse", "require_auth"]

P = ParamSpec("P")
R = TypeVar("R")


@overload
def require_auth(view: Callable[Concatenate[User, P], Awaitable[R]], /) -> Callable[P, Coroutine[Any, Any, R]]: ...


@overload
def require_auth(view: Callable[Concatenate[User, P], R], /) -> Callable[P, Coroutine[Any, Any, R]]: ...


@overload
def require_auth(
    *, profile: bool = False
) -> Callable[[Callable[Concatenate[User, P], Any]], Callable[P, Coroutine[Any, Any, Any]]]: ...


def require_auth(view: Callable[..., Any] | None = None, /, *, profile: bool = False) -> Callable[..., Any]:
    """Let nobody into `view` whom the middleware does not know, and pass the user as its first argument.

    Args:
        view: a view for requests or WebSockets; a plain function runs in a thread, as Quart runs it.
        profile: pass the user with the profile, remembered or asked for: ``@require_auth(profile=True)``.

    Raises:
        werkzeug.exceptions.HTTPException: from the view, where nobody is there or the profile cannot
            be had; the subclass of the row's status. An error handler of the app may answer it;
            unanswered it is what the middleware would send.
        ConfigError: from the view, where no Stack Auth middleware saw the request.
    """
    if view is None:
        return partial(require_auth, profile=profile)

    @wraps(view)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        source = _here()
        try:
            user = await auser_with_profile(source) if profile else require_user(source)
        except (RefusedError, AuthServerError) as error:
            raise exception_of(source, error) from error
        return await current_app.ensure_async(view)(user, *args, **kwargs)

    return guarded


def _here() -> Any:
    """Return the request or WebSocket itself: Quart's page for a traceback shows what a proxy stood for no more."""
    proxy: Any = request if has_request_context() else websocket
    return proxy._get_current_object()


async def refuse(error: RefusedError | AuthServerError) -> HTTPException | ResponseReturnValue:
    """Answer what a view met that calls `require_user` or `aload_profile` itself; an error handler.

    ::

        app.register_error_handler(RefusedError, refuse)
        app.register_error_handler(AuthServerError, refuse)
    """
    return await current_app.handle_http_exception(exception_of(_here(), error))
