"""Error codes, each with status, challenge and message, and the exceptions of this package.

.. code-block:: text

    StackAuthError
    ├── ConfigError       a setting is wrong; raised at construction
    ├── RefusedError      a credential is missing, malformed or not accepted
    ├── AuthServerError   Stack Auth cannot be reached; the credential was not judged
    └── ApiError          Stack Auth refused a call of `stackauth_middleware.client`, where it is exported
"""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from enum import Enum

__all__ = [
    "AuthServerError",
    "ConfigError",
    "ErrorCode",
    "Event",
    "RefusalInfo",
    "RefusedError",
    "StackAuthError",
]


class ErrorCode(Enum):
    """Why a request was refused. The value is the ``code`` of the JSON body, on which clients can branch.

    The challenges follow RFC 6750 section 3.1, the statuses RFC 9110 section 15.

    Attributes:
        status: HTTP status of the response.
        challenge: ``error`` parameter of ``WWW-Authenticate``; "" for a challenge without the parameter,
            None where the response has no challenge.
        message: text for people.

    Not promised: that messages stay the same. Codes and statuses do.

    Example::

        def body(code: ErrorCode, info: RefusalInfo) -> dict[str, str]:
            return {"code": code.value, "message": code.message}


        config = StackAuthConfig(error_body=body)
    """

    MISSING_TOKEN = "missing_token", 401, "", "Access token required"
    INVALID_REQUEST = "invalid_request", 400, "invalid_request", "Ambiguous or malformed credentials"
    INVALID_TOKEN = "invalid_token", 401, "invalid_token", "Invalid or expired access token"
    EXPIRED_TOKEN = "expired_token", 401, "invalid_token", "Access token has expired"
    INVALID_API_KEY = "invalid_api_key", 401, "invalid_token", "Invalid API key"
    EXPIRED_API_KEY = "expired_api_key", 401, "invalid_token", "API key has expired"
    ANONYMOUS_NOT_ALLOWED = "anonymous_not_allowed", 401, "invalid_token", "Sign-in required"
    RESTRICTED_NOT_ALLOWED = "restricted_not_allowed", 403, "insufficient_scope", "Account is restricted"
    FORBIDDEN = "forbidden", 403, "insufficient_scope", "Not allowed"
    SERVER_ERROR = "auth_server_error", 503, None, "Authentication server error"
    MISCONFIGURED = "auth_misconfigured", 500, None, "Authentication server error"

    status: int
    challenge: str | None
    message: str

    __hash__ = object.__hash__  # members are singletons; the method of Enum is slower

    def __new__(cls, code: str, status: int, challenge: str | None, message: str) -> ErrorCode:
        """Return a member whose value is `code` alone."""
        member = object.__new__(cls)
        member._value_ = code
        member.status = status
        member.challenge = challenge
        member.message = message
        return member


@dataclass(frozen=True, slots=True)
class RefusalInfo:
    """The second argument of a callable ``error_body``. Immutable.

    Attributes:
        method: request method as the client sent it, or ``"WEBSOCKET"``.
        path: the path that was matched against the rules, percent-decoded. A client chose it: escape it in HTML.
        restricted_reason: why the account is restricted; None unless the code is RESTRICTED_NOT_ALLOWED.
        retry_after: seconds after which the client may retry; None unless the code is SERVER_ERROR.

    Example::

        def body(code: ErrorCode, info: RefusalInfo) -> dict[str, object]:
            return {"code": code.value, "retry_after": info.retry_after}
    """

    method: str
    path: str
    restricted_reason: str | None = None
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """The outcome of a request, passed to each of ``observers``. Immutable; holds no credential.

    Attributes:
        method: request method in upper case, or ``"WEBSOCKET"``.
        path: the path that was matched against the rules, percent-decoded. A client chose it: escape it in logs.
        code: why the request was refused; None if it reached the app.
        detail: one of a fixed set of sentences on the refusal, or on a preflight that the middleware answered.
        user_id: id of the user of a verified token or API key, or None.
        api_key_id: id of the API key, or None. Not the key.

    Example::

        def count(event: Event) -> None:
            metrics.increment("auth", code=event.code.value if event.code else "ok")


        config = StackAuthConfig(observers=[count])
    """

    method: str
    path: str
    code: ErrorCode | None = None
    detail: str = ""
    user_id: str | None = None
    api_key_id: str | None = None


class StackAuthError(Exception):
    """Base class of the exceptions of this package.

    Example::

        try:
            user = verifier.verify(token)
        except StackAuthError as error:
            logger.warning("no user: %s", error)
    """


_SECRET = r"""(?xi)
    (?<![^\W_]) (ssk|pck|sak|sk|pk|wrt) _                # a key of Stack Auth, or a workflow token
        [^\s'",;()\[\]{}<>\u2026] (?: [^\s'",;()\[\]{}<>\u2026] | ['",;()\[\]{}<>](?=\w) )*
    | (eyJ) [\w.=+/-]+                                   # a JWT, or base64 of JSON
    | ((?: [a-z][a-z0-9+.-]*: )? //) .* @                # user and password of a URL, which may contain an @
    | (?<=['"]) (?!/) [^'"]*? : .* @                     # the same for a URL without scheme and //
"""
"""Compiled at the first use, since most processes never use it."""


class ConfigError(StackAuthError, ValueError):
    """A setting is missing or invalid. The message names the setting, its value, and what is valid.

    Also a `ValueError`.

    Args:
        message: text for the operator. Keys, tokens and passwords in it are masked, since a secret can be the
            value of the wrong setting.

    Example::

        try:
            config = StackAuthConfig(leeway=-1)
        except ConfigError as error:
            sys.exit(str(error))
    """

    def __init__(self, message: str) -> None:
        super().__init__(mask_secrets(message))


def mask_secrets(text: str) -> str:
    """Return `text` with keys, tokens, and the passwords of URLs masked."""
    return re.sub(_SECRET, _masked, text)


def _masked(match: re.Match[str]) -> str:
    kind, jwt, scheme = match.groups()
    return f"{kind}_***" if kind else "eyJ***" if jwt else f"{scheme or ''}***@"


class RefusedError(StackAuthError):
    """A credential is missing, malformed, invalid or expired, or its user is not allowed.

    Attributes:
        code: the error code; never SERVER_ERROR or MISCONFIGURED.
        detail: one of a fixed set of sentences, for logs. Holds no part of the credential. Not for clients:
            it tells a forger what to change.
        restricted_reason: why the account is restricted; None unless the code is RESTRICTED_NOT_ALLOWED.

    Example::

        try:
            user = verifier.verify(token)
        except RefusedError as error:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, error.code.value)
    """

    def __init__(self, code: ErrorCode, detail: str = "", restricted_reason: str | None = None) -> None:
        super().__init__(code, detail, restricted_reason)
        self.code = code
        self.detail = detail
        self.restricted_reason = restricted_reason

    def __str__(self) -> str:
        return f"{self.code.value}: {self.detail or self.code.message}"


class AuthServerError(StackAuthError):
    """Stack Auth cannot be reached or rejects the settings, so the credential was not judged.

    Never treat it as a refusal: the user may be signed in.

    Attributes:
        code: SERVER_ERROR, or MISCONFIGURED if Stack Auth rejects the project id or a key.
        retry_after: whole seconds after which to retry; None for MISCONFIGURED.
        detail: one of a fixed set of sentences, for logs.

    Example::

        try:
            user = verifier.verify(token)
        except AuthServerError as error:
            message.requeue(delay=error.retry_after or 60)
    """

    def __init__(self, code: ErrorCode, retry_after: int | None = None, detail: str = "") -> None:
        super().__init__(code, retry_after, detail)
        self.code = code
        self.retry_after = retry_after
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code.value}: {self.detail or self.code.message}"


def clear_frame_locals(error: BaseException) -> None:
    """Clear the variables of the finished frames of `error`, and drop its internal ``__context__``.

    Error trackers and debuggers show tracebacks with the variables of each frame. Frames of this package and
    of the HTTP clients hold tokens, keys and headers; the exception of a decoder holds its input. The
    exception that the caller was handling stays in ``__context__``, and an explicit ``__cause__`` stays too.

    Args:
        error: the exception, in the frame that caught it. That frame is still running: delete its own
            variables there.
    """
    if error.__traceback__ is not None:
        traceback.clear_frames(error.__traceback__.tb_next)  # the first frame is the one that caught it
    context = error.__context__
    while context is not None and context is not error.__cause__ and _was_caught_here(context):
        context = error.__context__ = context.__context__


def _was_caught_here(error: BaseException) -> bool:
    """Return whether the outermost frame of `error` is one of this package."""
    outermost = error.__traceback__
    name = outermost.tb_frame.f_globals.get("__name__", "") if outermost else ""
    return bool(name.partition(".")[0] == __name__.partition(".")[0])
