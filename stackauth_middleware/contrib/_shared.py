"""Shared by the contrib modules: the response to a refusal inside an app, and the user with the profile.

Nothing here authenticates a request: the middleware has done so.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from .._core.config import StackAuthConfig
from .._core.records import Response
from .._core.responses import Responder, close_code_of, default_body
from .._core.users import User, with_profile
from .._handler_api import aload_profile, load_profile, outcome_of, require_user
from ..errors import AuthServerError, RefusalInfo, RefusedError


class Refusal(NamedTuple):
    """The response to a refusal inside an app, and the parts that a framework's own exception is made from.

    Attributes:
        response: the response that the middleware itself would send for this request.
        status: HTTP status.
        message: human-readable message of the error code.
        detail: message, error code and, for a restricted account, the reason.
        headers: headers of `response` without ``Content-Type`` and ``Content-Length``.
        close_code: close code for a WebSocket.
    """

    response: Response
    status: int
    message: str
    detail: dict[str, Any]
    headers: dict[str, str]
    close_code: int


def refusal_of(request: Any, error: RefusedError | AuthServerError) -> Refusal:
    """Return the refusal for `error`, with the settings of the middleware that passed `request` on.

    Args:
        request: anything that `require_user` takes. If no middleware has seen it, the default settings apply, so
            that an app that only uses a verifier can use the exception handlers too.
        error: the exception raised in the app.
    """
    response = respond_to(request, error)
    code = error.code
    reason = error.restricted_reason if isinstance(error, RefusedError) else None
    detail = default_body(code, RefusalInfo("", "", reason))
    headers = {name: value for name, value in response.headers if not name.startswith("Content-")}
    return Refusal(response, code.status, code.message, detail, headers, close_code_of(code.status))


def respond_to(request: Any, error: RefusedError | AuthServerError) -> Response:
    """Return only the response of `refusal_of`."""
    outcome = outcome_of(request)
    if outcome is None:
        return _by_default(error, "GET", "/", "")
    record = outcome.request
    respond = outcome.config.get_or_create(Responder)
    return respond(error, record.method, record.path, record.headers.get("origin", ""))


_by_default = Responder(cast("StackAuthConfig", StackAuthConfig))
"""Responder with the default settings, which the config class holds. An instance would read the environment."""


def can_respond(scope: Any) -> bool:
    """Return whether an HTTP response can be sent for an ASGI scope.

    For a WebSocket that is not accepted yet it can if the server has the ``websocket.http.response`` extension.
    """
    return scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or {})


def user_with_profile(request: Any) -> User:
    """Return the user of `request` with the profile, loading it unless a rule already did. Blocks.

    Raises:
        RefusedError: the request is unauthenticated, or Stack Auth rejects the token or the user.
        AuthServerError: Stack Auth could not be reached.
        ConfigError: no API key is configured, or no middleware saw this request.
    """
    user = require_user(request)
    return with_profile(user, load_profile(request)) if user.profile is None else user


async def auser_with_profile(request: Any) -> User:
    """Same as `user_with_profile`, but async."""
    user = require_user(request)
    return with_profile(user, await aload_profile(request)) if user.profile is None else user
