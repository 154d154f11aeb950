"""What is remembered between requests, and the only locks that guard it.

A lock here is held for a look, a decision and a swap: never over I/O, a signature check or a yield.
A forked child gets fresh locks, since a thread of the parent may have held one of them for ever.
"""

from __future__ import annotations

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


class Cell(Generic[R]):
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

    def forget(self) -> None:
        self.put(self._first)

    def after_fork(self) -> None:
        self._lock = threading.Lock()


class Memory(Generic[K, V]):
    """At most `bound` values, the least recently used thrown out first. A bound of 0 remembers nothing."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._values: OrderedDict[K, V] = OrderedDict()
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
        if not self._bound:
            return
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._bound:
                self._values.popitem(last=False)

    def drop(self, key: K) -> None:
        with self._lock:
            self._values.pop(key, None)

    def forget(self) -> None:
        with self._lock:
            self._values.clear()

    def after_fork(self) -> None:
        self._lock = threading.Lock()


class Living(Protocol):
    """Something that outlives a request."""

    def forget(self) -> None:
        """Be as on the first day."""

    def after_fork(self) -> None:
        """Let go, in a forked child, of what belongs to the parent: locks, flights, sockets."""


_living: WeakSet[Living] = WeakSet()
_living_lock = threading.Lock()


def register(one: Living) -> None:
    """Have `one` told of forks, and of `forget_all`, for as long as it lives."""
    with _living_lock:
        _living.add(one)


def forget_all() -> None:
    """Empty every memory of the process: what one test learnt is no business of the next."""
    with _living_lock:
        living = list(_living)
    for one in living:
        one.forget()


def _after_fork() -> None:
    global _living_lock  # noqa: PLW0603
    _living_lock = threading.Lock()
    for one in list(_living):
        one.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
