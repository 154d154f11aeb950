"""How things are timed: in interleaved rounds, so that whatever slows the machine slows all alike."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

US = 1e6
MS = 1e3


class Pace(NamedTuple):
    """How long to go on: how many rounds, and how many seconds each contender has of a round."""

    quick: bool
    rounds: int
    budget: float

    @classmethod
    def of(cls, *, quick: bool) -> Pace:
        return cls(quick=True, rounds=9, budget=0.004) if quick else cls(quick=False, rounds=41, budget=0.010)


class Contender(NamedTuple):
    """Something to be timed.

    Attributes:
        name: as the table has it.
        run: does it so many times and returns the seconds that took.
        ours: whether it is this package.
    """

    name: str
    run: Callable[[int], float]
    ours: bool = False


@dataclass
class Figure:
    """What one contender needed in one case: a sample from each round.

    Attributes:
        case: what was done.
        name: who did it.
        unit: of the samples.
        samples: one for each round, in order.
        ours: whether it is this package.
    """

    case: str
    name: str
    unit: str
    samples: Sequence[float] = field(repr=False)
    ours: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The first and the third quartile."""
        if len(self.samples) < 2:
            return self.median, self.median
        first, _, third = statistics.quantiles(self.samples, n=4, method="inclusive")
        return first, third


class Goal(NamedTuple):
    """What was hoped for.

    Attributes:
        text: the goal.
        measured: what was found, as text.
        held: whether that is as good.
    """

    text: str
    measured: str
    held: bool


@dataclass
class Benchmark:
    """One benchmark: its figures, its goals, and what a reader should know."""

    key: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def figure(self, case: str, name: str) -> Figure:
        return next(each for each in self.figures if (each.case, each.name) == (case, name))

    def at_most(self, text: str, value: float, limit: float, unit: str) -> None:
        self.goals.append(Goal(text, f"{value:.3g} {unit}".strip(), value <= limit))

    def at_least(self, text: str, value: float, limit: float, unit: str) -> None:
        self.goals.append(Goal(text, f"{value:.3g} {unit}".strip(), value >= limit))


def over(arguments: Iterable[Any], call: Callable[[Any], object]) -> Callable[[int], float]:
    """Return a run that hands `call` the arguments one after the other, and again from the first."""
    supply = itertools.cycle(arguments)

    def run(loops: int) -> float:
        batch = list(itertools.islice(supply, loops))
        start = time.thread_time()
        for each in batch:
            call(each)
        return time.thread_time() - start

    return run


def interleaved(case: str, contenders: Sequence[Contender], pace: Pace, unit: str = "us") -> list[Figure]:
    """Time the contenders, round by round: A B C, then B C A, and so on. Collected rubbish is part of the price."""
    scale = {"us": US, "ms": MS}[unit]
    loops = [_loops(each.run, pace.budget) for each in contenders]
    samples: list[list[float]] = [[] for _ in contenders]
    gc.collect()
    gc.freeze()  # the harness's own objects are not garbage
    try:
        for number in range(pace.rounds):
            for at in _rotated(len(contenders), number):
                samples[at].append(contenders[at].run(loops[at]) / loops[at] * scale)
    finally:
        gc.unfreeze()
    return [Figure(case, c.name, unit, taken, c.ours) for c, taken in zip(contenders, samples, strict=True)]


def ratio(above: Figure, below: Figure) -> float:
    """Return how many times as much `above` is: the median over rounds, each held against itself."""
    return statistics.median(a / b for a, b in zip(above.samples, below.samples, strict=True))


def excess(above: Figure, below: Figure) -> float:
    """Return by how much `above` is more: the median over rounds."""
    return statistics.median(a - b for a, b in zip(above.samples, below.samples, strict=True))


def _rotated(count: int, by: int) -> list[int]:
    return [(at + by) % count for at in range(count)]


def _loops(run: Callable[[int], float], budget: float) -> int:
    """Return how often to run within `budget` seconds. The tries warm up what is cold."""
    run(1)
    loops = 1
    while True:
        seconds = run(loops)
        if seconds >= budget / 2 or loops >= 1 << 20:
            return max(1, round(loops * budget / max(seconds, 1e-9)))
        loops *= 2
