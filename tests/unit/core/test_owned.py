"""Objects that belong to a config, and the register of configs."""

from __future__ import annotations

import gc
import os
import runpy
import threading
import time
from typing import Any

import pytest

from stackauth_middleware._core import owned
from stackauth_middleware._core.config import StackAuthConfig, newest_config

from .helpers import PROJECT


def config(**settings: Any) -> StackAuthConfig:
    return StackAuthConfig(**{"project_id": PROJECT, **settings})


def test_owned_object_is_made_once_for_each_config() -> None:
    made: list[StackAuthConfig] = []

    def make(owner: StackAuthConfig) -> object:
        made.append(owner)
        return object()

    one, other = config(), config()
    assert one.get_or_create(make) is one.get_or_create(make)
    assert one.get_or_create(make) is not other.get_or_create(make)
    assert made == [one, other]


def test_concurrent_threads_get_the_same_owned_object() -> None:
    owner, start, found = config(), threading.Barrier(32), []

    def make(_: StackAuthConfig) -> object:
        time.sleep(0.01)  # so that the others come while it is being made
        return object()

    def get() -> None:
        start.wait()
        found.append(owner.get_or_create(make))

    threads = [threading.Thread(target=get) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 32
    assert len(set(found)) == 1


def test_owned_object_may_get_another_while_it_is_made() -> None:
    def inner(_: StackAuthConfig) -> str:
        return "inner"

    def outer(owner: StackAuthConfig) -> str:
        return "outer and " + owner.get_or_create(inner)

    assert config().get_or_create(outer) == "outer and inner"


def test_owned_object_is_made_again_after_an_exception() -> None:
    tries: list[int] = []

    def make(_: StackAuthConfig) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise OSError
        return "made"

    owner = config()
    with pytest.raises(OSError):
        owner.get_or_create(make)
    assert owner.get_or_create(make) == "made"


def test_forked_child_gets_a_new_lock() -> None:
    """A thread of the parent may have held it at the fork."""
    with owned._making:
        owned._renew_lock()
        done: list[str] = []
        thread = threading.Thread(target=lambda: done.append(config().get_or_create(lambda _: "made")))
        thread.start()
        thread.join(5)
    assert done == ["made"]


def test_module_can_be_imported_without_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no `os.register_at_fork`."""
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    module = runpy.run_path(str(owned.__file__))
    assert module["get_or_create"]({}, str, 5) == "5"


def test_newest_config_is_the_last_made_that_still_exists() -> None:
    """The pytest fixture issues tokens for it."""
    one = config()
    other = config()
    assert newest_config() is other
    del other
    gc.collect()
    assert newest_config() is one


def test_newest_config_may_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owned, "_living", {})
    assert newest_config() is None
