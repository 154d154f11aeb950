"""Starlette: typed request state, and exception handlers for refusals inside a handler.

::

    async def me(request: Request[AuthState]) -> Response:
        user = request.state["user"]  # User | None
        user = require_user(request)  # User, or a 401 sent by `refusal_handlers`

    app = Starlette(routes=…, exception_handlers=refusal_handlers)

``@requires("authenticated")`` reads ``request.auth``, which the middleware sets with ``request_user=True``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypedDict, TypeVar

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from .._core.users import User
from ..errors import AuthServerError, RefusedError
from ._shared import Demand, can_respond, refusal_of
from ._starlette import response_of

__all__ = ["AuthState", "refusal_handlers", "require_permission"]

C = TypeVar("C", bound="HTTPConnection[Any]")
R = TypeVar("R")


class AuthState(TypedDict):
    """Type of ``request.state`` behind the middleware, with the default ``state_key``.

    Inherit from it to type what the lifespan of the app adds to the state.

    Example::

        class State(AuthState):
            database: Database


        async def me(request: Request[State]) -> Response:
            user = request.state["user"]
    """

    user: User | None


def require_permission(
    permission: str, *, team: str | None = None
) -> Callable[[Callable[[C], Awaitable[R]]], Callable[[C], Awaitable[R]]]:
    """Require a signed-in user who holds a permission; a decorator for endpoints that are async functions.

    ::

        @require_permission("read_reports", team="team_id")
        async def reports(request: Request[AuthState]) -> Response: ...

        routes = [Route("/teams/{team_id}/reports", reports)]

    Args:
        permission: id of the permission.
        team: name of the path parameter that is the id of the team; None for a permission of the project.

    Returns:
        A decorator for a function of a request or WebSocket. In other endpoints call `require_permission` or
        `arequire_permission` of the package.

    Raises:
        RefusedError: from the endpoint, if the request is unauthenticated or the user does not hold the permission.
            `refusal_handlers` turn it into the response that the middleware would send.
        AuthServerError: from the endpoint, if Stack Auth could not be reached. Handled in the same way.
        ConfigError: `permission` is not a permission id; or from the endpoint, if the path has no parameter `team`,
            ``secret_server_key`` is not set, or no Stack Auth middleware saw this request.
    """
    demand = Demand.of(permission, team)

    def decorate(endpoint: Callable[[C], Awaitable[R]]) -> Callable[[C], Awaitable[R]]:
        @wraps(endpoint)
        async def guarded(request: C) -> R:
            await demand.auser(request, request.path_params)
            return await endpoint(request)

        return guarded

    return decorate


async def _refuse(request: HTTPConnection, error: RefusedError | AuthServerError) -> Response | None:
    """Return the response for an exception of a handler, or close a WebSocket that cannot get one."""
    refusal = refusal_of(request, error)
    if isinstance(request, WebSocket):
        is_open = request.application_state is not WebSocketState.CONNECTING
        if is_open or not can_respond(request.scope):
            await request.close(refusal.close_code, error.code.value)
            return None
    return response_of(refusal.response)


refusal_handlers: dict[type[Exception], Any] = {RefusedError: _refuse, AuthServerError: _refuse}
"""Exception handlers for a Starlette or FastAPI app whose handlers call `require_user` or `load_profile` directly:
``Starlette(..., exception_handlers=refusal_handlers)``. Clients get the responses that the middleware would send; an
accepted WebSocket is closed with 3000, 3003 or 1013 and the error code as the reason."""
