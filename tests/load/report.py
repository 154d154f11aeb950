"""What came of a soak: the figures, and whether what must hold did."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .driver import Tally
from .settings import CACHE_SIZE, STALL
from .watch import Held

RSS_GROWTH = 16 * 1024
"""KiB that a worker may grow by between the first quarter of the run and its end."""
OBJECTS_GROWTH = 20_000
"""Objects known to gc: full caches account for about ten thousand, a leak at each request for far more."""
POOLED = {"asgi": 2 * 32, "wsgi": 2 * 4}
"""Idle connections to Stack Auth that a worker may keep: of each of its two configs what `_async` lets httpx keep,
and one for each of gunicorn's threads, since a thread has one call at a time.

Those that Stack Auth has reset are among them. No callback reports it: urllib3 checks when it takes the connection,
the last given back first, and httpx at the next call of that config. The first red run were four of these."""
TROUBLE = ("Traceback", "never retrieved", "was destroyed", "never awaited", "CRITICAL", "the verif")
"""What no log may hold."""


@dataclass
class Snapshot:
    """What a worker held at a time; all but `held` as it reports, `threads` without those of gunicorn's pool."""

    pid: int
    held: Held
    tasks: int
    threads: int
    objects: int
    cache_sizes: list[int]


@dataclass
class Report:
    """What came of a soak. `rss` in KiB, at equal distances; `unexcused` in seconds, by the kind of call."""

    seconds: float
    tally: Tally
    injected: Counter[str]
    upstream: Counter[str]
    upstream_connections: int = 0
    silent: list[str] = field(default_factory=list)
    upstream_bounds: dict[str, int] = field(default_factory=dict)
    forbidden_sent: int = 0
    longest_withdrawn: float = 0.0
    unexcused: dict[str, float] = field(default_factory=dict)
    snapshots: dict[str, dict[str, Snapshot]] = field(default_factory=dict)
    rss: dict[str, list[int]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)

    def failures(self) -> list[str]:
        """Return every promise that was not kept."""
        tally = self.tally
        failures = [f"wrong: {each}" for each in tally.wrong] + [f"lost: {each}" for each in tally.lost]
        failures += self.silent
        if tally.sent != tally.answered + len(tally.lost) + self._malformed():
            failures.append("requests without an outcome")
        if self.forbidden_sent:
            failures.append(f"{self.forbidden_sent} calls upstream with a token that fails the local check")
        for kind, bound in self.upstream_bounds.items():
            if self.called(kind) > bound:
                failures.append(f"{self.called(kind)} calls of {kind} where {bound} are the most")
        for middleware, log in self.logs.items():
            failures += [f"the log of {middleware} says {each!r}" for each in TROUBLE if each in log]
        for name, end in self.snapshots["end"].items():
            failures += self._grown(name, self.snapshots["start"].get(name), end)
        return failures

    def may_call(self, *, jwks: int, users_me: int) -> None:
        """Note how many calls upstream there may be; those that broke off before an answer may be sent once more."""
        for kind, bound in (("jwks", jwks), ("users/me", users_me)):
            again = sum(self.upstream[f"{kind} {how}"] for how in ("reset", "hang"))
            self.upstream_bounds[kind] = bound + again

    def called(self, kind: str) -> int:
        """Return how many calls of a kind came upstream, whatever became of them."""
        return sum(count for name, count in self.upstream.items() if name.startswith(f"{kind} "))

    def _malformed(self) -> int:
        return sum("Error(" in each or "MalformedAnswer" in each for each in self.tally.wrong)

    def _grown(self, name: str, start: Snapshot | None, end: Snapshot) -> list[str]:
        if start is None or start.pid != end.pid:
            return [f"{name} is not the process that it was"]
        middleware, failures = name.split(maxsplit=1)[0], []
        own = [each.held.fds - sum(each.held.pooled.values()) for each in (start, end)]
        grown = {
            "idle connections to Stack Auth": sum(end.held.pooled.values()) - POOLED[middleware],
            "sockets that are in no pool": sum(start.held.stray.values()) + sum(end.held.stray.values()),
            "file descriptors": own[1] - own[0],
            "threads": end.threads - start.threads,
            "tasks": end.tasks - start.tasks,
            "objects": end.objects - start.objects - OBJECTS_GROWTH,
            "entries in a cache": max(end.cache_sizes, default=0) - CACHE_SIZE,
        }
        failures += [f"{name}: {what} by {count} too many" for what, count in grown.items() if count > 0]
        quarter = self.rss.get(name, [])[len(self.rss.get(name, [])) // 4 :]
        if quarter and end.held.rss - quarter[0] > RSS_GROWTH:
            failures.append(f"{name}: {end.held.rss - quarter[0]} KiB more than after the first quarter")
        return failures

    def as_json(self) -> str:
        """Return all figures as JSON."""
        snapshots = {
            when: {name: {**vars(each), "held": each.held._asdict()} for name, each in workers.items()}
            for when, workers in self.snapshots.items()
        }
        document: dict[str, Any] = {**vars(self), "tally": vars(self.tally), "snapshots": snapshots}
        del document["logs"]
        return json.dumps({**document, "failures": self.failures()}, indent=1)

    def markdown(self) -> str:
        """Return a short account of the run."""
        tally = self.tally
        figures = {
            "seconds": f"{self.seconds:.0f}",
            "requests, answers": f"{tally.sent:,}, {tally.answered:,} ({_counts(tally.middlewares)})",
            "wrong outcomes, lost requests": f"{len(tally.wrong)}, {len(tally.lost)}",
            "clients that left before the answer": f"{tally.left:,}",
            "by outcome": _counts(tally.outcomes),
            "by what was sent": _counts(tally.labels),
            "faults and events": _counts(self.injected),
            "calls upstream": f"{sum(self.upstream.values()):,} over {self.upstream_connections:,} connections",
            "of them": _counts(self.upstream),
            "of them by kind, and the most there may be": ", ".join(
                f"{kind} {self.called(kind):,} of {bound:,}" for kind, bound in self.upstream_bounds.items()
            ),
            "calls upstream with a token that fails the local check": str(self.forbidden_sent),
            "a withdrawn key was taken for at most": f"{self.longest_withdrawn:.1f} s",
            "seconds in which no fault excused a 503": ", ".join(
                f"{kind} {seconds:.0f}" for kind, seconds in self.unexcused.items()
            ),
            "longest time without a turn": f"{tally.longest_stall:.2f} s",
            f"times without a turn for {STALL} s, which excuse": _counts(tally.stalls),
        }
        figures |= {f"slowest answer: {name}": f"{seconds:.3f} s" for name, seconds in sorted(tally.worst.items())}
        for name, end in self.snapshots["end"].items():
            start = self.snapshots["start"].get(name, end)
            figures[f"{name}: RSS at start, quarters, end (KiB)"] = ", ".join(
                f"{each:,}" for each in (start.held.rss, *_quarters(self.rss.get(name, [])), end.held.rss)
            )
            figures[f"{name}: fds, threads, tasks, objects"] = (
                f"{start.held.fds}→{end.held.fds}, {start.held.threads}→{end.held.threads},"
                f" {start.tasks}→{end.tasks}, {start.objects:,}→{end.objects:,}"
            )
            figures[f"{name}: idle connections to Stack Auth; other sockets; cache sizes"] = (
                f"{_counts(end.held.pooled)}; {_counts(end.held.stray)};"
                f" {', '.join(str(each) for each in end.cache_sizes)}"
            )
        failures = self.failures()
        figures["broken promises"] = str(len(failures))
        lines = ["| what | figure |", "|---|---|", *(f"| {name} | {figure} |" for name, figure in figures.items())]
        return "\n".join([*lines, *(f"- {each}" for each in failures[:50])])


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counter.most_common()) or "none"


def _quarters(series: list[int]) -> list[int]:
    return [series[len(series) * part // 4] for part in (1, 2, 3)] if len(series) >= 4 else []
