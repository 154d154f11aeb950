"""Context managers that make the local Stack Auth fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .._core import cache
from ._faults import Fault, Faults, Kind, failed, throttled


class FaultInjection:
    """Base class with context managers that inject faults. They nest.

    At the end of each, all caches of the verifiers of this process are reset, so that the failure has no effect
    on what follows. With ``reset=False`` they recover as in production.
    """

    def __init__(self) -> None:
        self._faults = Faults()

    def reset(self) -> None:
        """Reset the caches of all verifiers of this process: keys, tokens, profiles and failures."""
        cache.reset_all()

    @contextmanager
    def down(self, *, cold: bool = False, only: Kind | None = None, reset: bool = True) -> Iterator[None]:
        """Refuse connections. If served over HTTP, respond 502 instead.

        Args:
            cold: reset the caches first, as if the process had just started.
            only: the kind of requests that fail; None for all.
            reset: whether to reset the caches at the end.
        """
        if cold:
            self.reset()
        with self._during(Fault(only=only, down=True), reset=reset):
            yield

    @contextmanager
    def delay(self, seconds: float, *, only: Kind | None = None, reset: bool = True) -> Iterator[None]:
        """Delay responses by `seconds`; delays add up. `only` and `reset` are those of `down`."""
        with self._during(Fault(only=only, seconds=seconds), reset=reset):
            yield

    @contextmanager
    def throttle(
        self, retry_after: float | str | None = None, *, only: Kind | None = None, reset: bool = True
    ) -> Iterator[None]:
        """Respond 429.

        Args:
            retry_after: ``Retry-After``, in seconds or as text; None for no such header.
            only: as for `down`.
            reset: as for `down`.
        """
        value = None if retry_after is None else str(retry_after)
        with self._during(Fault(only=only, response=throttled(value)), reset=reset):
            yield

    @contextmanager
    def fail(self, status: int = 500, *, only: Kind | None = None, reset: bool = True) -> Iterator[None]:
        """Respond with `status`; a 500 has the body of the real server. `only` and `reset` are those of `down`."""
        with self._during(Fault(only=only, response=failed(status)), reset=reset):
            yield

    @contextmanager
    def database_down(self, *, reset: bool = True) -> Iterator[None]:
        """Respond as the server does without its database: 401 to an invalid token, 500 to all else."""
        with self._during(Fault(database_down=True), reset=reset):
            yield

    @contextmanager
    def _during(self, fault: Fault, *, reset: bool) -> Iterator[None]:
        try:
            with self._faults.during(fault):
                yield
        finally:
            if reset:
                self.reset()
