"""The ways to fail, one row each, and the exceptions that carry them.

StackAuthError
├── ConfigError       a setting is wrong; raised where it is written
├── RefusedError      somebody's credential was judged, and refused
└── AuthServerError   Stack Auth could not be asked; says nothing about anybody
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
    """One row for each way to fail: the value is the stable code that clients may branch on.

    Attributes:
        status: HTTP status of the answer.
        challenge: the ``error`` of ``WWW-Authenticate`` (RFC 6750 section 3.1); empty for a
            challenge without one, None where no challenge is sent.
        message: words for people. They may change; never match on them.
    """

    MISSING_TOKEN = "missing_token", 401, "", "Access token required"
    INVALID_REQUEST = "invalid_request", 400, "invalid_request", "Ambiguous or malformed credentials"
    INVALID_TOKEN = "invalid_token", 401, "invalid_token", "Invalid or expired access token"
    EXPIRED_TOKEN = "expired_token", 401, "invalid_token", "Access token has expired"
    ANONYMOUS_NOT_ALLOWED = "anonymous_not_allowed", 401, "invalid_token", "Sign-in required"
    RESTRICTED_NOT_ALLOWED = "restricted_not_allowed", 403, "insufficient_scope", "Account is restricted"
    FORBIDDEN = "forbidden", 403, "insufficient_scope", "Not allowed"
    SERVER_ERROR = "auth_server_error", 503, None, "Authentication server error"
    MISCONFIGURED = "auth_misconfigured", 500, None, "Authentication server error"

    status: int
    challenge: str | None
    message: str

    __hash__ = object.__hash__  # there is one of each; Enum's own is written in Python

    def __new__(cls, code: str, status: int, challenge: str | None, message: str) -> ErrorCode:
        row = object.__new__(cls)
        row._value_ = code
        row.status = status
        row.challenge = challenge
        row.message = message
        return row


@dataclass(frozen=True, slots=True)
class RefusalInfo:
    """What a callable ``error_body`` is told beside the row.

    Attributes:
        method: request method in upper case, or ``"WEBSOCKET"``.
        path: the path as the rules saw it, unescaped.
        restricted_reason: why the account is restricted, for RESTRICTED_NOT_ALLOWED only.
        retry_after: seconds until asking again makes sense, for SERVER_ERROR only.
    """

    method: str
    path: str
    restricted_reason: str | None = None
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What an observer is told after a verdict. Holds no credential.

    Attributes:
        method: request method in upper case, or ``"WEBSOCKET"``.
        path: the path as the rules saw it, unescaped: escape it before it goes into a log.
        code: why the request was refused, or None where it was let through.
        detail: a fixed sentence about the refusal, or about a preflight that the middleware answered.
        user_id: whose verified token it was, where there was one.
    """

    method: str
    path: str
    code: ErrorCode | None = None
    detail: str = ""
    user_id: str | None = None


class StackAuthError(Exception):
    """Base of all errors that this package raises on purpose."""


_SECRET = re.compile(
    r"""
    (?<![^\W_]) (ssk|pck|sak|sk|pk|wrt) _ [^\s'",;()\[\]{}<>\u2026]+   # a key of Stack Auth, or a workflow token
    | (eyJ) [\w.=+/-]+                                                  # a JWT, or base64 of JSON
    | (//) [^\s'"]* @                                                   # the user and password of a URL
    """,
    re.VERBOSE | re.IGNORECASE,
)


class ConfigError(StackAuthError, ValueError):
    """A setting is missing or wrong. Says which, what it was, and what would be right.

    What looks like a key, a token or a password is hidden in the message: secrets get into the wrong setting.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_SECRET.sub(_hidden, message))


def _hidden(match: re.Match[str]) -> str:
    kind, jwt, _ = match.groups()
    return f"{kind}_***" if kind else "eyJ***" if jwt else "//***@"


class RefusedError(StackAuthError):
    """A credential was judged and refused.

    Attributes:
        code: the row.
        detail: a fixed sentence for logs; never holds any part of the credential.
        restricted_reason: for RESTRICTED_NOT_ALLOWED.
    """

    def __init__(self, code: ErrorCode, detail: str = "", restricted_reason: str | None = None) -> None:
        super().__init__(code, detail, restricted_reason)
        self.code = code
        self.detail = detail
        self.restricted_reason = restricted_reason

    def __str__(self) -> str:
        return f"{self.code.value}: {self.detail or self.code.message}"


class AuthServerError(StackAuthError):
    """Stack Auth could not be asked, or refused our own key. Nobody was judged.

    Attributes:
        code: SERVER_ERROR or MISCONFIGURED.
        retry_after: whole seconds until asking again makes sense; None for MISCONFIGURED.
        detail: a fixed sentence for logs.
    """

    def __init__(self, code: ErrorCode, retry_after: int | None = None, detail: str = "") -> None:
        super().__init__(code, retry_after, detail)
        self.code = code
        self.retry_after = retry_after
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code.value}: {self.detail or self.code.message}"


def clear_frame_locals(error: BaseException) -> None:
    """Clear the variables of the frames that `error` has passed and left, and drop what it came of inside.

    Error trackers and debuggers render tracebacks with the variables of every frame. Those of ours,
    and of the HTTP clients below, hold tokens, keys and whole carriers; a failed decoder holds its input.
    What was being handled when we were called stays as it is, and so does a cause that was named.
    """
    if error.__traceback__ is not None:
        traceback.clear_frames(error.__traceback__.tb_next)  # the first frame is the one that caught it, and runs
    context = error.__context__
    while context is not None and context is not error.__cause__ and _was_caught_here(context):
        context = error.__context__ = context.__context__


def _was_caught_here(error: BaseException) -> bool:
    outermost = error.__traceback__
    name = outermost.tb_frame.f_globals.get("__name__", "") if outermost else ""
    return bool(name.partition(".")[0] == __name__.partition(".")[0])
