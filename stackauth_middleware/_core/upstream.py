"""Effects of a script and their results, and failures of Stack Auth.

A script is a generator that yields effects. The runner performs each effect and resumes the script with a `Resume`,
which holds the result and the time. There are two effects: a `Call` is sent over HTTP, and a `Share` is work that
concurrent callers share (single flight). A minimal script:

    def status_of(url: str) -> Script[int]:
        resume = yield Call("GET", url)
        if isinstance(resume.answer, NoReply):
            raise AuthServerError(ErrorCode.SERVER_ERROR, detail=str(resume.answer))
        return resume.answer.status

Runners dispatch effects by type. To add one, define a class here, add it to `Effect`, its result to `Answer`, and a
method to the table of each runner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Mapping
from email.utils import parsedate_to_datetime
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, TypeVar

from ..errors import AuthServerError, ErrorCode, RefusedError
from .records import Clocks

T = TypeVar("T")

MAX_BYTES = 1024 * 1024
"""Maximum size of a reply's body in bytes, unless the call sets its own."""
CANCEL_GRACE = 1.0
"""Seconds for which a shared fetch continues after its leader's task is cancelled."""

# -- effects ---------------------------------------------------------------------------------------


class Call:
    """An HTTP request to send, without redirects or cookies. Immutable by convention, like `Reply`.

    Neither is a mapping, sequence or dataclass: of these, error trackers record the members of each local variable,
    and of other objects only the repr.

    Args:
        method: in capitals.
        url: with the query, if any.
        headers: names in lower case.
        body: sent unchanged; its content type, if any, is in `headers`.
        max_bytes: limit on the size of the reply's body.
        idempotent: whether the call may be sent twice; by default as RFC 9110 section 9.2.2 defines for the method.
        fresh: whether to use a new connection instead of a pooled one.
    """

    __slots__ = ("body", "fresh", "headers", "idempotent", "max_bytes", "method", "url")

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] = MappingProxyType({}),
        body: bytes = b"",
        max_bytes: int = MAX_BYTES,
        *,
        idempotent: bool | None = None,
        fresh: bool = False,
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.max_bytes = max_bytes
        self.idempotent = method in _IDEMPOTENT if idempotent is None else idempotent
        self.fresh = fresh

    def __repr__(self) -> str:  # headers and body hold credentials
        return f"Call({self.method!r}, {self.url!r}, max_bytes={self.max_bytes})"

    def on_new_connection(self) -> Call:
        """Return the same call, to be sent on a new connection."""
        idempotent = self.idempotent
        return Call(self.method, self.url, self.headers, self.body, self.max_bytes, idempotent=idempotent, fresh=True)


_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


class Share(NamedTuple):
    """Single flight: one of several concurrent callers, the leader, runs `script`; the others follow it.

    The leader is resumed with `Led`, which holds the result of the script. A follower is resumed with a `ShareEnd`,
    and checks the cache again. Callers share within one runner and event loop.

    Attributes:
        key: callers with an equal key share.
        script: makes the script, which the leader runs once, within its own time budget.
        budget: maximum seconds that the caller spends as the leader.
        wait: maximum seconds that the caller spends as a follower; 0 to return at once.
        max_waiters: maximum number of threads that follow at once, in all fetches of `pool`; None for no limit.
            Tasks are not limited, since a task that waits blocks no other.
        cancel_grace: seconds for which the script continues after the leader's task is cancelled, so that a client
            that disconnects does not make the next one start over.
        pool: the fetches with an equal value share `max_waiters`.
    """

    key: Hashable
    script: Callable[[], Script[Any]]
    budget: float = math.inf
    wait: float = math.inf
    max_waiters: int | None = None
    cancel_grace: float = 0.0
    pool: str = ""


# -- results ---------------------------------------------------------------------------------------


class Reply:
    """A complete HTTP response of Stack Auth.

    Args:
        status: of the response.
        headers: names in lower case.
        body: at most `Call.max_bytes` bytes.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:  # the body may hold a profile
        return f"Reply({self.status})"

    @property
    def meant_status(self) -> int:
        """The actual status: Stack Auth can send a 4xx with the status 200 (docs/stack-auth.md section 6)."""
        for name in ("x-stack-actual-status", "x-hexclave-actual-status"):
            actual = self.headers.get(name, "")
            if actual not in ("", "200") and self.status < 400:
                return int(actual) if actual.isdecimal() and actual.isascii() and len(actual) == 3 else 502
        return self.status

    def retry_after(self, wall: float) -> int | None:
        """Return the seconds in ``Retry-After`` (RFC 9110 section 10.2.3), clamped to 1 to 60, or None.

        Args:
            wall: the time on the wall clock, for a value that is a date.
        """
        value = self.headers.get("retry-after", "").strip()
        if value.isdecimal() and value.isascii():
            return max(1, min(60, int(value[:6])))
        try:
            return max(1, min(60, math.ceil(parsedate_to_datetime(value).timestamp() - wall)))
        except (ValueError, OverflowError):
            return None


class NoReplyKind(Enum):
    """Kinds of `NoReply`."""

    UNSENT = "no connection, or it failed before an answer began"
    TIMED_OUT = "the time budget was spent"
    BROKEN = "the answer broke off"
    TOO_LARGE = "the answer was over its size limit"
    ENCODED = "the answer had a Content-Encoding that was not asked for"


class NoReply(NamedTuple):
    """The result of a call without a usable reply.

    Attributes:
        kind: what happened to the call.
        reason: what failed, as the failing layer describes it; for logs. It holds no credential.
        inconclusive: whether it says nothing about the server: the call failed on a pooled connection, which may
            have been dead before, or there was no time left to send it.
    """

    kind: NoReplyKind
    reason: str
    inconclusive: bool = False

    def __str__(self) -> str:
        return self.reason


class Led:
    """The result of the script of a `Share`, for its leader. Its repr does not show the result."""

    __slots__ = ("result",)

    def __init__(self, result: Any) -> None:
        self.result = result

    def __repr__(self) -> str:
        return "Led(...)"


class ShareEnd(Enum):
    """The result of a `Share` for a follower.

    After `DONE` the leader has finished, successfully or not, and the follower checks the cache again. `TIMED_OUT`
    means that its `wait` or time budget was spent, and `FULL` that there were `max_waiters` followers already.
    """

    DONE = 1
    TIMED_OUT = 2
    FULL = 3


GAVE_UP = (ShareEnd.TIMED_OUT, ShareEnd.FULL)
"""The results of a follower that stopped waiting before its leader finished."""

Answer: TypeAlias = "Reply | NoReply | Led | ShareEnd"


class Resume(NamedTuple):
    """The value with which a runner resumes a script.

    Attributes:
        answer: the result of the effect.
        clocks: the time when it was available.
    """

    answer: Answer
    clocks: Clocks


Effect: TypeAlias = "Call | Share"
Script: TypeAlias = Generator[Effect, Resume, T]


def fetch(call: Call) -> Script[Resume]:
    """Send `call`, and retry it once on a new connection if it is idempotent and failed on a pooled one."""
    resume = yield call
    if isinstance(resume.answer, NoReply) and resume.answer.inconclusive and call.idempotent:
        resume = yield call.on_new_connection()
    return resume


# -- failures --------------------------------------------------------------------------------------


class Refusal(NamedTuple):
    """Stack Auth examined the credential and refused it.

    Attributes:
        code: the error code with which to refuse the request.
        detail: for logs.
        restricted_reason: why the user is restricted, if Stack Auth gave a reason.
    """

    code: ErrorCode
    detail: str
    restricted_reason: str | None = None

    def error(self) -> RefusedError:
        """Return the exception for this refusal."""
        return RefusedError(self.code, self.detail, self.restricted_reason)


class Failure(NamedTuple):
    """The credential could not be examined: there is no usable reply.

    Attributes:
        code: SERVER_ERROR or MISCONFIGURED.
        detail: for logs; holds no text of the reply.
        retry_after: the seconds in the reply's Retry-After.
        key_only: whether it may concern this key of the lookup alone: for some unusual accounts Stack Auth answers 500.
        is_outage: whether it is a sign that Stack Auth fails or rejects our key. If not, as for a reply that is too
            large to parse, the circuit breaker counts the reply as a success.
    """

    code: ErrorCode
    detail: str
    retry_after: int | None = None
    key_only: bool = False
    is_outage: bool = True

    def error(self, retry_after: int) -> AuthServerError:
        """Return the exception for this failure, with `retry_after` in seconds if a retry makes sense."""
        if self.code is ErrorCode.MISCONFIGURED:
            return AuthServerError(self.code, detail=self.detail)
        return AuthServerError(self.code, retry_after, self.detail)
