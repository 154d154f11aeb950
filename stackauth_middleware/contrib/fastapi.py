"""FastAPI: the user as a dependency, refusals as `HTTPException`, an Authorize button in the docs.

::

    app.add_middleware(StackAuthASGIMiddleware, config=auth)

    @app.get("/me")
    async def me(user: CurrentUser) -> User:
        return user

In a test, ``app.dependency_overrides[current_user] = lambda: user`` replaces the user that handlers get. The
middleware still authenticates the request before. `get_user` and `require_user` of the package are not dependencies:
they take the request of any framework, which FastAPI cannot pass.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, HTTPException, WebSocketException
from fastapi.exception_handlers import http_exception_handler
from fastapi.requests import HTTPConnection
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException

from .. import _handler_api
from .._core.api_keys import ApiKey
from .._core.users import User, UserProfile
from ..errors import AuthServerError, RefusedError
from ._shared import Demand, Refusal, can_respond, refusal_of
from ._starlette import response_of

__all__ = [
    "CurrentProfile",
    "CurrentUser",
    "OptionalApiKey",
    "OptionalUser",
    "current_profile",
    "current_user",
    "optional_api_key",
    "optional_user",
    "require_permission",
]


class _AccessToken(HTTPBearer):
    """Security scheme for OpenAPI. It reads no header, since the middleware has read it."""

    async def __call__(self, request: HTTPConnection) -> None:
        return None


_access_token = _AccessToken(
    bearerFormat="JWT", scheme_name="StackAuth", description="A Stack Auth access token, as `getAuthJson()` returns it."
)
_Signed = Annotated[None, Depends(_access_token)]


async def current_user(request: HTTPConnection, _signed: _Signed = None) -> User:
    """Return the user; a dependency for HTTP and WebSocket routes, usually by the annotation `CurrentUser`.

    Raises:
        HTTPException: the request is unauthenticated. It has the status and the headers, and the message and error code
            as the detail. The exception handlers of the app see it; without one, the client gets the response that the
            middleware would send.
        WebSocketException: the same on a WebSocket whose server cannot send a response.
        ConfigError: no Stack Auth middleware saw this request.

    Example::

        @app.get("/me")
        async def me(user: CurrentUser) -> dict[str, str]:
            return {"id": user.id}
    """
    try:
        return _handler_api.require_user(request)
    except (RefusedError, AuthServerError) as error:
        raise _exception(request, error) from error


async def optional_user(request: HTTPConnection, _signed: _Signed = None) -> User | None:
    """Return the user, or None for an unauthenticated request; usually by the annotation `OptionalUser`.

    None is possible only on paths whose rule is ``optional`` or ``public``: elsewhere the middleware refuses.

    Example::

        @app.get("/posts")
        async def posts(user: OptionalUser) -> list[Post]:
            return find_posts(drafts_of=None if user is None else user.id)
    """
    return _handler_api.get_user(request)


async def current_profile(request: HTTPConnection, _signed: _Signed = None) -> UserProfile:
    """Return the profile of the user, cached or loaded from Stack Auth; usually by the annotation `CurrentProfile`.

    Needs `secret_server_key` or `publishable_client_key`.

    Raises:
        HTTPException: as `current_user`, and if Stack Auth rejects the token or the user or could not be reached.
        WebSocketException: the same on a WebSocket whose server cannot send a response.
        ConfigError: no key is set for the Stack Auth API, or no Stack Auth middleware saw this request.

    Example::

        @app.get("/plan")
        async def plan(profile: CurrentProfile) -> dict[str, object]:
            return {"plan": (profile.client_read_only_metadata or {}).get("plan")}
    """
    try:
        return await _handler_api.aload_profile(request)
    except (RefusedError, AuthServerError) as error:
        raise _exception(request, error) from error


async def optional_api_key(request: HTTPConnection) -> ApiKey | None:
    """Return the API key of the request, or None; usually by the annotation `OptionalApiKey`.

    There is a key only on paths whose rule accepts API keys, and only if the client sent one instead of a token.

    Example::

        @app.get("/v1/usage")
        async def usage(key: OptionalApiKey) -> dict[str, str | None]:
            return {"team": key.team_id if key else None}
    """
    return _handler_api.get_api_key(request)


def require_permission(permission: str, *, team: str | None = None) -> Callable[..., Awaitable[User]]:
    """Return a dependency that requires a signed-in user who holds a permission, and returns the user.

    ::

        Reader = Annotated[User, Depends(require_permission("read_reports", team="team_id"))]

        @app.get("/teams/{team_id}/reports")
        async def reports(user: Reader, team_id: UUID) -> list[str]: ...

    Args:
        permission: id of the permission.
        team: name of the path parameter that is the id of the team; None for a permission of the project.

    Raises:
        HTTPException: from the dependency, as `current_user` does, and with 403 if the user does not hold the
            permission.
        WebSocketException: the same on a WebSocket whose server cannot send a response.
        ConfigError: `permission` is not a permission id; or from the dependency, as `current_user` does, and if the
            path has no parameter `team`.
    """
    demand = Demand.of(permission, team)

    async def permitted_user(request: HTTPConnection, _signed: _Signed = None) -> User:
        try:
            return await demand.auser(request, request.path_params)
        except (RefusedError, AuthServerError) as error:
            raise _exception(request, error) from error

    return permitted_user


CurrentUser = Annotated[User, Depends(current_user)]
"""Annotation for a parameter that receives the signed-in user, as `current_user` returns it."""
OptionalUser = Annotated[User | None, Depends(optional_user)]
"""Annotation for a parameter that receives the user or None, as `optional_user` returns it."""
CurrentProfile = Annotated[UserProfile, Depends(current_profile)]
"""Annotation for a parameter that receives the profile of the user, as `current_profile` returns it."""
OptionalApiKey = Annotated[ApiKey | None, Depends(optional_api_key)]
"""Annotation for a parameter that receives the API key of the request or None, as `optional_api_key` returns it."""


class _Refusal(HTTPException):
    """A refusal as FastAPI's exception, with the middleware's response for an app that has no handler for it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status, refusal.detail, refusal.headers)
        self.response = refusal.response


async def _respond(_: HTTPConnection, error: _Refusal) -> Response:
    return response_of(error.response)


def _exception(request: HTTPConnection, error: RefusedError | AuthServerError) -> HTTPException | WebSocketException:
    """Return `error` as the exception that the app's handlers expect.

    FastAPI's default handler for `HTTPException` can only send ``{"detail": ...}``. If the app has not replaced it, a
    handler for `_Refusal` is added to the handlers that Starlette keeps in the scope. Handlers of the app for a status
    take precedence in any case.
    """
    refusal = refusal_of(request, error)
    if not can_respond(request.scope):
        return WebSocketException(refusal.close_code, error.code.value)
    handlers: dict[Any, Any] = request.scope.get("starlette.exception_handlers", ({}, {}))[0]
    if HTTPException not in handlers and handlers.get(StarletteHTTPException) is http_exception_handler:
        handlers[_Refusal] = _respond
    return _Refusal(refusal)
