"""The users/me call, how its answer is read, and the breaker in front of it.

What Stack Auth answers (contract.md section 3): a status says little. A deleted user is a 400, a bad
secret key of ours a 401 like a bad token of theirs, and an odd token a 500. So an answer is read by
the ``code`` in its body; only where there is none does the status count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from ._config import StackAuthConfig
from ._user_profile import UserProfile, profile_from_json
from ._wire import Answer, Call, Clocks, NoReply, NoReplyKind, Reply
from .errors import ErrorCode

MAX_OCTETS = 1024 * 1024
MAX_PARTS = 32 * 1024
"""Commas, lists and objects of an answer: what reading it costs. Metadata is the user's own to write."""
MAX_REASON = 128
"""Characters of a reason for a restriction, beyond which it is dropped: refusals are kept by the thousand."""
REFUSED_FOR = 1.0
"""Seconds for which a token that users/me refused, or a user whose account it cannot tell, is not asked for again."""
OPENS_AFTER = 5
"""Failures in a row that open the breaker."""
OPEN_FOR = 10.0
"""Seconds for which an open breaker lets no call through; then one, to see."""

_JUDGED = {
    "UNPARSABLE_ACCESS_TOKEN": ErrorCode.INVALID_TOKEN,
    "ACCESS_TOKEN_EXPIRED": ErrorCode.EXPIRED_TOKEN,
    "INVALID_PROJECT_FOR_ACCESS_TOKEN": ErrorCode.INVALID_TOKEN,
    "CANNOT_GET_OWN_USER_WITHOUT_USER": ErrorCode.INVALID_TOKEN,  # the account was deleted
    "ANONYMOUS_AUTHENTICATION_NOT_ALLOWED": ErrorCode.ANONYMOUS_NOT_ALLOWED,
    "RESTRICTED_USER_NOT_ALLOWED": ErrorCode.RESTRICTED_NOT_ALLOWED,
}
_OUR_FAULT = frozenset(
    {
        "INVALID_SECRET_SERVER_KEY",
        "SERVER_AUTHENTICATION_REQUIRED",
        "INVALID_PUBLISHABLE_CLIENT_KEY",
        "PUBLISHABLE_CLIENT_KEY_REQUIRED_FOR_PROJECT",
        "INSUFFICIENT_ACCESS_TYPE",
        "CURRENT_PROJECT_NOT_FOUND",
        "BRANCH_DOES_NOT_EXIST",
        "ACCESS_TYPE_REQUIRED",
        "ACCESS_TYPE_WITHOUT_PROJECT_ID",
        "PROJECT_KEY_WITHOUT_ACCESS_TYPE",
        "INVALID_ACCESS_TYPE",
        "SCHEMA_ERROR",
    }
)


class Refusal(NamedTuple):
    """Stack Auth judged the token, and refused it."""

    code: ErrorCode
    detail: str
    restricted_reason: str | None = None


class Failure(NamedTuple):
    """Stack Auth judged nobody. The detail is for logs and holds nothing of the answer's text.

    Attributes:
        for_user: whether another user's call may well succeed: an odd account gets a 500 too.
        overgrown: whether it is the user's own metadata that cannot be read: Stack Auth is well.
    """

    code: ErrorCode
    detail: str
    retry_after: int | None = None
    for_user: bool = False
    overgrown: bool = False


Reading: TypeAlias = UserProfile | Refusal | Failure


def call(config: StackAuthConfig, token: str, version: str) -> Call:
    """Return the call that asks for the user of `token`, a token that passed the local check.

    Anonymous and restricted users are always asked for; whom to let in is decided here, so that a
    mode does not change who is who (contract.md section 11).
    """
    if config.secret_server_key:
        access = {"x-stack-access-type": "server", "x-stack-secret-server-key": config.secret_server_key}
    else:
        access = {"x-stack-access-type": "client", "x-stack-publishable-client-key": config.publishable_client_key}
    headers = {
        "accept": "application/json",
        "x-stack-project-id": config.project_id,
        "x-stack-access-token": token,
        "x-stack-allow-anonymous-user": "true",
        "x-stack-client-version": f"python @stackauth/middleware@{version}",
        **access,
    }
    return Call(config.users_me_url, MAX_OCTETS, headers)


def read(answer: Answer, user_id: str, clocks: Clocks) -> Reading:
    """Return what `answer` says of the user `user_id`."""
    if isinstance(answer, NoReply) and answer.kind is NoReplyKind.TOO_LARGE:
        return _overgrown(answer.reason)
    if not isinstance(answer, Reply):
        return Failure(ErrorCode.SERVER_ERROR, str(answer))
    status, body = answer.meant_status, _object(answer.body)
    if isinstance(body, Failure):
        if status == 200:
            return body
        body = {}
    code = body.get("code")
    if isinstance(code, str) and (code in _JUDGED or code in _OUR_FAULT):
        return _by_code(code, body)
    if status == 200:
        return _by_body(body, user_id)
    retry_after = answer.retry_after(clocks.wall)
    odd = status >= 500 or isinstance(code, str)
    return Failure(ErrorCode.SERVER_ERROR, f"status {status}", retry_after, for_user=odd and not retry_after)


def size_of(body: bytes) -> int:
    """Return the bytes of memory that the profile read from `body` takes at most, to a few per cent.

    Measured on CPython 3.10 to 3.13: a part costs up to 190 bytes beside its text; an escape or a
    character that is not ASCII can make four bytes of each character of its string.
    """
    width = 1 if body.isascii() and b"\\u" not in body else 4
    return 1024 + width * len(body) + 192 * _parts(body)


def _parts(body: bytes) -> int:
    return sum(map(body.count, (b",", b"[", b"{")))


def _overgrown(detail: str) -> Failure:
    return Failure(ErrorCode.SERVER_ERROR, detail, for_user=True, overgrown=True)


def _object(body: bytes) -> Mapping[str, Any] | Failure:
    """Return the object that `body` is, an empty one where it is none, or why it is not read as a profile."""
    if _parts(body) > MAX_PARTS:
        return _overgrown("a profile of too many parts")
    try:
        value = json.loads(body.decode("utf-8"))
    except ValueError:
        return {}
    except RecursionError:
        return _overgrown("a profile nested too deeply")
    return value if isinstance(value, dict) else {}


def _by_code(code: str, body: Mapping[str, Any]) -> Refusal | Failure:
    if code in _OUR_FAULT:
        return Failure(ErrorCode.MISCONFIGURED, f"users/me says {code}")
    details = body.get("details")
    reason = details.get("restricted_reason") if isinstance(details, dict) else None
    kind = reason.get("type") if isinstance(reason, dict) else None
    known = isinstance(kind, str) and len(kind) <= MAX_REASON
    return Refusal(_JUDGED[code], f"users/me says {code}", kind if known else None)


def _by_body(body: Mapping[str, Any], user_id: str) -> UserProfile | Failure:
    if body.get("id") != user_id:
        return Failure(ErrorCode.SERVER_ERROR, "a 200 that is not the profile of this user", for_user=True)
    try:
        return profile_from_json(body)
    except ValueError:
        return Failure(ErrorCode.SERVER_ERROR, "a profile whose flags are no booleans", for_user=True)
    except RecursionError:
        return _overgrown("a profile nested too deeply")


class Breaker(NamedTuple):
    """How Stack Auth has been of late (monotonic seconds).

    Attributes:
        failures: how many calls in a row failed; one user's 5xx counts once.
        users: whose 5xx are among them.
        open_until: when the next call may be tried; it goes alone. -inf while all may call.
        told_at: when Stack Auth last told us to stay away, by a Retry-After or for our key.
        code: the row to answer with until then.
    """

    failures: int = 0
    users: frozenset[str] = frozenset()
    open_until: float = -math.inf
    told_at: float = -math.inf
    code: ErrorCode = ErrorCode.SERVER_ERROR

    def is_open(self, mono: float) -> bool:
        return mono < self.open_until

    def retry_after(self, mono: float) -> int:
        """Return the whole seconds until a call may be tried, at least 1."""
        return max(1, math.ceil(self.open_until - mono)) if self.is_open(mono) else 1

    def tried(self, mono: float) -> tuple[Breaker, bool]:
        """Return the record after asking to make a call, and whether it may be made."""
        if self.is_open(mono):
            return self, False
        if self.open_until == -math.inf:
            return self, True
        return self._replace(open_until=mono + OPEN_FOR), True  # the one probe: until it is back, no other

    def given_up(self, asked_at: float) -> Breaker:
        """Return the record after a call that told nothing: if it was the probe, the next may be one."""
        return self._replace(open_until=asked_at) if self.open_until == asked_at + OPEN_FOR else self

    def succeeded(self, asked_at: float) -> Breaker:
        """Return the record after an answer about a user, asked for at `asked_at`."""
        return self if asked_at < self.told_at else Breaker()

    def failed(self, failure: Failure, user_id: str, asked_at: float, mono: float) -> Breaker:
        """Return the record after a call that failed. What is open stays so for as long as was said before.

        But a probe about a user who is counted already tells nothing new: the next caller may try.
        """
        if failure.code is ErrorCode.MISCONFIGURED:
            return Breaker(open_until=max(self.open_until, mono + OPEN_FOR), told_at=mono, code=failure.code)
        if failure.for_user and user_id in self.users:
            return self.given_up(asked_at)
        failures = self.failures + 1
        users = self.users | {user_id} if failure.for_user and failures <= OPENS_AFTER else self.users
        told_at = mono if failure.retry_after else self.told_at
        pause = max(failure.retry_after or 0.0, OPEN_FOR if failures >= OPENS_AFTER else 0.0)
        open_until = max(self.open_until, mono + pause) if pause else self.open_until
        return Breaker(failures, users, open_until, told_at)
