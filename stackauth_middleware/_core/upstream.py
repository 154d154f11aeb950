"""Asking Stack Auth: the effects of a script, what comes back, one way to fail, and the circuit breaker.

A script is a generator that yields effects and is resumed with a `Tick`: the answer, and both clocks. There are two
effects, which the runners dispatch by type: a `Call` is sent over HTTP, a `Share` is work that concurrent callers
share. Another kind of effect is one class here, one more member of `Effect` and `Answer`, and one function in
each runner.
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
"""Bytes of an answer's body, unless a call sets a limit of its own."""
CANCEL_GRACE = 1.0
"""Seconds for which a shared fetch goes on when the task that leads it is cancelled."""
OPENS_AFTER = 5
"""Failures in a row that open the circuit breaker."""
OPEN_FOR = 10.0
"""Seconds for which an open breaker lets no call through; then it lets one through, as a probe."""

# -- effects ---------------------------------------------------------------------------------------


class Call:
    """An HTTP request for a runner to send, without redirects or cookies.

    Like `Reply` it is no mapping, sequence or dataclass and shows no more than its repr: error trackers
    write out the variables of frames, and the members of what they find there. Neither is ever changed.

    Args:
        method: in capitals.
        url: with the query, if any.
        headers: names in lower case.
        body: sent as it is; its type is for `headers` to say.
        max_bytes: of the answer's body.
        idempotent: whether sending it twice does no harm; by default where RFC 9110 section 9.2.2 says so of
            the method.
        fresh: whether it goes out on a new connection, never on a pooled one.
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
        """Return this call as one to send on a new connection."""
        again = self.idempotent
        return Call(self.method, self.url, self.headers, self.body, self.max_bytes, idempotent=again, fresh=True)


_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


class Share(NamedTuple):
    """Single flight: of concurrent callers one, the leader, runs `script`; the others are its followers.

    The leader is resumed with `Led`, which holds what the script returned; a follower with a `ShareEnd`, after
    which it looks again at what the leader has left. Callers share within one runner and event loop.

    Attributes:
        key: callers with an equal key share.
        script: makes the script; run by the leader, once, within the leader's own time budget.
        budget: seconds that the caller spends at most as the leader.
        wait: seconds that it spends at most as a follower; 0 to go on at once.
        max_waiters: how many threads may follow, in this and others of its pool, at once; None for any number.
            Tasks are not limited, since a task that waits holds up no other.
        cancel_grace: seconds for which the script goes on when the leader's task is cancelled, so that a client
            that disconnects does not make the next one start over.
        pool: those of one pool share `max_waiters`.
    """

    key: Hashable
    script: Callable[[], Script[Any]]
    budget: float = math.inf
    wait: float = math.inf
    max_waiters: int | None = None
    cancel_grace: float = 0.0
    pool: str = ""


# -- answers ---------------------------------------------------------------------------------------


class Reply:
    """An answer read to its end. Header names in lower case."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:  # the body is somebody's profile
        return f"Reply({self.status})"

    @property
    def meant_status(self) -> int:
        """The status that Stack Auth means: it can hide a 4xx behind a 200 (contract.md section 3)."""
        for name in ("x-stack-actual-status", "x-hexclave-actual-status"):
            hidden = self.headers.get(name, "")
            if hidden not in ("", "200") and self.status < 400:
                return int(hidden) if hidden.isdecimal() and hidden.isascii() and len(hidden) == 3 else 502
        return self.status

    def retry_after(self, wall: float) -> int | None:
        """Return the seconds that ``Retry-After`` asks for, kept within 1 to 60; None where it says nothing."""
        value = self.headers.get("retry-after", "").strip()
        if value.isdecimal() and value.isascii():
            return max(1, min(60, int(value[:6])))
        try:
            return max(1, min(60, math.ceil(parsedate_to_datetime(value).timestamp() - wall)))
        except (ValueError, OverflowError):
            return None


class NoReplyKind(Enum):
    """What became of a call that was not answered."""

    UNSENT = "no connection, or it failed before an answer began"
    TIMED_OUT = "the time budget was spent"
    BROKEN = "the answer broke off"
    TOO_LARGE = "the answer was over its size limit"
    ENCODED = "the answer had a Content-Encoding that was not asked for"


class NoReply(NamedTuple):
    """Why there is no answer.

    Attributes:
        kind: what became of the call.
        reason: what failed, in the words of the layer that failed; for logs. It holds no credential.
        inconclusive: whether this says nothing of the server: the call failed on a pooled connection, which
            may have been dead for long, or there was no time left to send it.
    """

    kind: NoReplyKind
    reason: str
    inconclusive: bool = False

    def __str__(self) -> str:
        return self.reason


class Led:
    """What the script of a `Share` returned, for the leader alone. Shows nothing of it."""

    __slots__ = ("result",)

    def __init__(self, result: Any) -> None:
        self.result = result

    def __repr__(self) -> str:
        return "Led(...)"


class ShareEnd(Enum):
    """How following a leader ended. After `DONE` look again: the leader has left its result, or failed."""

    DONE = 1
    TIMED_OUT = 2
    FULL = 3


GAVE_UP = (ShareEnd.TIMED_OUT, ShareEnd.FULL)
"""The ends after which there is nothing new to look at."""

Answer: TypeAlias = "Reply | NoReply | Led | ShareEnd"


class Resume(NamedTuple):
    """What resumes a script."""

    answer: Answer
    clocks: Clocks


Effect: TypeAlias = "Call | Share"
Script: TypeAlias = Generator[Effect, Resume, T]


def fetch(call: Call) -> Script[Resume]:
    """Send `call`, and an idempotent one once more where a pooled connection failed: pools hold dead connections."""
    resume = yield call
    if isinstance(resume.answer, NoReply) and resume.answer.inconclusive and call.idempotent:
        resume = yield call.on_new_connection()
    return resume


# -- failures --------------------------------------------------------------------------------------


class Refusal(NamedTuple):
    """Stack Auth judged the credential, and refused it."""

    code: ErrorCode
    detail: str
    restricted_reason: str | None = None

    def error(self) -> RefusedError:
        """Return the exception for it."""
        return RefusedError(self.code, self.detail, self.restricted_reason)


class Failure(NamedTuple):
    """There is no usable answer, which says nothing of the credential.

    Attributes:
        code: SERVER_ERROR or MISCONFIGURED.
        detail: for logs; holds nothing of the answer's text.
        retry_after: seconds for which Stack Auth asked to be left alone.
        key_only: whether a call about another key may well succeed: an odd account gets a 500 too.
        too_large: whether the answer is too large or too deep to be read, while Stack Auth is well.
    """

    code: ErrorCode
    detail: str
    retry_after: int | None = None
    key_only: bool = False
    too_large: bool = False

    def error(self, retry_after: int) -> AuthServerError:
        """Return the exception for it; `retry_after`, in seconds, where a retry makes sense."""
        if self.code is ErrorCode.MISCONFIGURED:
            return AuthServerError(self.code, detail=self.detail)
        return AuthServerError(self.code, retry_after, self.detail)


class Breaker(NamedTuple):
    """Circuit breaker: stops calling a Stack Auth that fails. Times are monotonic seconds.

    Attributes:
        failures: how many calls in a row failed; those about one key that concern it alone count once.
        keys: whose own failures are among them.
        open_until: when the next call may be tried; it goes alone. -inf while all may call.
        pause_requested_at: when Stack Auth last asked to be left alone, by a Retry-After or by refusing our key.
        code: the error code until then.
    """

    failures: int = 0
    keys: frozenset[Hashable] = frozenset()
    open_until: float = -math.inf
    pause_requested_at: float = -math.inf
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
        """Return the record after an answer, asked for at `asked_at`."""
        return self if asked_at < self.pause_requested_at else Breaker()

    def failed(self, failure: Failure, key: Hashable, asked_at: float, mono: float) -> Breaker:
        """Return the record after a call that failed. What is open stays so for as long as was said before.

        But a probe about a key that is counted already tells nothing new: the next caller may try.
        """
        if failure.code is ErrorCode.MISCONFIGURED:
            return Breaker(open_until=max(self.open_until, mono + OPEN_FOR), pause_requested_at=mono, code=failure.code)
        if failure.key_only and key in self.keys:
            return self.given_up(asked_at)
        failures = self.failures + 1
        keys = self.keys | {key} if failure.key_only and failures <= OPENS_AFTER else self.keys
        pause_requested_at = mono if failure.retry_after else self.pause_requested_at
        pause = max(failure.retry_after or 0.0, OPEN_FOR if failures >= OPENS_AFTER else 0.0)
        open_until = max(self.open_until, mono + pause) if pause else self.open_until
        return Breaker(failures, keys, open_until, pause_requested_at)
