"""Elapsed time on two clocks, either of which can be wrong.

A suspended host (Lambda, a virtual machine) stops the monotonic clock, and the wall clock can be set. A period measured
on one clock could therefore last far too long:

- What limits availability (the interval between fetches, the pause of the circuit breaker, freshness) must end, so it
  ends on whichever clock advanced further.
- What limits trust (the time to live of a profile) must not be extended, so it ends on whichever clock ends it first.

Both are the same rule: measure on the clock that advanced further. A wall clock that is set forward ends a period
early, which costs a call; one that is set back changes nothing, since the monotonic clock goes on.
"""

from __future__ import annotations

import math

from .records import Clocks

NEVER = Clocks(-math.inf, -math.inf)
"""A moment before all others."""


def elapsed(since: Clocks, now: Clocks) -> float:
    """Return the seconds from `since` to `now`, on the clock that advanced further."""
    return max(now.mono - since.mono, now.wall - since.wall)
