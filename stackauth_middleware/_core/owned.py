"""What belongs to a config: caches and connection pools that are made once, and the register of configs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")
C = TypeVar("C")

_making = threading.RLock()
_living: WeakValueDictionary[int, Any] = WeakValueDictionary()
_sequence = count()


def get_or_create(owned: dict[object, object], make: Callable[[C], T], owner: C) -> T:
    """Return `make(owner)`, which is called once for each dict and function.

    Args:
        owned: what belongs to `owner`, by the function that made it.
        make: the function.
        owner: its argument.
    """
    with _making:
        if make not in owned:
            owned[make] = make(owner)
        found: Any = owned[make]
    return found  # type: ignore[no-any-return]


def register(config: object) -> None:
    """Make `config` the newest, for as long as it exists."""
    _living[next(_sequence)] = config


def newest() -> Any:
    """Return the config that was registered last of those that still exist, or None.

    The register is here and not in `testing`, since an app may make its config before a test imports that.
    """
    return max(_living.items(), default=(0, None), key=lambda entry: entry[0])[1]


def _renew_lock() -> None:
    """Replace the lock in a forked child: a thread of the parent may have held it."""
    global _making  # noqa: PLW0603
    _making = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
