"""What is remembered between requests: bounds, order, locks, forks, and being forgotten."""

from __future__ import annotations

import gc
import os
import threading
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core import cache
from stackauth_middleware._core.cache import Atomic, LRUCache, register, reset_all

from .helpers import bounded


def test_a_cell_is_swapped_by_a_decision_on_what_it_holds() -> None:
    cell = Atomic(1)
    assert cell.swap(lambda held: (held + 1, f"was {held}")) == "was 1"
    assert cell.record == 2


def test_a_decision_that_raises_changes_nothing_and_lets_go_of_the_lock() -> None:
    cell = Atomic(1)
    with pytest.raises(ZeroDivisionError):
        cell.swap(lambda held: (held // 0, None))
    cell.put(5)
    assert cell.record == 5


def test_a_cell_forgets_back_to_its_first_record() -> None:
    cell = Atomic("first")
    cell.put("second")
    cell.reset()
    assert cell.record == "first"


def test_a_swap_loses_no_update_of_another_thread() -> None:
    """Eight threads that each add 500 must come to 4,000: look, decide and swap are one step."""
    cell = Atomic(0)
    start = threading.Barrier(8)

    def add() -> None:
        start.wait()
        for _ in range(500):
            cell.swap(lambda held: (held + 1, None))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cell.record == 4000


def test_a_memory_throws_out_what_was_used_longest_ago() -> None:
    memory: LRUCache[str, int] = LRUCache(2)
    memory.put("a", 1)
    memory.put("b", 2)
    assert memory.get("a") == 1
    memory.put("c", 3)
    assert [memory.get(key) for key in "abc"] == [1, None, 3]
    assert len(memory) == 2


def test_putting_again_counts_as_use_and_replaces() -> None:
    memory: LRUCache[str, int] = LRUCache(2)
    for key, value in (("a", 1), ("b", 2), ("a", 10), ("c", 3)):
        memory.put(key, value)
    assert [memory.get(key) for key in "abc"] == [10, None, 3]


def test_a_memory_of_none_remembers_nothing() -> None:
    """A bound of 0 is how a setting switches a memory off."""
    memory: LRUCache[str, int] = LRUCache(0)
    memory.put("a", 1)
    assert memory.get("a") is None
    assert len(memory) == 0


def test_what_is_dropped_is_gone_and_dropping_twice_is_no_fault() -> None:
    memory: LRUCache[str, int] = LRUCache(2)
    memory.put("a", 1)
    memory.drop("a")
    memory.drop("a")
    assert memory.get("a") is None


@bounded
@given(
    bound=st.integers(0, 4),
    steps=st.lists(st.tuples(st.sampled_from(["put", "get", "drop"]), st.integers(0, 6)), max_size=60),
)
def test_a_memory_does_as_a_plain_model_does(bound: int, steps: list[tuple[str, int]]) -> None:
    memory: LRUCache[int, int] = LRUCache(bound)
    model: OrderedDict[int, int] = OrderedDict()
    for at, (step, key) in enumerate(steps):
        if step == "put":
            memory.put(key, at)
            model[key] = at
            model.move_to_end(key)
            while len(model) > bound:
                model.popitem(last=False)
        elif step == "get":
            assert memory.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        else:
            memory.drop(key)
            model.pop(key, None)
        assert len(memory) == len(model) <= bound


def test_everything_alive_is_forgotten_at_once() -> None:
    cell, memory = Atomic("first"), LRUCache[str, int](3)
    cell.put("second")
    memory.put("a", 1)
    reset_all()
    assert cell.record == "first"
    assert len(memory) == 0


class Told:
    def __init__(self) -> None:
        self.told: list[str] = []
        register(self)

    def reset(self) -> None:
        self.told.append("reset")

    def after_fork(self) -> None:
        self.told.append("fork")


def test_what_registers_is_told_for_as_long_as_it_lives_and_kept_alive_by_nothing() -> None:
    """A config that is let go must take its memories along."""
    alive = Told()
    before = len(cache._registered)
    gone = Told()
    assert len(cache._registered) == before + 1
    del gone
    gc.collect()
    reset_all()
    assert alive.told == ["reset"]
    assert len(cache._registered) == before


def test_a_fork_renews_the_locks_and_keeps_what_is_remembered() -> None:
    """A thread of the parent may hold a lock at the fork: in the child it is held for ever."""
    cell, memory, told = Atomic(1), LRUCache[str, int](3), Told()
    memory.put("a", 1)
    with cell._lock, memory._lock, cache._registered_lock:
        cache._after_fork()
        assert cell.swap(lambda held: (held + 1, held)) == 1
        assert memory.get("a") == 1
        register(told)
    assert told.told == ["fork"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_real_child_can_use_what_a_thread_of_the_parent_held_locked() -> None:
    """The warning of 3.12 and later is about exactly what is tried here: a fork while threads are about."""
    cell, memory = Atomic(1), LRUCache[str, int](3)
    with cell._lock, memory._lock:
        pid = os.fork()
        if pid == 0:
            memory.put("a", 1)
            os._exit(cell.swap(lambda held: (held, 40 + held)) + (memory.get("a") or 0))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 42


def test_a_system_without_fork_can_import_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no `os.register_at_fork`."""
    import importlib.util

    monkeypatch.delattr(os, "register_at_fork", raising=False)
    assert cache.__spec__ is not None
    spec = importlib.util.spec_from_file_location("stackauth_middleware._memory_elsewhere", cache.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.Atomic(3).record == 3


def test_cache_evicts_by_bytes_and_keeps_the_newest_entry() -> None:
    memory: LRUCache[str, int] = LRUCache(10, max_bytes=100)
    for key, size in (("a", 40), ("b", 40), ("a", 50), ("c", 20), ("d", 30)):
        memory.swap(key, lambda _, size=size: (size, size))  # type: ignore[misc]
    assert [memory.get(key) for key in "abcd"] == [50, None, 20, 30]
    memory.drop("a")
    memory.swap("e", lambda _: (50, 50))
    assert [memory.get(key) for key in "acde"] == [None, 20, 30, 50]
    memory.swap("f", lambda _: (1000, 1000))
    assert len(memory) == 1
    memory.reset()
    memory.swap("g", lambda _: (100, 100))
    memory.swap("h", lambda _: (0, 0))
    assert len(memory) == 2


def test_cache_swap_decides_on_what_is_kept() -> None:
    memory: LRUCache[str, int] = LRUCache(2)
    assert memory.swap("a", lambda old: (1, 0) if old is None else None)
    assert not memory.swap("a", lambda old: (2, 0) if old is None else None)
    assert memory.get("a") == 1
    assert not LRUCache[str, int](0).swap("a", lambda _: (1, 0))


def test_cache_evicts_expired_entries_from_the_least_recently_used_on() -> None:
    memory: LRUCache[str, int] = LRUCache(4)
    for at, key in enumerate("abcd"):
        memory.put(key, at)
    memory.get("a")
    memory.evict_while(lambda value: value < 3)
    assert [memory.get(key) for key in "abcd"] == [0, None, None, 3]
    memory.evict_while(lambda value: True)
    assert len(memory) == 0
