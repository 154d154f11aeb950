"""What the modules of this folder share: a refusal from inside an app, and the user together with the profile.

Nothing here decides about anybody. Who is there was settled by the middleware; what an answer says
is the row's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .._door import aload_profile, load_profile, require_user
from .._responses import _challenge, _default
from .._user import User, with_profile
from ..asgi import _CLOSE_CODES
from ..errors import AuthServerError, RefusalInfo, RefusedError

REALM = "stack-auth"
"""The default realm: a request that nobody is behind does not lead back to its settings."""


class Refusal(NamedTuple):
    """An answer in parts, for a framework to put into its own form.

    Attributes:
        status: the row's.
        message: the row's words for people.
        code: the row's stable code.
        headers: all but those of the body, ``WWW-Authenticate`` among them where the row has one.
        body: what the middleware itself would send as JSON, with default settings.
        close_code: for a WebSocket.
    """

    status: int
    message: str
    code: str
    headers: dict[str, str]
    body: dict[str, Any]
    close_code: int


def refusal_of(error: RefusedError | AuthServerError) -> Refusal:
    """Return the answer that `error` calls for."""
    row = error.code
    reason = error.restricted_reason if isinstance(error, RefusedError) else None
    retry_after = error.retry_after if isinstance(error, AuthServerError) else None
    headers = {"Cache-Control": "no-store"}
    challenge = _challenge(row, REALM)
    if challenge:
        headers["WWW-Authenticate"] = challenge
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    body = _default(row, RefusalInfo("", "", reason, retry_after))
    return Refusal(row.status, row.message, row.value, headers, body, _CLOSE_CODES.get(row.status, 1013))


def can_respond(scope: Any) -> bool:
    """Say whether an ASGI request can be answered with a response: a WebSocket only before it is accepted,
    and only where the server has the extension for it.
    """
    return scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or {})


def user_with_profile(request: Any) -> User:
    """Return the user of `request` with the profile, asked for unless a rule has. For plain functions.

    Raises:
        RefusedError: nobody is there, or Stack Auth refuses the token or shows a user not to be let in.
        AuthServerError: Stack Auth could not be asked.
        ConfigError: no key is set to ask with, or no middleware saw this request.
    """
    user = require_user(request)
    return with_profile(user, load_profile(request)) if user.profile is None else user


async def auser_with_profile(request: Any) -> User:
    """Do as `user_with_profile` does, from a coroutine."""
    user = require_user(request)
    return with_profile(user, await aload_profile(request)) if user.profile is None else user
