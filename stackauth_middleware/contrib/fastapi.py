"""FastAPI: the user as a dependency, refusals as `HTTPException`, an Authorize button in the docs.

::

    app.add_middleware(StackAuthASGIMiddleware, config=auth)

    @app.get("/me")
    async def me(user: CurrentUser) -> User:
        return user

In a test, ``app.dependency_overrides[current_user] = lambda: somebody`` puts a user in; the middleware
is still asked first. `get_user` and `require_user` are the same dependencies under the names of the
functions that FastAPI cannot call, because they take any framework's request.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, WebSocketException
from fastapi.requests import HTTPConnection
from fastapi.security import HTTPBearer

from .. import _door
from .._user import User, UserProfile
from ..errors import AuthServerError, RefusedError
from ._shared import can_respond, refusal_of

__all__ = [
    "CurrentProfile",
    "CurrentUser",
    "OptionalUser",
    "current_profile",
    "current_user",
    "get_user",
    "optional_user",
    "require_user",
]


class _AccessToken(HTTPBearer):
    """Tells OpenAPI how a request is signed in. Looks at no header: the middleware has."""

    async def __call__(self, request: HTTPConnection) -> None:
        return None


_access_token = _AccessToken(
    bearerFormat="JWT", scheme_name="StackAuth", description="A Stack Auth access token, as `getAuthJson()` returns it."
)
_Signed = Annotated[None, Depends(_access_token)]


async def current_user(request: HTTPConnection, _signed: _Signed = None) -> User:
    """Return the user, for HTTP and WebSocket routes.

    Raises:
        HTTPException: nobody is there; with the row's status, headers, and code in the detail. On a
            WebSocket whose server cannot send a response a `WebSocketException`.
        ConfigError: no Stack Auth middleware saw this request.
    """
    try:
        return _door.require_user(request)
    except (RefusedError, AuthServerError) as error:
        raise _exception(request, error) from error


async def optional_user(request: HTTPConnection, _signed: _Signed = None) -> User | None:
    """Return the user, or None where the rules let requests through as nobody and nobody is there."""
    return _door.get_user(request)


async def current_profile(request: HTTPConnection, _signed: _Signed = None) -> UserProfile:
    """Return the whole profile of the user, remembered or asked for.

    Raises:
        HTTPException: as for `current_user`; and where Stack Auth refuses the user, or cannot be asked.
        ConfigError: no key is set to ask with, or no Stack Auth middleware saw this request.
    """
    try:
        return await _door.aload_profile(request)
    except (RefusedError, AuthServerError) as error:
        raise _exception(request, error) from error


get_user = optional_user
require_user = current_user

CurrentUser = Annotated[User, Depends(current_user)]
OptionalUser = Annotated[User | None, Depends(optional_user)]
CurrentProfile = Annotated[UserProfile, Depends(current_profile)]


def _exception(request: HTTPConnection, error: RefusedError | AuthServerError) -> HTTPException | WebSocketException:
    """Return `error` in the form that the app's own handlers know."""
    refusal = refusal_of(error)
    if can_respond(request.scope):
        return HTTPException(refusal.status, refusal.body, refusal.headers)
    return WebSocketException(refusal.close_code, refusal.code)
