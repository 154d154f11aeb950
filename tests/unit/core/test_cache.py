"""Atomic records and LRU caches: bounds, order, locks, forks and resets."""

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


def test_swap_replaces_the_record_and_returns_the_result() -> None:
    atomic = Atomic(1)
    assert atomic.swap(lambda record: (record + 1, f"was {record}")) == "was 1"
    assert atomic.record == 2


def test_swap_that_raises_changes_nothing_and_releases_the_lock() -> None:
    atomic = Atomic(1)
    with pytest.raises(ZeroDivisionError):
        atomic.swap(lambda record: (record // 0, None))
    atomic.put(5)
    assert atomic.record == 5


def test_reset_returns_to_the_initial_record() -> None:
    atomic = Atomic("first")
    atomic.put("second")
    atomic.reset()
    assert atomic.record == "first"


def test_concurrent_swaps_lose_no_update() -> None:
    """Eight threads that each add 500 give 4,000: reading, deciding and replacing are one step."""
    atomic = Atomic(0)
    start = threading.Barrier(8)

    def add() -> None:
        start.wait()
        for _ in range(500):
            atomic.swap(lambda record: (record + 1, None))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert atomic.record == 4000


def test_cache_evicts_the_least_recently_used_entry() -> None:
    lru: LRUCache[str, int] = LRUCache(2)
    lru.put("a", 1)
    lru.put("b", 2)
    assert lru.get("a") == 1
    lru.put("c", 3)
    assert [lru.get(key) for key in "abc"] == [1, None, 3]
    assert len(lru) == 2


def test_put_of_a_cached_key_replaces_it_and_counts_as_use() -> None:
    lru: LRUCache[str, int] = LRUCache(2)
    for key, value in (("a", 1), ("b", 2), ("a", 10), ("c", 3)):
        lru.put(key, value)
    assert [lru.get(key) for key in "abc"] == [10, None, 3]


def test_cache_of_size_zero_is_disabled() -> None:
    """As by ``token_cache_size=0``."""
    lru: LRUCache[str, int] = LRUCache(0)
    lru.put("a", 1)
    assert lru.get("a") is None
    assert len(lru) == 0


def test_drop_removes_an_entry_and_ignores_a_missing_one() -> None:
    lru: LRUCache[str, int] = LRUCache(2)
    lru.put("a", 1)
    lru.drop("a")
    lru.drop("a")
    assert lru.get("a") is None


@bounded
@given(
    max_entries=st.integers(0, 4),
    steps=st.lists(st.tuples(st.sampled_from(["put", "get", "drop"]), st.integers(0, 6)), max_size=60),
)
def test_cache_behaves_like_an_ordered_dict(max_entries: int, steps: list[tuple[str, int]]) -> None:
    lru: LRUCache[int, int] = LRUCache(max_entries)
    model: OrderedDict[int, int] = OrderedDict()
    for at, (step, key) in enumerate(steps):
        if step == "put":
            lru.put(key, at)
            model[key] = at
            model.move_to_end(key)
            while len(model) > max_entries:
                model.popitem(last=False)
        elif step == "get":
            assert lru.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        else:
            lru.drop(key)
            model.pop(key, None)
        assert len(lru) == len(model) <= max_entries


def test_reset_all_resets_every_registered_state() -> None:
    atomic, lru = Atomic("first"), LRUCache[str, int](3)
    atomic.put("second")
    lru.put("a", 1)
    reset_all()
    assert atomic.record == "first"
    assert len(lru) == 0


class Recorder:
    def __init__(self) -> None:
        self.events: list[str] = []
        register(self)

    def reset(self) -> None:
        self.events.append("reset")

    def after_fork(self) -> None:
        self.events.append("fork")


def test_registration_does_not_keep_state_alive() -> None:
    """A config that is no longer used is collected together with its caches."""
    alive = Recorder()
    gc.collect()
    before = len(cache._registered)
    gone = Recorder()
    assert len(cache._registered) == before + 1
    del gone
    gc.collect()
    reset_all()
    assert alive.events == ["reset"]
    assert len(cache._registered) == before


def test_fork_replaces_locks_and_keeps_entries() -> None:
    """A lock that a thread of the parent holds at the fork would never be released in the child."""
    atomic, lru, recorder = Atomic(1), LRUCache[str, int](3), Recorder()
    lru.put("a", 1)
    with atomic._lock, lru._lock, cache._registered_lock:
        cache._after_fork()
        assert atomic.swap(lambda record: (record + 1, record)) == 1
        assert lru.get("a") == 1
        register(recorder)
    assert recorder.events == ["fork"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_can_use_caches_whose_locks_were_held() -> None:
    """Python 3.12 and later warn about a fork while threads run, which is the subject here."""
    atomic, lru = Atomic(1), LRUCache[str, int](3)
    with atomic._lock, lru._lock:
        pid = os.fork()
        if pid == 0:
            lru.put("a", 1)
            os._exit(atomic.swap(lambda record: (record, 40 + record)) + (lru.get("a") or 0))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 42


def test_module_can_be_imported_without_fork_support(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no `os.register_at_fork`."""
    import importlib.util

    monkeypatch.delattr(os, "register_at_fork", raising=False)
    assert cache.__spec__ is not None
    spec = importlib.util.spec_from_file_location("stackauth_middleware._cache_copy", cache.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.Atomic(3).record == 3


def test_cache_evicts_by_bytes_and_keeps_the_newest_entry() -> None:
    lru: LRUCache[str, int] = LRUCache(10, max_bytes=100)
    for key, size in (("a", 40), ("b", 40), ("a", 50), ("c", 20), ("d", 30)):
        lru.swap(key, lambda _, size=size: (size, size))
    assert [lru.get(key) for key in "abcd"] == [50, None, 20, 30]
    lru.drop("a")
    lru.swap("e", lambda _: (50, 50))
    assert [lru.get(key) for key in "acde"] == [None, 20, 30, 50]
    lru.drop("missing")
    lru.put("of no size", 0)
    assert len(lru) == 4, "an entry of size 0 fits a full cache"
    lru.swap("of one byte", lambda _: (1, 1))
    assert lru.get("c") is None, "101 bytes do not fit"
    lru.swap("f", lambda _: (1000, 1000))
    assert len(lru) == 1
    lru.reset()
    lru.swap("g", lambda _: (100, 100))
    lru.swap("h", lambda _: (0, 0))
    assert len(lru) == 2


def test_cache_swap_decides_on_the_cached_value() -> None:
    lru: LRUCache[str, int] = LRUCache(2)
    assert lru.swap("a", lambda old: (1, 0) if old is None else None)
    assert not lru.swap("a", lambda old: (2, 0) if old is None else None)
    assert lru.get("a") == 1
    assert not LRUCache[str, int](0).swap("a", lambda _: (1, 0))


def test_cache_evicts_expired_entries_from_the_least_recently_used_on() -> None:
    lru: LRUCache[str, int] = LRUCache(4)
    for at, key in enumerate("abcd"):
        lru.put(key, at)
    lru.get("a")
    lru.evict_while(lambda value: value < 3)
    assert [lru.get(key) for key in "abcd"] == [0, None, None, 3]
    lru.evict_while(lambda value: True)
    assert len(lru) == 0
