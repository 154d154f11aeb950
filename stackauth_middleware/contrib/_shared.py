"""What the contrib modules share: the answer to a refusal inside an app, and the user with the profile.

Nothing here decides about a request: the middleware has.
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
    """The answer to a refusal inside an app.

    Attributes:
        response: what the middleware itself would send for this request.
        status: HTTP status.
        message: for people.
        detail: message, code and, for a restricted account, the reason: for an exception in the framework's own form.
        headers: those of `response` but ``Content-Type`` and ``Content-Length``; for such an exception too.
        close_code: for a WebSocket.
    """

    response: Response
    status: int
    message: str
    detail: dict[str, Any]
    headers: dict[str, str]
    close_code: int


def refusal_of(request: Any, error: RefusedError | AuthServerError) -> Refusal:
    """Return the answer to `error` by the settings of the middleware that let `request` through.

    Args:
        request: what `require_user` takes. Where no middleware has seen it, the default settings hold: an app
            that uses a verifier alone may use the exception handlers as well.
        error: what was raised.
    """
    response = respond_to(request, error)
    code = error.code
    reason = error.restricted_reason if isinstance(error, RefusedError) else None
    detail = default_body(code, RefusalInfo("", "", reason))
    headers = {name: value for name, value in response.headers if not name.startswith("Content-")}
    return Refusal(response, code.status, code.message, detail, headers, close_code_of(code.status))


def respond_to(request: Any, error: RefusedError | AuthServerError) -> Response:
    """Return the response of `refusal_of` alone."""
    outcome = outcome_of(request)
    if outcome is None:
        return _by_default(error, "GET", "/", "")
    record = outcome.request
    respond = outcome.config.get_or_create(Responder)
    return respond(error, record.method, record.path, record.headers.get("origin", ""))


_by_default = Responder(cast("StackAuthConfig", StackAuthConfig))
"""The class holds the defaults of the settings, and reads no environment."""


def can_respond(scope: Any) -> bool:
    """Return whether an ASGI request can be answered with a response.

    A WebSocket can before it is accepted, where the server has the extension for it.
    """
    return scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or {})


def user_with_profile(request: Any) -> User:
    """Return the user of `request` with the profile, loaded unless a rule has. For plain functions.

    Raises:
        RefusedError: the request is unauthenticated, or Stack Auth refuses the token or the user.
        AuthServerError: Stack Auth could not be asked.
        ConfigError: no key is set to ask with, or no middleware saw this request.
    """
    user = require_user(request)
    return with_profile(user, load_profile(request)) if user.profile is None else user


async def auser_with_profile(request: Any) -> User:
    """Same as `user_with_profile`, but async."""
    user = require_user(request)
    return with_profile(user, await aload_profile(request)) if user.profile is None else user
