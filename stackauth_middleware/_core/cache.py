"""State that outlives a request: atomic records, LRU caches, and their locks.

A lock is held only while a record is read, a decision made and the record replaced; never during I/O, a signature
check or a yield. A forked child gets new locks, since another thread of the parent may have held one of them.
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


class Resettable(Protocol):
    """State that outlives a request. Once registered, it is reset by `reset_all` and renewed in a forked child."""

    def reset(self) -> None:
        """Return to the initial, empty state."""

    def after_fork(self) -> None:
        """Replace what belongs to the parent process (locks, fetches in flight, sockets), in a forked child."""


class Atomic(Generic[R]):
    """One immutable record, read without a lock and replaced under one.

    Args:
        initial: the first record, to which `reset` returns.

    Attributes:
        record: the current record.
    """

    def __init__(self, initial: R) -> None:
        self._initial = initial
        self.record = initial
        self.after_fork()
        register(self)

    def swap(self, decide: Callable[[R], tuple[R, T]]) -> T:
        """Replace the record in one step.

        Args:
            decide: takes the current record; returns the new one and the result of this call.

        Returns:
            The second value that `decide` returned.
        """
        with self._lock:
            self.record, result = decide(self.record)
            return result

    def put(self, record: R) -> None:
        """Replace the record unconditionally."""
        with self._lock:
            self.record = record

    def reset(self) -> None:
        """Return to the initial record."""
        self.put(self._initial)

    def after_fork(self) -> None:
        """Replace the lock, which a thread of the parent process may hold."""
        self._lock = threading.Lock()


class LRUCache(Generic[K, V]):
    """A least-recently-used cache, bounded in entries and, where the caller states sizes, in bytes.

    Args:
        max_entries: maximum number of entries; 0 disables the cache.
        max_bytes: maximum sum of the sizes of all entries. The newest entry is kept regardless of its size.
    """

    def __init__(self, max_entries: int, max_bytes: float = math.inf) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._values: OrderedDict[K, V] = OrderedDict()
        self._sizes: dict[K, int] = {}
        self._bytes = 0
        self.after_fork()
        register(self)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return the value of `key`, or None, and mark the entry as used."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        """Add or replace an entry of size 0."""
        self.swap(key, lambda _: (value, 0))

    def swap(self, key: K, decide: Callable[[V | None], tuple[V, int] | None]) -> bool:
        """Replace the value of `key` in one step, and evict entries that exceed the bounds.

        Args:
            key: of the entry.
            decide: takes the cached value, or None; returns the new value and its size in bytes, or None to leave
                the entry unchanged.

        Returns:
            Whether the entry was replaced.
        """
        if not self._max_entries:
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
            while len(self._values) > self._max_entries or (self._bytes > self._max_bytes and len(self._values) > 1):
                self._remove(next(iter(self._values)))
            return True

    def drop(self, key: K) -> None:
        """Remove the entry of `key`, if there is one."""
        with self._lock:
            self._remove(key)

    def evict_while(self, is_expired: Callable[[V], bool]) -> None:
        """Evict entries from the least recently used on, up to the first that has not expired.

        If every entry is used only within its time to live, and this is called whenever one is added, no entry
        stays longer than twice that time.
        """
        with self._lock:
            while self._values:
                key, value = next(iter(self._values.items()))
                if not is_expired(value):
                    return
                self._remove(key)

    def reset(self) -> None:
        """Remove all entries."""
        with self._lock:
            self._values.clear()
            self._sizes.clear()
            self._bytes = 0

    def after_fork(self) -> None:
        """Replace the lock, which a thread of the parent process may hold."""
        self._lock = threading.Lock()

    def _remove(self, key: K) -> None:
        self._values.pop(key, None)
        self._bytes -= self._sizes.pop(key, 0)


_registered: WeakSet[Resettable] = WeakSet()
_registered_lock = threading.Lock()


def register(state: Resettable) -> None:
    """Let `reset_all` reset `state` and forked children renew it, without keeping it alive."""
    with _registered_lock:
        _registered.add(state)


def reset_all() -> None:
    """Reset every registered state of this process, so that tests do not affect each other."""
    with _registered_lock:
        states = list(_registered)
    for state in states:
        state.reset()


def _after_fork() -> None:
    global _registered_lock  # noqa: PLW0603
    _registered_lock = threading.Lock()
    for state in list(_registered):
        state.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
