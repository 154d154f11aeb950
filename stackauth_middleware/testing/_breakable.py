"""Every way in which the local Stack Auth can be made to fail, as context managers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .._core import cache
from ._faults import Fault, Faults, Kind, failed, throttled


class Breakable:
    """Something that breaks down on request. Its faults nest.

    On the way out of each the verifiers of this process forget the failure, with all else that they
    hold, unless ``forget=False`` leaves them to find out as they would in production.
    """

    def __init__(self) -> None:
        self._faults = Faults()

    def reset(self) -> None:
        """Have the verifiers of this process forget keys, tokens, profiles and failures."""
        cache.reset_all()

    @contextmanager
    def down(self, *, cold: bool = False, only: Kind | None = None, reset: bool = True) -> Iterator[None]:
        """Refuse connections for the length of the context. Served over HTTP, answer 502.

        Args:
            cold: have verifiers forget their keys first, as if they had just started.
            only: the kind of requests that suffer.
            forget: have verifiers forget the failure on the way out.
        """
        if cold:
            self.reset()
        with self._during(Fault(only=only, down=True), reset=reset):
            yield

    @contextmanager
    def delay(self, seconds: float, *, only: Kind | None = None, reset: bool = True) -> Iterator[None]:
        """Answer later by `seconds`; delays add up. `only` and `forget` as for `down`."""
        with self._during(Fault(only=only, seconds=seconds), reset=reset):
            yield

    @contextmanager
    def throttle(
        self, retry_after: float | str | None = None, *, only: Kind | None = None, reset: bool = True
    ) -> Iterator[None]:
        """Answer 429.

        Args:
            retry_after: seconds, or the very text, of ``Retry-After``; None for no such header.
            only: as for `down`.
            forget: as for `down`.
        """
        told = None if retry_after is None else str(retry_after)
        with self._during(Fault(only=only, answer=throttled(told)), reset=reset):
            yield

    @contextmanager
    def fail(self, status: int = 500, *, only: Kind | None = None, reset: bool = True) -> Iterator[None]:
        """Answer `status` to everything, a 500 in the server's own words. `only` and `forget` as for `down`."""
        with self._during(Fault(only=only, answer=failed(status)), reset=reset):
            yield

    @contextmanager
    def database_down(self, *, reset: bool = True) -> Iterator[None]:
        """Answer as the server does without its database: a bad token gets its 401, all else a 500."""
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
