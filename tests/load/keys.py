"""Which process can know which signing key, by what was published and by what its answers have shown."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

MIN_FETCH_INTERVAL = 10.0
"""Seconds between two fetches of a key set: for so long a new key may be met by a refusal."""
FRESH = 60.0
"""Seconds for which the served key sets are fresh."""
LATE = 10.0
"""Seconds on top, for a busy machine."""

Holder = tuple[int, str, str]
"""A process, a config and a user type: what has a key set of its own."""


@dataclass
class Keys:
    """The editions of the key sets, and who has been seen to hold which.

    Attributes:
        longest: seconds for which a key was taken at most after it had been withdrawn.
    """

    longest: float = 0.0
    _times: list[float] = field(default_factory=list)
    _editions: list[frozenset[str]] = field(default_factory=list)
    _first: dict[str, int] = field(default_factory=dict)
    _held: dict[Holder, list[tuple[float, int]]] = field(default_factory=dict)

    def publish(self, kids: Mapping[str, int] | frozenset[str], now: float) -> None:
        """Note that from `now` on exactly these keys are published, of every user type together."""
        for kid in kids:
            self._first.setdefault(kid, len(self._editions))
        self._editions.append(frozenset(kids))
        self._times.append(now)

    def published(self, kid: str, now: float) -> bool:
        """Say whether a key is published at that moment."""
        return kid in self._editions[bisect_right(self._times, now) - 1]

    def learnt(self, holder: Holder, kid: str, now: float) -> None:
        """Note that by `now` a holder has had a key, and so an edition no older than its first."""
        shown = self._held.setdefault(holder, [])
        first = self._first[kid]
        if not shown or shown[-1][1] < first:
            shown.append((now, first))
        withdrawn = self._withdrawn(kid)
        if withdrawn is not None:
            self.longest = max(self.longest, now - withdrawn)

    def possible(self, holder: Holder, kid: str, began: float, ended: float, *, excused: bool) -> tuple[bool, bool]:
        """Return whether, at a moment between these, the holder may know the key, and whether it may not.

        Args:
            excused: whether recent fetches failed.
        """
        first = self._first.get(kid)
        if first is None:
            return False, True
        shown = [edition for seen, edition in self._held.get(holder, ()) if seen <= began]
        held = shown[-1] if shown else -1
        withdrawn = self._withdrawn(kid)
        if withdrawn is not None and withdrawn <= ended:
            overdue = began - withdrawn > FRESH + MIN_FETCH_INTERVAL + LATE and not excused
            return not (overdue or self._is_past(kid, held)), True
        new = first > 0 and began - self._times[first] <= MIN_FETCH_INTERVAL + LATE
        return True, held < first and (excused or new)

    def _is_past(self, kid: str, edition: int) -> bool:
        """Say whether `edition` is one from after the key was withdrawn."""
        return edition > self._first[kid] and kid not in self._editions[edition]

    def _withdrawn(self, kid: str) -> float | None:
        """Return when a key was withdrawn, if it was."""
        for time, edition in zip(self._times[self._first[kid] :], self._editions[self._first[kid] :], strict=True):
            if kid not in edition:
                return time
        return None
