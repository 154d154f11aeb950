"""The circuit breaker: stops calling Stack Auth while it fails."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import NamedTuple

from ..errors import ErrorCode
from .clocks import elapsed
from .records import Clocks
from .upstream import Failure

OPENS_AFTER = 5
"""Number of consecutive failures that open the circuit breaker."""
OPEN_FOR = 10.0
"""Seconds for which an open breaker permits no call; then it permits one, the probe."""


class Breaker(NamedTuple):
    """Circuit breaker: stops calling Stack Auth while it fails. Immutable.

    It is closed at first, open for `pause` seconds from `opened_at` on (on whichever clock advances further), and then
    half-open: the next call is permitted alone, as the probe.

    Attributes:
        failures: the number of consecutive failures; those that concern one key alone count once per key.
        keys: the keys counted in that way.
        opened_at: when the current pause began, or None while the breaker is closed.
        pause: seconds; the length of the current pause.
        probe_at: when the probe was permitted, while it is on its way.
        pause_requested_at: when Stack Auth last requested a pause (monotonic clock), by a Retry-After or by rejecting
            our key.
        code: the error code of requests while the breaker is open.
    """

    failures: int = 0
    keys: frozenset[Hashable] = frozenset()
    opened_at: Clocks | None = None
    pause: float = 0.0
    probe_at: Clocks | None = None
    pause_requested_at: float = -math.inf
    code: ErrorCode = ErrorCode.SERVER_ERROR

    def remaining(self, now: Clocks) -> float:
        """Return the seconds until a call is permitted; 0 or less if one is."""
        return 0.0 if self.opened_at is None else self.pause - elapsed(self.opened_at, now)

    def is_open(self, now: Clocks) -> bool:
        """Return whether calls are not permitted."""
        return self.remaining(now) > 0

    def retry_after(self, now: Clocks) -> int:
        """Return the whole seconds until a call is permitted, at least 1."""
        return max(1, math.ceil(self.remaining(now)))

    def permit(self, now: Clocks) -> tuple[Breaker, bool]:
        """Return the breaker after a request to make a call, and whether the call is permitted."""
        if self.is_open(now):
            return self, False
        if self.opened_at is None:
            return self, True
        return self._replace(opened_at=now, pause=OPEN_FOR, probe_at=now), True  # no other call until the probe ends

    def withdrawn(self, asked_at: Clocks) -> Breaker:
        """Return the breaker after a call without a conclusive result. If it was the probe, permit another."""
        return self._replace(pause=0.0, probe_at=None) if self.probe_at == asked_at else self

    def succeeded(self, asked_at: Clocks) -> Breaker:
        """Return the breaker after a call, made at `asked_at`, that got a usable reply."""
        return self if asked_at.mono < self.pause_requested_at else Breaker()

    def failed(self, failure: Failure, key: Hashable, asked_at: Clocks, now: Clocks) -> Breaker:
        """Return the breaker after a call that failed.

        A pause is never shortened. A probe for a key that was counted before is no new evidence: the next caller may
        make another.

        Args:
            failure: of the call.
            key: that the call was about.
            asked_at: when the call was made.
            now: when it failed.
        """
        if failure.code is ErrorCode.MISCONFIGURED:
            return Breaker(pause_requested_at=now.mono, code=failure.code)._paused(self, OPEN_FOR, now)
        if failure.key_only and key in self.keys:
            return self.withdrawn(asked_at)
        failures = self.failures + 1
        keys = self.keys | {key} if failure.key_only and failures <= OPENS_AFTER else self.keys
        pause_requested_at = now.mono if failure.retry_after else self.pause_requested_at
        pause = max(failure.retry_after or 0.0, OPEN_FOR if failures >= OPENS_AFTER else 0.0)
        return Breaker(failures, keys, pause_requested_at=pause_requested_at)._paused(self, pause, now)

    def _paused(self, before: Breaker, pause: float, now: Clocks) -> Breaker:
        """Return this breaker with a pause of `pause` seconds, or with that of `before` if it ends later."""
        if not pause or before.remaining(now) >= pause:
            return self._replace(opened_at=before.opened_at, pause=before.pause, probe_at=before.probe_at)
        return self._replace(opened_at=now, pause=pause)
