"""The order of steps around profiles: what is remembered, who asks, who waits. Part of the flow."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from . import _profiles
from ._config import StackAuthConfig
from ._flow_keys import ask
from ._memory import Cell, Memory
from ._notices import Notice
from ._profiles import Breaker, Failure, Reading, Refusal
from ._user import User, UserProfile
from ._version import __version__
from ._wire import Clocks, Flight, FlightEnd, Script, Tick
from .errors import AuthServerError, ErrorCode, RefusedError


class Heard(NamedTuple):
    """A profile, when it was asked for and heard of (monotonic), and the end of its token (wall)."""

    profile: UserProfile
    asked_at: float
    heard_at: float
    until: float


class ProfileDesk:
    """The profiles of one config: remembered by user id, refusals by token."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._config = config
        self._heard: Memory[str, Heard] = Memory(config.profile_memory)
        self._refused: Memory[bytes, tuple[Refusal, float]] = Memory(config.profile_memory)
        self._failed: Memory[str, tuple[Failure, float]] = Memory(config.profile_memory)
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
            heard = self._heard.get(user.user_id)
            if heard is not None and self._will_do(heard, started, clocks, fresh=fresh):
                return heard.profile
            self._raise_what_is_known(user, digest, started, clocks)
            mine: list[Reading] = []
            tick = yield Flight(("profile", user.user_id), self._asking(user, token, digest, clocks, mine.append))
            if mine:
                return _profile(mine[0], self._breaker.record, tick.clocks.mono)
            if tick.answer is not FlightEnd.LANDED:
                raise AuthServerError(ErrorCode.SERVER_ERROR, 1, "the profile did not come in time")
            clocks = tick.clocks

    def _will_do(self, heard: Heard, started: float, now: Clocks, *, fresh: bool) -> bool:
        if now.wall >= heard.until:
            return False
        if fresh:
            return heard.asked_at >= started
        return heard.heard_at >= started or now.mono - heard.asked_at < self._config.profile_ttl

    def _raise_what_is_known(self, user: User, digest: bytes, started: float, now: Clocks) -> None:
        """Raise the refusal of this very token, the failure that we waited for, or that nobody may ask."""
        refused = self._refused.get(digest)
        if refused is not None and now.mono - refused[1] < _profiles.REFUSED_FOR:
            raise _error(refused[0], self._breaker.record, now.mono)
        failed = self._failed.get(user.user_id)
        if failed is not None and failed[1] >= started:
            raise _error(failed[0], self._breaker.record, now.mono)
        breaker = self._breaker.record
        if breaker.is_open(now.mono):
            raise _error(Failure(breaker.code, "Stack Auth is left alone for a while"), breaker, now.mono)

    def _asking(
        self, user: User, token: str, digest: bytes, now: Clocks, tell: Callable[[Reading], None]
    ) -> Callable[[], Script[None]]:
        """Return the flight's script, which also tells its carrier what it read."""

        def script() -> Script[None]:
            if not self._breaker.swap(lambda breaker: breaker.tried(now.mono)):
                tell(Failure(self._breaker.record.code, "Stack Auth is left alone for a while"))
                return
            tick = yield from ask(_profiles.call(self._config, token, __version__))
            reading = _profiles.read(tick.answer, user.user_id, tick.clocks)
            self._keep(reading, user, digest, now.mono, tick)
            tell(reading)

        return script

    def _keep(self, reading: Reading, user: User, digest: bytes, asked_at: float, tick: Tick) -> None:
        mono = tick.clocks.mono
        if isinstance(reading, Failure):
            notice = self._faults if reading.code is ErrorCode.MISCONFIGURED else self._outages
            notice(mono, f"no profile from {self._config.users_me_url}: {reading.detail}")
            self._failed.put(user.user_id, (reading, mono))
            self._breaker.swap(lambda breaker: (breaker.failed(reading, user.user_id, mono), None))
            return
        self._breaker.put(Breaker())
        if isinstance(reading, Refusal):
            self._refused.put(digest, (reading, mono))
            self._heard.drop(user.user_id)
        else:
            self._heard.put(user.user_id, Heard(reading, asked_at, mono, user.expires_at))


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
