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

from typing import Annotated, Any

from fastapi import Depends, HTTPException, WebSocketException
from fastapi.exception_handlers import http_exception_handler
from fastapi.requests import HTTPConnection
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException

from .. import _handler_api
from .._core.users import User, UserProfile
from ..errors import AuthServerError, RefusedError
from ._shared import Refusal, can_respond, refusal_of
from ._starlette import response_of

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
        HTTPException: the request is unauthenticated; with status, headers, and the error code in the detail. Where
            the app has no handler for it, the middleware's own response is sent. On a WebSocket whose server
            cannot send a response a `WebSocketException`.
        ConfigError: no Stack Auth middleware saw this request.
    """
    try:
        return _handler_api.require_user(request)
    except (RefusedError, AuthServerError) as error:
        raise _exception(request, error) from error


async def optional_user(request: HTTPConnection, _signed: _Signed = None) -> User | None:
    """Return the user, or None where the rules let requests through as nobody and nobody is there."""
    return _handler_api.get_user(request)


async def current_profile(request: HTTPConnection, _signed: _Signed = None) -> UserProfile:
    """Return the whole profile of the user, remembered or asked for.

    Raises:
        HTTPException: as for `current_user`; and where Stack Auth refuses the user, or cannot be asked.
        ConfigError: no key is set to ask with, or no Stack Auth middleware saw this request.
    """
    try:
        return await _handler_api.aload_profile(request)
    except (RefusedError, AuthServerError) as error:
        raise _exception(request, error) from error


get_user = optional_user
require_user = current_user

CurrentUser = Annotated[User, Depends(current_user)]
OptionalUser = Annotated[User | None, Depends(optional_user)]
CurrentProfile = Annotated[UserProfile, Depends(current_profile)]


class _Refusal(HTTPException):
    """A refusal in FastAPI's form, and the middleware's response for an app that has no handler of its own for it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status, refusal.detail, refusal.headers)
        self.response = refusal.response


async def _answer(_: HTTPConnection, error: _Refusal) -> Response:
    return response_of(error.response)


def _exception(request: HTTPConnection, error: RefusedError | AuthServerError) -> HTTPException | WebSocketException:
    """Return `error` in the form that the app's own handlers know.

    FastAPI has one handler for every `HTTPException`, which can send no body but ``{"detail": ...}``. Where the app
    has left it in place, a handler for `_Refusal` is put beside it, in the table that Starlette keeps in the scope;
    the app's handlers for a status come first whatever is there.
    """
    refusal = refusal_of(request, error)
    if not can_respond(request.scope):
        return WebSocketException(refusal.close_code, error.code.value)
    handlers: dict[Any, Any] = request.scope.get("starlette.exception_handlers", ({}, {}))[0]
    if HTTPException not in handlers and handlers.get(StarletteHTTPException) is http_exception_handler:
        handlers[_Refusal] = _answer
    return _Refusal(refusal)
