"""Quart: a decorator that passes the user to a view, and refusals that the app's error handlers see.

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
from ..errors import AuthServerError, RefusedError
from ._shared import Demand
from ._werkzeug import exception_of

__all__ = ["refuse", "require_auth", "require_permission"]

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
    """Require a signed-in user, and pass it to `view` as the first argument.

    ::

        @app.get("/me")
        @require_auth
        async def me(user: User) -> dict[str, Any]:
            return user.to_dict()

        @app.get("/plan")
        @require_auth(profile=True)
        async def plan(user: User) -> dict[str, Any]: ...

    Args:
        view: a view for requests or WebSockets. Quart runs a plain function in a thread.
        profile: also load the profile of the user from Stack Auth, unless it is cached or a rule has loaded it.
            Needs `secret_server_key` or `publishable_client_key`.

    Raises:
        werkzeug.exceptions.HTTPException: from the view, if the request is unauthenticated or the profile cannot be
            loaded: the subclass for the status of the error code, with our exception as ``__cause__``. The error
            handlers of the app see it; without one, the client gets the response that the middleware would send.
        ConfigError: from the view, if no Stack Auth middleware saw the request, or if a profile is wanted and no key
            is set for the Stack Auth API.
    """
    guard = partial(_guarded, Demand(profile=profile))
    return guard if view is None else guard(view)


def require_permission(
    permission: str, *, team: str | None = None
) -> Callable[[Callable[Concatenate[User, P], Any]], Callable[P, Coroutine[Any, Any, Any]]]:
    """Require a signed-in user who holds a permission, and pass the user to the view as the first argument.

    ::

        @app.get("/teams/<uuid:team_id>/reports")
        @require_permission("read_reports", team="team_id")
        async def reports(user: User, team_id: UUID) -> dict[str, Any]: ...

    Args:
        permission: id of the permission.
        team: name of the parameter of the view that is the id of the team; None for a permission of the project.

    Returns:
        A decorator for a view, as `require_auth` is.

    Raises:
        werkzeug.exceptions.HTTPException: from the view, as `require_auth` does, and with 403 if the user does not
            hold the permission.
        ConfigError: `permission` is not a permission id; or from the view, as `require_auth` does, and if it has no
            parameter `team`.
    """
    return partial(_guarded, Demand.of(permission, team))


def _guarded(demand: Demand, view: Callable[..., Any]) -> Callable[..., Any]:
    """Return a view that calls `view` with a user who meets `demand`."""

    @wraps(view)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        source = _here()
        try:
            user = await demand.auser(source, kwargs)
        except (RefusedError, AuthServerError) as error:
            raise exception_of(source, error) from error
        return await current_app.ensure_async(view)(user, *args, **kwargs)

    return guarded


def _here() -> Any:
    """Return the request or WebSocket, not Quart's proxy: that is unbound when the debug page shows a traceback."""
    proxy: Any = request if has_request_context() else websocket
    return proxy._get_current_object()


async def refuse(error: RefusedError | AuthServerError) -> HTTPException | ResponseReturnValue:
    """Error handler for the exceptions of `require_user` and `aload_profile`, where views call them directly.

    ::

        app.register_error_handler(RefusedError, refuse)
        app.register_error_handler(AuthServerError, refuse)

    An error handler of the app for the status is called; without one the client gets the response that the
    middleware would send.
    """
    return await current_app.handle_http_exception(exception_of(_here(), error))
