"""The order of steps around profiles: what is remembered, who asks, who waits. Part of the flow."""

from __future__ import annotations

import logging
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
from ._wire import Clocks, Flight, FlightEnd, NoReply, Script, Tick
from .errors import AuthServerError, ErrorCode, RefusedError

AT_ONCE = 1000
"""Users of whom the last answer is kept, whatever `profile_memory` says, for those who wait for it together."""


class Heard(NamedTuple):
    """A profile, when it was asked for (monotonic), and the end of its token (wall)."""

    profile: UserProfile
    asked_at: float
    until: float


class Landed(NamedTuple):
    """What the last call for a user came to, when it was asked for and when it was back (monotonic)."""

    reading: UserProfile | Failure
    asked_at: float
    landed_at: float


class ProfileDesk:
    """The profiles of one config: remembered by user id, refusals by token."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._config = config
        self._heard: Memory[str, Heard] = Memory(config.profile_memory)
        self._landed: Memory[str, Landed] = Memory(max(config.profile_memory, AT_ONCE))
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
            script = self._asking(user, token, digest, clocks, look=look, tell=mine.append)
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
        heard = self._heard.get(user.user_id)
        if heard is not None and not fresh and self._lasts(heard, now):
            return heard.profile
        landed = self._landed.get(user.user_id)
        if landed is not None and _answers(landed, started, now.mono, fresh=fresh):
            return landed.reading
        return None

    def _left_alone(self, now: Clocks) -> Failure | None:
        breaker = self._breaker.record
        return Failure(breaker.code, "Stack Auth is left alone for a while") if breaker.is_open(now.mono) else None

    def _lasts(self, heard: Heard, now: Clocks) -> bool:
        return now.mono - heard.asked_at < self._config.profile_ttl and now.wall < heard.until

    def _asking(
        self,
        user: User,
        token: str,
        digest: bytes,
        now: Clocks,
        *,
        look: Callable[[], Reading | None],
        tell: Callable[[Reading], None],
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
            self._keep(reading, user, digest, now.mono, tick)
            tell(reading)

        return script

    def _keep(self, reading: Reading, user: User, digest: bytes, asked_at: float, tick: Tick) -> None:
        mono = tick.clocks.mono
        if isinstance(reading, Refusal):
            self._refused.put(digest, (reading, mono))
            self._heard.drop(user.user_id)
        else:
            self._landed.put(user.user_id, Landed(reading, asked_at, mono))
        if isinstance(reading, UserProfile):
            self._heard.put(user.user_id, Heard(reading, asked_at, user.expires_at))
        if isinstance(reading, Failure):
            notice = self._faults if reading.code is ErrorCode.MISCONFIGURED else self._outages
            notice(mono, f"no profile from {self._config.users_me_url}: {reading.detail}")
        if isinstance(tick.answer, NoReply) and tick.answer.inconclusive:
            self._breaker.swap(lambda breaker: (breaker.given_up(asked_at), None))
        elif isinstance(reading, Failure) and not reading.overgrown:
            self._breaker.swap(lambda breaker: (breaker.failed(reading, user.user_id, asked_at, mono), None))
        else:
            self._breaker.swap(lambda breaker: (breaker.succeeded(asked_at), None))


def _answers(landed: Landed, started: float, mono: float, *, fresh: bool) -> bool:
    """Say whether what landed answers one who asks since `started`."""
    if isinstance(landed.reading, Failure):
        just_now = landed.reading.for_user and mono - landed.landed_at < _profiles.REFUSED_FOR
        return just_now or landed.landed_at >= started
    return landed.asked_at > started if fresh else landed.landed_at >= started


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
