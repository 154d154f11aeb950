"""What is remembered between requests, and the only locks that guard it.

A lock here is held for a look, a decision and a swap: never over I/O, a signature check or a yield.
A forked child gets fresh locks, since a thread of the parent may have held one of them for ever.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

R = TypeVar("R")
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Atomic(Generic[R]):
    """One immutable record, read without a lock and swapped whole under one."""

    def __init__(self, first: R) -> None:
        self._first = first
        self.record = first
        self.after_fork()
        register(self)

    def swap(self, decide: Callable[[R], tuple[R, T]]) -> T:
        """Replace the record by what `decide` makes of it, and return what else it says."""
        with self._lock:
            self.record, result = decide(self.record)
            return result

    def put(self, record: R) -> None:
        """Replace the record, whatever it was."""
        with self._lock:
            self.record = record

    def reset(self) -> None:
        self.put(self._first)

    def after_fork(self) -> None:
        self._lock = threading.Lock()


class LRUCache(Generic[K, V]):
    """A least-recently-used cache, bounded in entries and, where the caller states sizes, in bytes.

    Args:
        bound: entries that are kept at most; 0 keeps none.
        max_bytes: sum of the sizes of all entries at most. The newest entry is kept whatever its size.
    """

    def __init__(self, bound: int, max_bytes: float = math.inf) -> None:
        self._bound = bound
        self._max_bytes = max_bytes
        self._values: OrderedDict[K, V] = OrderedDict()
        self._sizes: dict[K, int] = {}
        self._bytes = 0
        self.after_fork()
        register(self)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        self.swap(key, lambda _: (value, 0))

    def swap(self, key: K, decide: Callable[[V | None], tuple[V, int] | None]) -> bool:
        """Replace the value of `key` by what `decide` makes of it, in one step, and evict what exceeds the bounds.

        Args:
            key: of the entry.
            decide: takes the value that is kept, or None; returns the new one and its size in bytes, or
                None to leave the entry as it is.

        Returns:
            Whether the entry was replaced.
        """
        if not self._bound:
            return False
        with self._lock:
            new = decide(self._values.get(key))
            if new is None:
                return False
            self._remove(key)
            self._values[key], size = new
            if size:
                self._sizes[key] = size
                self._bytes += size
            while len(self._values) > self._bound or (self._bytes > self._max_bytes and len(self._values) > 1):
                self._remove(next(iter(self._values)))
            return True

    def drop(self, key: K) -> None:
        with self._lock:
            self._remove(key)

    def evict_while(self, is_expired: Callable[[V], bool]) -> None:
        """Evict the least recently used entries, up to the first that has not expired.

        Where each use of an entry is within its time to live, and this is called whenever one is added,
        no entry outlives twice that time.
        """
        with self._lock:
            while self._values:
                key, value = next(iter(self._values.items()))
                if not is_expired(value):
                    return
                self._remove(key)

    def reset(self) -> None:
        with self._lock:
            self._values.clear()
            self._sizes.clear()
            self._bytes = 0

    def _remove(self, key: K) -> None:
        self._values.pop(key, None)
        self._bytes -= self._sizes.pop(key, 0)

    def after_fork(self) -> None:
        self._lock = threading.Lock()


class Resettable(Protocol):
    """Something that outlives a request."""

    def reset(self) -> None:
        """Be as on the first day."""

    def after_fork(self) -> None:
        """Let go, in a forked child, of what belongs to the parent: locks, flights, sockets."""


_living: WeakSet[Resettable] = WeakSet()
_living_lock = threading.Lock()


def register(one: Resettable) -> None:
    """Have `one` told of forks, and of `reset_all`, for as long as it lives."""
    with _living_lock:
        _living.add(one)


def reset_all() -> None:
    """Empty every memory of the process: what one test learnt is no business of the next."""
    with _living_lock:
        living = list(_living)
    for one in living:
        one.reset()


def _after_fork() -> None:
    global _living_lock  # noqa: PLW0603
    _living_lock = threading.Lock()
    for one in list(_living):
        one.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
