"""Lookups: cached replies of Stack Auth by key.

A subclass or instance declares the call for a key, the reader of its reply, the time to live and the bounds. `Lookup`
provides the rest: the local cache, the negative cache, single flight, the circuit breaker, and the rule that an entry
is replaced only by the reply to a later call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from ..errors import AuthServerError, ErrorCode
from .api import Api
from .cache import LRUCache
from .clocks import NEVER, elapsed
from .config import StackAuthConfig
from .records import Clocks
from .upstream import (
    CANCEL_GRACE,
    GAVE_UP,
    Answer,
    Call,
    Failure,
    Led,
    Refusal,
    Reply,
    Resume,
    Script,
    Share,
)

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", contravariant=True)
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

MIN_SHARED_RESULTS = 1000
"""Minimum number of cached results, so that concurrent callers share one call even with a cache size of 0."""
FRESH_INTERVAL = 1.0
"""Minimum seconds between two calls for the same key that are made because a caller bypasses the cache."""
NEGATIVE_TTL = 1.0
"""Seconds for which a refused credential, or a failure that concerns one key alone, is cached."""

Reading: TypeAlias = V | Refusal | Failure


class Reader(Protocol[K_contra, V_co]):
    """A function that reads the result of the call for a key."""

    def __call__(self, answer: Answer, key: K_contra, clocks: Clocks) -> V_co | Refusal | Failure:
        """Return the value, a refusal or a failure.

        A ValueError, TypeError, LookupError or RecursionError is taken as a failure that concerns the key alone.
        """
        ...


class _Miss(Enum):
    MISS = 1


MISS = _Miss.MISS
"""Cache miss: a call is needed."""


@dataclass(frozen=True, slots=True)
class CachedAnswer(Generic[V]):
    """The newest result for a key.

    Attributes:
        reading: the value; or a refusal, kept so that the reply to an earlier call cannot replace it.
        asked_at: when the call was made. The reply to an earlier call does not replace this one.
        arrived_at: when the reply arrived.
        fresh_at: when a caller last bypassed the cache.
        until: latest time at which the entry expires (wall clock).
    """

    reading: V | Refusal
    asked_at: Clocks
    arrived_at: Clocks
    fresh_at: Clocks
    until: float


class CachedFailure(NamedTuple):
    """The last failure for a key, and when it arrived."""

    failure: Failure
    arrived_at: Clocks


class Lookup(Generic[K, V]):
    """Replies of Stack Auth, cached by key.

    A request for a key is answered by the first of these that applies: the negative cache of its credential, the
    local cache, a recent failure for the key, the open circuit breaker, or a call that concurrent callers share.

    Args:
        config: all of its lookups share one circuit breaker.
        name: distinguishes the keys of this lookup from those of others, also in log messages.
        url: the address without the key, for log messages.
        read: reads the result of a call.
        ttl: seconds for which a value is cached, from the time of its call; 0 to make a call for each request.
        max_entries: the number of cached values; 0 to disable the cache.
        max_bytes: the total size of the cached values, as `size_of` estimates it.
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
        self._max_age = max(ttl, config.timeout, FRESH_INTERVAL)
        self._kept: LRUCache[K, CachedAnswer[V]] = LRUCache(max_entries or MIN_SHARED_RESULTS, max_bytes)
        self._failed: LRUCache[K, CachedFailure] = LRUCache(max(max_entries, MIN_SHARED_RESULTS))
        self._refused: LRUCache[Hashable, tuple[Refusal, Clocks]] = LRUCache(max(max_entries, MIN_SHARED_RESULTS))

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
        """Return the value of `key`, from the cache or from Stack Auth.

        Args:
            key: callers with an equal key share one call.
            call: makes the call, if one is needed.
            now: both clocks.
            credential: what a refusal applies to, if not to the whole key: one of several tokens of a user.
            until: latest time at which the entry expires (wall clock).
            fresh: whether to bypass the cache. The value is then from a call made after `now`, or one that another
                caller made within the last `FRESH_INTERVAL` for the same purpose.

        Raises:
            RefusedError: Stack Auth refuses the credential.
            AuthServerError: Stack Auth cannot be reached, or rejects our key.
        """
        clocks = now
        subject = key if credential is None else credential
        while True:
            look = partial(self._look, key, subject, now, clocks, fresh=fresh)
            reading: Reading[V] | _Miss = look()
            if reading is MISS and self._api.breaker.record.is_open(clocks):
                reading = self._api.open_failure()
            if reading is MISS:
                script = partial(self._lead, key, subject, call, clocks, until, look=look, fresh=fresh)
                resume = yield Share((self._name, key), script, cancel_grace=CANCEL_GRACE)
                clocks = resume.clocks
                if resume.answer in GAVE_UP:
                    raise AuthServerError(ErrorCode.SERVER_ERROR, 1, f"the {self._name} did not arrive in time")
                reading = resume.answer.result if isinstance(resume.answer, Led) else MISS
            if isinstance(reading, Refusal):
                raise reading.error()
            if isinstance(reading, Failure):
                raise reading.error(self._api.breaker.record.retry_after(clocks))
            if not isinstance(reading, _Miss):
                return reading

    def _look(self, key: K, subject: Hashable, started: Clocks, now: Clocks, *, fresh: bool) -> Reading[V] | _Miss:
        """Return the cached reading that answers a request made at `started`, or `MISS`."""
        refused = self._refused.get(subject)
        if refused is not None and elapsed(refused[1], now) < NEGATIVE_TTL:
            return refused[0]
        cached = self._kept.get(key)
        if cached is not None and not isinstance(cached.reading, Refusal):
            if fresh:
                is_usable = elapsed(cached.asked_at, started) < 0 or elapsed(cached.fresh_at, now) < FRESH_INTERVAL
            else:  # one that arrived while this request waited is usable even with a TTL of 0
                is_usable = elapsed(cached.arrived_at, started) <= 0 or self._is_fresh(cached, now)
            if is_usable:
                return cached.reading
        failed = self._failed.get(key)
        if failed is not None:
            is_negative = failed.failure.key_only and elapsed(failed.arrived_at, now) < NEGATIVE_TTL
            if is_negative or elapsed(failed.arrived_at, started) <= 0:
                return failed.failure
        return MISS

    def _is_fresh(self, cached: CachedAnswer[V], now: Clocks) -> bool:
        return elapsed(cached.asked_at, now) < self._ttl and now.wall < cached.until

    def _lead(
        self,
        key: K,
        subject: Hashable,
        call: Callable[[], Call],
        now: Clocks,
        until: float,
        *,
        look: Callable[[], Reading[V] | _Miss],
        fresh: bool,
    ) -> Script[Reading[V] | _Miss]:
        """Make the call and return its reading, or `MISS` if the cache already holds the reply to a later call.

        The leader checks the cache again first, since another leader may have finished after its last check.
        """
        reading = look()
        if reading is not MISS:
            return reading
        resume = yield from self._api.send(call, now)
        if isinstance(resume, Failure):
            return resume
        try:
            read = self._read(resume.answer, key, resume.clocks)
        except (ValueError, TypeError, LookupError, RecursionError):
            read = Failure(ErrorCode.SERVER_ERROR, "the reply cannot be read", key_only=True)
        failure = read if isinstance(read, Failure) else None
        self._api.report(failure, (self._name, key), now, resume, f"no {self._name} from {self._url}")
        if isinstance(read, Failure):
            self._failed.put(key, CachedFailure(read, resume.clocks))
            return read
        return read if self._store(read, key, subject, now, until, resume, fresh=fresh) else MISS

    def _store(
        self,
        reading: V | Refusal,
        key: K,
        subject: Hashable,
        asked_at: Clocks,
        until: float,
        resume: Resume,
        *,
        fresh: bool,
    ) -> bool:
        """Cache `reading` and return True, or return False if the cache holds the reply to a later call."""
        now = resume.clocks
        is_value = isinstance(resume.answer, Reply) and not isinstance(reading, Refusal)
        size = size_of(resume.answer.body) if is_value and isinstance(resume.answer, Reply) else 0

        def replace(cached: CachedAnswer[V] | None) -> tuple[CachedAnswer[V], int] | None:
            # unless the clock was set back, as after a test that froze it
            if cached is not None and asked_at.mono < cached.asked_at.mono <= now.mono:
                return None
            fresh_at = asked_at if fresh else cached.fresh_at if cached else NEVER
            return CachedAnswer(reading, asked_at, now, fresh_at, until), size

        is_newest = self._kept.swap(key, replace)
        if is_newest and isinstance(reading, Refusal):
            self._refused.put(subject, (reading, now))
        # Older entries are of no use, not even to a request that is still waiting.
        self._kept.evict_while(lambda cached: elapsed(cached.arrived_at, now) > self._max_age)
        return is_newest


def parts_of(body: bytes) -> int:
    """Return the number of commas, lists and objects in JSON, a cheap estimate of its parsing cost."""
    return sum(map(body.count, (b",", b"[", b"{")))


def size_of(body: bytes) -> int:
    """Return the estimated memory in bytes of the values parsed from the JSON in `body`: a few per cent low at most.

    Measured on CPython 3.11: a part takes up to 190 bytes in addition to its text. An escape or non-ASCII character
    can make every character of its string take four bytes.
    """
    width = 1 if body.isascii() and b"\\u" not in body else 4
    return 2048 + width * len(body) + 192 * parts_of(body)
