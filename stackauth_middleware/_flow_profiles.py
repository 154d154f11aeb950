"""The order of steps around profiles: what is remembered, who asks, who waits. Part of the flow."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from . import _profiles
from ._config import StackAuthConfig
from ._flow_keys import LINGER, ask
from ._memory import Cell, Memory
from ._notices import Notice
from ._profiles import Breaker, Failure, Reading, Refusal
from ._user import User, UserProfile
from ._version import __version__
from ._wire import Clocks, Flight, FlightEnd, NoReply, Reply, Script, Tick
from .errors import AuthServerError, ErrorCode, RefusedError

AT_ONCE = 1000
"""Users of whom the last answer is kept even where `profile_memory` is 0, for those who wait for it together."""
FRESH_INTERVAL = 1.0
"""Seconds between two calls for the same user that are made because a caller wants a fresh profile."""


class Kept(NamedTuple):
    """The newest answer about a user. Times are monotonic, but for the last.

    Attributes:
        profile: None where the answer was a refusal, kept so that no older answer can replace it.
        asked_at: when it was asked for; a later answer that was asked for earlier does not replace it.
        arrived_at: when it came.
        fresh_at: when a fresh one was last asked for.
        until: the end of the token that it was asked with (wall clock).
    """

    profile: UserProfile | None
    asked_at: float
    arrived_at: float
    fresh_at: float
    until: float


class Failed(NamedTuple):
    """The last call for a user that failed; times as in `Kept`."""

    failure: Failure
    arrived_at: float


class ProfileDesk:
    """The profiles of one config: remembered by user id, refusals by token."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._config = config
        self._kept: Memory[str, Kept] = Memory(config.profile_memory or AT_ONCE, config.profile_cache_bytes)
        self._failed: Memory[str, Failed] = Memory(max(config.profile_memory, AT_ONCE))
        self._refused: Memory[bytes, tuple[Refusal, float]] = Memory(max(config.profile_memory, AT_ONCE))
        self._breaker: Cell[Breaker] = Cell(Breaker())
        self._faults = Notice(logging.ERROR)
        self._outages = Notice(logging.WARNING)

    def profile(
        self, user: User, token: str, digest: bytes, now: Clocks, *, fresh: bool = False
    ) -> Script[UserProfile]:
        """Return the profile of `user`, asking users/me where what is remembered will not do.

        Args:
            user: of a token that passed the local check.
            token: that token.
            digest: of that token.
            now: both clocks.
            fresh: whether only what is asked for from now on will do.

        Raises:
            RefusedError: Stack Auth refuses the token.
            AuthServerError: Stack Auth cannot be asked, or refuses our key.
        """
        started, clocks = now.mono, now
        while True:
            look = partial(self._known, user, digest, started, clocks, fresh=fresh)
            known = look() or self._left_alone(clocks)
            if known is not None:
                return _profile(known, self._breaker.record, clocks.mono)
            mine: list[Reading] = []
            script = self._asking(user, token, digest, clocks, look=look, tell=mine.append, fresh=fresh)
            tick = yield Flight(("profile", user.user_id), script, linger=LINGER)
            clocks = tick.clocks
            if mine:
                return _profile(mine[0], self._breaker.record, clocks.mono)
            if tick.answer is not FlightEnd.LANDED:
                raise AuthServerError(ErrorCode.SERVER_ERROR, 1, "the profile did not come in time")

    def _known(self, user: User, digest: bytes, started: float, now: Clocks, *, fresh: bool) -> Reading | None:
        """Return what can be said without asking; None where Stack Auth must be asked."""
        refused = self._refused.get(digest)
        if refused is not None and now.mono - refused[1] < _profiles.REFUSED_FOR:
            return refused[0]
        kept = self._kept.get(user.user_id)
        if kept is not None and kept.profile is not None:
            if fresh:
                serves = kept.asked_at > started or now.mono - kept.fresh_at < FRESH_INTERVAL
            else:
                serves = kept.arrived_at >= started or self._lasts(kept, now)
            if serves:
                return kept.profile
        failed = self._failed.get(user.user_id)
        if failed is not None and _answers(failed, started, now.mono):
            return failed.failure
        return None

    def _left_alone(self, now: Clocks) -> Failure | None:
        breaker = self._breaker.record
        return Failure(breaker.code, "Stack Auth is left alone for a while") if breaker.is_open(now.mono) else None

    def _lasts(self, kept: Kept, now: Clocks) -> bool:
        ttl = self._config.profile_ttl if self._config.profile_memory else 0
        return now.mono - kept.asked_at < ttl and now.wall < kept.until

    def _asking(
        self,
        user: User,
        token: str,
        digest: bytes,
        now: Clocks,
        *,
        look: Callable[[], Reading | None],
        tell: Callable[[Reading], None],
        fresh: bool,
    ) -> Callable[[], Script[None]]:
        """Return the flight's script, which also tells its carrier what it read, or what landed since it looked."""
        call = _profiles.call(self._config, token, __version__)  # shows no token, as a variable of the script would

        def script() -> Script[None]:
            known = look()
            if known is None and not self._breaker.swap(lambda breaker: breaker.tried(now.mono)):
                known = self._left_alone(now)
            if known is not None:
                tell(known)
                return
            try:
                tick = yield from ask(call)
            except GeneratorExit:
                self._breaker.swap(lambda breaker: (breaker.given_up(now.mono), None))
                raise
            reading = _profiles.read(tick.answer, user.user_id, tick.clocks)
            if self._keep(reading, user, digest, now.mono, tick, fresh=fresh):
                tell(reading)  # else what is kept by now was asked for later: the caller looks again

        return script

    def _keep(self, reading: Reading, user: User, digest: bytes, asked_at: float, tick: Tick, *, fresh: bool) -> bool:
        """Keep `reading`. Return whether it is the newest; one that is not changes nothing."""
        mono = tick.clocks.mono
        is_newest = True
        if isinstance(reading, Failure):
            self._failed.put(user.user_id, Failed(reading, mono))
        else:
            profile = reading if isinstance(reading, UserProfile) else None
            size = _profiles.size_of(tick.answer.body) if profile and isinstance(tick.answer, Reply) else 0

            def newer(kept: Kept | None) -> tuple[Kept, int] | None:
                if kept is not None and kept.asked_at > asked_at:
                    return None
                fresh_at = asked_at if fresh else kept.fresh_at if kept else -math.inf
                return Kept(profile, asked_at, mono, fresh_at, user.expires_at), size

            is_newest = self._kept.swap(user.user_id, newer)
            if isinstance(reading, Refusal) and is_newest:
                self._refused.put(digest, (reading, mono))
            self._evict_expired(tick.clocks)
        if isinstance(reading, Failure):
            notice = self._faults if reading.code is ErrorCode.MISCONFIGURED else self._outages
            notice(mono, f"no profile from {self._config.users_me_url}: {reading.detail}")
        if isinstance(tick.answer, NoReply) and tick.answer.inconclusive:
            self._breaker.swap(lambda breaker: (breaker.given_up(asked_at), None))
        elif isinstance(reading, Failure) and not reading.overgrown:
            self._breaker.swap(lambda breaker: (breaker.failed(reading, user.user_id, asked_at, mono), None))
        else:
            self._breaker.swap(lambda breaker: (breaker.succeeded(asked_at), None))
        return is_newest

    def _evict_expired(self, now: Clocks) -> None:
        """Evict what can serve nobody any more: after its time to live, and after all who waited for it gave up."""
        oldest = now.mono - max(self._config.profile_ttl, self._config.timeout, FRESH_INTERVAL)
        self._kept.evict_while(lambda kept: kept.arrived_at < oldest)


def _answers(failed: Failed, started: float, mono: float) -> bool:
    """Return whether a failed call answers a caller who has been asking since `started`."""
    just_now = failed.failure.for_user and mono - failed.arrived_at < _profiles.REFUSED_FOR
    return just_now or failed.arrived_at >= started


def _profile(reading: Reading, breaker: Breaker, mono: float) -> UserProfile:
    if isinstance(reading, UserProfile):
        return reading
    raise _error(reading, breaker, mono)


def _error(reading: Refusal | Failure, breaker: Breaker, mono: float) -> RefusedError | AuthServerError:
    if isinstance(reading, Refusal):
        return RefusedError(reading.code, reading.detail, reading.restricted_reason)
    if reading.code is ErrorCode.MISCONFIGURED:
        return AuthServerError(reading.code, detail=reading.detail)
    return AuthServerError(reading.code, breaker.retry_after(mono), reading.detail)
