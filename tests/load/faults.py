"""Faults of Stack Auth during the run, each reported to the model."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from .model import MIN_FETCH_INTERVAL, MISCONFIGURED, SLACK, TIMEOUT, UNAVAILABLE, Window
from .settings import PROJECT
from .traffic import Traffic
from .upstream import Upstream

_BOTH = frozenset({"jwks", "users/me"})
_KEYS, _PROFILES = frozenset({"jwks"}), frozenset({"users/me"})


@dataclass(frozen=True)
class Fault:
    """Something that is wrong for a while.

    Attributes:
        kinds: the calls that fail; none where Stack Auth is only slow or short of breath.
        late: whether a call that began during it may fail up to a time budget later.
        whole: whether no call can succeed.
    """

    context: Callable[[Upstream], AbstractContextManager[object]]
    kinds: frozenset[str] = _BOTH
    outcomes: frozenset[str] = frozenset({UNAVAILABLE})
    late: bool = False
    whole: bool = True


@contextmanager
def _refusing(upstream: Upstream) -> Iterator[None]:
    upstream.refuse()
    yield


FAULTS: Mapping[str, Fault] = {
    "502": Fault(lambda up: up.local.down(reset=False)),
    "refused": Fault(_refusing),
    "reset": Fault(lambda up: up.meddling("reset")),
    "500": Fault(lambda up: up.local.fail(500, reset=False)),
    "throttled": Fault(lambda up: up.local.throttle(3, reset=False)),
    "late": Fault(lambda up: up.local.delay(TIMEOUT + 1, reset=False), late=True),
    "hang": Fault(lambda up: up.meddling("hang"), late=True),
    "drip": Fault(lambda up: up.meddling("drip"), late=True),
    "truncated": Fault(lambda up: up.meddling("truncated")),
    "garbage": Fault(lambda up: up.meddling("garbage")),
    "no keys": Fault(lambda up: up.meddling("empty")),
    "database": Fault(lambda up: up.local.database_down(reset=False)),
    "keys down": Fault(lambda up: up.local.down(only="jwks", reset=False), _KEYS),
    "keys 404": Fault(lambda up: up.local.fail(404, only="jwks", reset=False), _KEYS, frozenset({MISCONFIGURED})),
    "profiles down": Fault(lambda up: up.local.down(only="users/me", reset=False), _PROFILES),
    "profiles 503": Fault(lambda up: up.local.fail(503, only="users/me", reset=False), _PROFILES),
    "slow": Fault(lambda up: up.local.delay(0.15, reset=False), frozenset()),
    "closing": Fault(lambda up: up.meddling("closing"), frozenset()),
}
"""The last two excuse nothing: every request must be answered as if nothing were wrong."""

SUDDEN = ("drop", "soft rotation", "hard rotation", "restrict", "unrestrict", "delete", "recreate", "rename")
"""What happens from one moment to the next. Idle connections that are reset excuse nothing either."""


@dataclass(frozen=True)
class Pace:
    """Seconds: how long a fault lasts (from, to), the quiet after it, between sudden events, between rotations."""

    fault: tuple[float, float] = (5.0, 13.0)
    quiet: float = 24.0
    sudden: float = 1.5
    rotation: float = 31.0


class Faults:
    """Breaks Stack Auth, one fault at a time and each kind in turn, and keeps changing keys and users."""

    def __init__(self, upstream: Upstream, traffic: Traffic, windows: list[Window], pace: Pace, seed: int) -> None:
        self._upstream = upstream
        self._traffic = traffic
        self._windows = windows
        self._pace = pace
        self._draw = random.Random(seed)
        self.injected: Counter[str] = Counter()
        self.now: str | None = None

    async def run(self, until: float) -> None:
        """Inject faults until a moment of the wall clock, and leave nothing broken behind."""
        sudden = asyncio.create_task(self._changing())
        try:
            left: list[str] = []
            while True:
                left = left or self._draw.sample(list(FAULTS), len(FAULTS))
                seconds = self._draw.uniform(*self._pace.fault)
                if time.time() + seconds > until:
                    break
                await self._inject(left.pop(), seconds)
                await asyncio.sleep(self._pace.quiet * self._draw.uniform(0.8, 1.2))
            await asyncio.sleep(max(0.0, until - time.time()))
        finally:
            sudden.cancel()
            await asyncio.gather(sudden, return_exceptions=True)

    async def _inject(self, name: str, seconds: float) -> None:
        fault = FAULTS[name]
        self.injected[name] += 1
        settle = MIN_FETCH_INTERVAL + SLACK + (TIMEOUT if fault.late else 0)
        window = Window(time.time(), fault.kinds, fault.outcomes, settle, fault.whole)
        self._windows.append(window)
        self.now = name
        try:
            with fault.context(self._upstream):
                await asyncio.sleep(seconds)
                window.ended = time.time()
        finally:
            window.ended = time.time()
            self.now = None
            if name == "refused":
                await self._upstream.listen()

    async def _changing(self) -> None:
        rotated = 0.0
        while True:
            await asyncio.sleep(self._pace.sudden * self._draw.uniform(0.5, 1.5))
            name = self._draw.choice(SUDDEN)
            if "rotation" in name:
                if time.time() - rotated < self._pace.rotation:
                    continue
                rotated = time.time()
            self._sudden(name)

    def _sudden(self, name: str) -> None:
        self.injected[name] += 1
        if name == "drop":
            self._upstream.drop()
        elif "rotation" in name:
            now = time.time()
            self._upstream.local.rotate(PROJECT, keep_old=name.startswith("soft"), reset=False)
            self._traffic.publish()
            self._traffic.rotated()
            # Two documents of which one is from before and one from after do not fit each other.
            self._windows.append(Window(now, frozenset({"jwks pair"}), whole=False, ended=time.time()))
        else:
            self._traffic.change(name)
