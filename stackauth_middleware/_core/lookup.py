"""Lookups: answers of Stack Auth, kept by key, in front of every call to its API.

A lookup is declared by what it asks (a `Call` for each key), its reader, its time to live and its bounds. What is the
same for all is here: the local cache, the negative cache, single flight, the circuit breaker, and the rule that
only an answer that was asked for later replaces one that is kept.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from ..errors import AuthServerError, ErrorCode
from .cache import Atomic, LRUCache
from .config import StackAuthConfig
from .rate_limited_log import RateLimitedLog
from .records import Clocks
from .upstream import (
    CANCEL_GRACE,
    GAVE_UP,
    Answer,
    Breaker,
    Call,
    Failure,
    Led,
    NoReply,
    Refusal,
    Reply,
    Resume,
    Script,
    Share,
    fetch,
)

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", contravariant=True)
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

MIN_SHARED_RESULTS = 1000
"""Keys whose last answer is kept even by a cache of no entries, for the callers who wait for it together."""
FRESH_INTERVAL = 1.0
"""Seconds between two calls about the same key that are made because a caller wants a fresh answer."""
NEGATIVE_TTL = 1.0
"""Seconds for which a refused credential, or a key whose answer cannot be used, is not asked about again."""

Reading: TypeAlias = V | Refusal | Failure


class Reader(Protocol[K_contra, V_co]):
    """Reads what Stack Auth answered about a key."""

    def __call__(self, answer: Answer, key: K_contra, clocks: Clocks) -> V_co | Refusal | Failure: ...


class _Unknown(Enum):
    UNKNOWN = 1


UNKNOWN = _Unknown.UNKNOWN
"""Nothing is kept that would do."""


class Api:
    """What all lookups of one config share: the circuit breaker, and the log lines about outages."""

    def __init__(self, config: StackAuthConfig) -> None:
        self.breaker: Atomic[Breaker] = Atomic(Breaker())
        self.faults = RateLimitedLog(logging.ERROR)
        self.outages = RateLimitedLog(logging.WARNING)


@dataclass(frozen=True, slots=True)
class CachedAnswer(Generic[V]):
    """The newest answer about a key. Times are monotonic, but for the last.

    Attributes:
        reading: the value; or a refusal, kept so that no older answer can replace it.
        asked_at: when it was asked for; a later answer that was asked for earlier does not replace it.
        arrived_at: when it came.
        fresh_at: when a fresh one was last asked for.
        until: when it must not be used any more (wall clock).
    """

    reading: V | Refusal
    asked_at: float
    arrived_at: float
    fresh_at: float
    until: float


class CachedFailure(NamedTuple):
    """The last call about a key that failed, and when it did (monotonic)."""

    failure: Failure
    arrived_at: float


class Lookup(Generic[K, V]):
    """An answer of Stack Auth, kept by key.

    A request for a key is served, in this order, by the negative cache of its credential, by the local cache, by a
    failure that has just been met, or else, unless the circuit breaker is open, by a call that concurrent callers
    share.

    Args:
        config: of which all lookups share one breaker.
        name: tells the keys of one lookup from those of another; also in log lines.
        url: the address that is asked, without the key; for log lines.
        read: makes a value, a refusal or a failure of an answer. A ValueError, TypeError, LookupError or
            RecursionError in it is a failure that concerns the key alone.
        ttl: seconds for which a value is kept, from when it was asked for; 0 for each caller to ask anew.
        max_entries: values that are kept; 0 for none.
        max_bytes: bytes that they may take, as `size_of` estimates them.
    """

    def __init__(
        self,
        config: StackAuthConfig,
        name: str,
        url: str,
        read: Reader[K, V],
        *,
        ttl: float,
        max_entries: int,
        max_bytes: float = math.inf,
    ) -> None:
        self._name = name
        self._url = url
        self._read = read
        self._ttl = ttl if max_entries else 0.0
        self._api = config.get_or_create(Api)
        self._longest = max(ttl, config.timeout, FRESH_INTERVAL)
        self._kept: LRUCache[K, CachedAnswer[V]] = LRUCache(max_entries or MIN_SHARED_RESULTS, max_bytes)
        self._failed: LRUCache[K, CachedFailure] = LRUCache(max(max_entries, MIN_SHARED_RESULTS))
        self._refused: LRUCache[Hashable, tuple[Refusal, float]] = LRUCache(max(max_entries, MIN_SHARED_RESULTS))

    def get(
        self,
        key: K,
        call: Callable[[], Call],
        now: Clocks,
        *,
        credential: Hashable = None,
        until: float = math.inf,
        fresh: bool = False,
    ) -> Script[V]:
        """Return the value of `key`.

        Args:
            key: what is asked about; callers with an equal key share one call.
            call: makes the call that asks, where one is needed.
            now: both clocks.
            credential: what a refusal concerns, where that is less than the key: one of a user's tokens.
            until: when the answer must not be used any more (wall clock).
            fresh: whether only an answer will do that is asked for from now on, or within the last second by
                another caller who wanted a fresh one.

        Raises:
            RefusedError: Stack Auth refuses the credential.
            AuthServerError: Stack Auth cannot be asked, or refuses our key.
        """
        started, clocks = now.mono, now
        subject = key if credential is None else credential
        while True:
            look = partial(self._look, key, subject, started, clocks, fresh=fresh)
            reading: Reading[V] | _Unknown = look()
            if reading is UNKNOWN and self._api.breaker.record.is_open(clocks.mono):
                reading = self._breaker_failure()
            if reading is UNKNOWN:
                script = partial(self._lead, key, subject, call, clocks, until, look=look, fresh=fresh)
                resume = yield Share((self._name, key), script, cancel_grace=CANCEL_GRACE)
                clocks = resume.clocks
                if resume.answer in GAVE_UP:
                    raise AuthServerError(ErrorCode.SERVER_ERROR, 1, f"the {self._name} did not come in time")
                reading = resume.answer.result if isinstance(resume.answer, Led) else UNKNOWN
            if isinstance(reading, Refusal):
                raise reading.error()
            if isinstance(reading, Failure):
                raise reading.error(self._api.breaker.record.retry_after(clocks.mono))
            if not isinstance(reading, _Unknown):
                return reading

    def _look(self, key: K, subject: Hashable, started: float, now: Clocks, *, fresh: bool) -> Reading[V] | _Unknown:
        """Return what can be said without asking."""
        refused = self._refused.get(subject)
        if refused is not None and now.mono - refused[1] < NEGATIVE_TTL:
            return refused[0]
        kept = self._kept.get(key)
        if kept is not None and not isinstance(kept.reading, Refusal):
            if fresh:
                serves = kept.asked_at > started or now.mono - kept.fresh_at < FRESH_INTERVAL
            else:
                serves = kept.arrived_at >= started or self._lasts(kept, now)
            if serves:
                return kept.reading
        failed = self._failed.get(key)
        if failed is not None:
            just_now = failed.failure.key_only and now.mono - failed.arrived_at < NEGATIVE_TTL
            if just_now or failed.arrived_at >= started:
                return failed.failure
        return UNKNOWN

    def _lasts(self, kept: CachedAnswer[V], now: Clocks) -> bool:
        return now.mono - kept.asked_at < self._ttl and now.wall < kept.until

    def _breaker_failure(self) -> Failure:
        return Failure(self._api.breaker.record.code, "Stack Auth is left alone for a while")

    def _lead(
        self,
        key: K,
        subject: Hashable,
        call: Callable[[], Call],
        now: Clocks,
        until: float,
        *,
        look: Callable[[], Reading[V] | _Unknown],
        fresh: bool,
    ) -> Script[Reading[V] | _Unknown]:
        """Call, and return what was read; UNKNOWN where what is kept by now was asked for later.

        The leader looks once more, since another may have led and left between its look and this.
        """
        reading = look()
        if reading is not UNKNOWN:
            return reading
        breaker = self._api.breaker
        if not breaker.swap(lambda record: record.tried(now.mono)):
            return self._breaker_failure()
        try:
            resume = yield from fetch(call())
        except GeneratorExit:
            breaker.swap(lambda record: (record.given_up(now.mono), None))
            raise
        try:
            read = self._read(resume.answer, key, resume.clocks)
        except (ValueError, TypeError, LookupError, RecursionError):
            read = Failure(ErrorCode.SERVER_ERROR, "an answer that cannot be read", key_only=True)
        self._count(read, key, now.mono, resume)
        if isinstance(read, Failure):
            self._failed.put(key, CachedFailure(read, resume.clocks.mono))
            return read
        return read if self._keep(read, key, subject, now.mono, until, resume, fresh=fresh) else UNKNOWN

    def _count(self, reading: Reading[V], key: K, asked_at: float, resume: Resume) -> None:
        """Tell the breaker, and the log, what became of a call."""
        mono = resume.clocks.mono
        if isinstance(reading, Failure):
            notice = self._api.faults if reading.code is ErrorCode.MISCONFIGURED else self._api.outages
            notice(mono, f"no {self._name} from {self._url}: {reading.detail}")
        if isinstance(resume.answer, NoReply) and resume.answer.inconclusive:
            self._api.breaker.swap(lambda record: (record.given_up(asked_at), None))
        elif isinstance(reading, Failure) and not reading.too_large:
            self._api.breaker.swap(lambda record: (record.failed(reading, (self._name, key), asked_at, mono), None))
        else:
            self._api.breaker.swap(lambda record: (record.succeeded(asked_at), None))

    def _keep(
        self,
        reading: V | Refusal,
        key: K,
        subject: Hashable,
        asked_at: float,
        until: float,
        resume: Resume,
        *,
        fresh: bool,
    ) -> bool:
        """Keep `reading`, unless what is kept was asked for later. Return whether it was kept."""
        mono = resume.clocks.mono
        is_value = isinstance(resume.answer, Reply) and not isinstance(reading, Refusal)
        size = size_of(resume.answer.body) if is_value and isinstance(resume.answer, Reply) else 0

        def newer(kept: CachedAnswer[V] | None) -> tuple[CachedAnswer[V], int] | None:
            if kept is not None and kept.asked_at > asked_at:
                return None
            fresh_at = asked_at if fresh else kept.fresh_at if kept else -math.inf
            return CachedAnswer(reading, asked_at, mono, fresh_at, until), size

        is_newest = self._kept.swap(key, newer)
        if is_newest and isinstance(reading, Refusal):
            self._refused.put(subject, (reading, mono))
        oldest = mono - self._longest  # what is older serves nobody, nor any who still waits for it
        self._kept.evict_while(lambda kept: kept.arrived_at < oldest)
        return is_newest


def parts_of(body: bytes) -> int:
    """Return how many commas, lists and objects JSON has: what reading it costs."""
    return sum(map(body.count, (b",", b"[", b"{")))


def size_of(body: bytes) -> int:
    """Return the bytes of memory that what is read from the JSON in `body` takes at most, to a few per cent.

    Measured on CPython 3.11: a part costs up to 190 bytes beside its text; an escape or a character that is not
    ASCII can make four bytes of each character of its string.
    """
    width = 1 if body.isascii() and b"\\u" not in body else 4
    return 1024 + width * len(body) + 192 * parts_of(body)
