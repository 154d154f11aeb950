"""The soak itself: servers, Stack Auth, faults and driver, and what must hold at the end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from typing import Any

from .driver import Connection, Driver
from .faults import Faults, Pace
from .keys import MIN_FETCH_INTERVAL
from .model import Model
from .report import Report, Snapshot
from .servers import Served, serving
from .settings import PROFILE_TTL, PROJECT, SECRET
from .traffic import Traffic
from .upstream import Upstream
from .upstream import serving as serving_upstream
from .watch import Held, held_by, rss_of

DOCUMENTS = 2 * (1 + 2 + 2)
"""Fetched by a worker at most every `APART` seconds: for each of its two configs those of the three user types."""
_TRIES = 60
_SETTLES = 10.0
"""Seconds in which a worker closes the connections that its clients have left."""


class Soak:
    """A run over some middlewares.

    Args:
        middlewares: keys of `servers.COMMANDS`.
        seconds: for which requests are sent.
        calm: the last of them, in which nothing new goes wrong.
        rate: requests a second, all middlewares together.
        broken: a key of `broken.BROKEN`, to see the run fail.
        say: called with messages about the progress.
    """

    def __init__(
        self,
        middlewares: Sequence[str],
        seconds: float,
        *,
        calm: float,
        pace: Pace,
        rate: float = 160.0,
        connections: int = 12,
        seed: int = 1,
        broken: str | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._middlewares = middlewares
        self._seconds = seconds
        self._calm = calm
        self._pace = pace
        self._rate = rate
        self._connections = connections
        self._seed = seed
        self._broken = {"SOAK_BROKEN": broken} if broken else {}
        self._say = say
        self._servers: dict[str, Served] = {}
        self._began = 0.0
        self._until = 0.0

    async def run(self) -> Report:
        """Return what came of it."""
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(serving_upstream(PROJECT))
            upstream.local.add_project(PROJECT, secret_server_key=SECRET)
            environ = {
                "STACK_PROJECT_ID": PROJECT,
                "STACK_API_URL": upstream.url,
                "STACK_SECRET_SERVER_KEY": SECRET,
                **self._broken,
            }
            model = Model(PROFILE_TTL)
            traffic = Traffic(upstream, model, self._seed)
            traffic.publish()
            self._began = time.monotonic()
            for middleware in self._middlewares:
                self._servers[middleware] = stack.enter_context(serving(middleware, environ))
            ports = {middleware: each.port for middleware, each in self._servers.items()}
            driver = Driver(ports, traffic, model, rate=self._rate, connections=self._connections, seed=self._seed)
            faults = Faults(upstream, traffic, model.windows, self._pace, self._seed)
            report = Report(self._seconds, driver.tally, faults.injected, upstream.calls)
            await self._soak(driver, faults, upstream, report)
            report.upstream_connections = upstream.connections
            report.forbidden_sent = upstream.leaks
            report.longest_withdrawn = model.keys.longest
            report.unexcused = {
                kind: model.unexcused(kind, self._until - self._seconds, self._until) for kind in ("jwks", "users/me")
            }
        # Ended by now: what a server says while it goes is in its log too.
        report.logs.update({middleware: each.log() for middleware, each in self._servers.items()})
        return report

    async def _soak(self, driver: Driver, faults: Faults, upstream: Upstream, report: Report) -> None:
        await self._first_answers(driver)
        report.snapshots["start"] = await self._snapshot(driver, report)
        until = self._until = time.time() + self._seconds
        watching = asyncio.create_task(self._watch(report, driver, faults, until))
        breaking = asyncio.create_task(faults.run(until - self._calm))
        try:
            await driver.run(until)
            await asyncio.gather(breaking, watching)
        finally:
            for task in (breaking, watching):
                task.cancel()
            await asyncio.gather(breaking, watching, return_exceptions=True)
        upstream.drop()
        report.snapshots["end"] = await self._snapshot(driver, report)
        fetches = 1 + int((time.monotonic() - self._began) / MIN_FETCH_INTERVAL)
        report.may_call(jwks=fetches * DOCUMENTS * len(report.snapshots["end"]), users_me=driver.tally.asking)

    async def _first_answers(self, driver: Driver) -> None:
        """Wait for each server, and have everything imported and both pools opened."""
        for middleware, served in self._servers.items():
            connection = await Connection.open(served.port)
            await connection.ask("/jwt/public")
            connection.close()
            await self._everywhere(driver, middleware)

    async def _everywhere(self, driver: Driver, middleware: str) -> dict[int, dict[str, Any]]:
        """Have each worker fetch a profile with both configs, and return what each reports."""
        reported: dict[int, dict[str, Any]] = {}
        served = self._servers[middleware]
        for number in range(_TRIES):
            if set(reported) >= set(served.workers()) and number >= 4:
                break
            connection = await Connection.open(served.port)
            user = driver.traffic.users[number % len(driver.traffic.users)]
            good = True
            for path in ("/jwt/profile", "/rest/me"):
                good = good and await driver.fire(connection, driver.traffic.shot(middleware, path, user))
            if good:
                debug = json.loads((await connection.ask("/debug"))[2])
                reported[debug["pid"]] = debug
            connection.close()
        return reported

    async def _snapshot(self, driver: Driver, report: Report) -> dict[str, Snapshot]:
        """Return what each worker holds while no client is connected."""
        snapshots: dict[str, Snapshot] = {}
        for middleware, served in self._servers.items():
            reported = await self._everywhere(driver, middleware)
            for number, pid in enumerate(sorted(served.workers())):
                if pid not in reported:
                    report.silent.append(f"{middleware}: process {pid} does not answer")
                    continue
                held = await _settled(pid, reported[pid].pop("pooled"))
                snapshots[f"{middleware} {number}"] = Snapshot(held=held, **reported[pid])
        return snapshots

    async def _watch(self, report: Report, driver: Driver, faults: Faults, until: float) -> None:
        """Record the memory of the workers about forty times, and report the progress."""
        step = max(1.0, self._seconds / 40)
        reported = 0
        while time.time() < until - step:
            await asyncio.sleep(step)
            for middleware, served in self._servers.items():
                for number, pid in enumerate(sorted(served.workers())):
                    report.rss.setdefault(f"{middleware} {number}", []).append(rss_of(pid))
            tally = driver.tally
            wrong, lost = len(tally.wrong), len(tally.lost)
            reported, news = wrong, tally.wrong[reported : reported + 10]
            for each in news:
                self._say(f"wrong: {each}")
            self._say(f"{tally.answered} answers, {wrong} wrong, {lost} lost; now: {faults.now or 'nothing wrong'}")


async def _settled(pid: int, pooled: Collection[int]) -> Held:
    """Return what a process holds once it has closed what its clients have left; what it never closes is a leak."""
    until = time.monotonic() + _SETTLES
    while True:
        held = held_by(pid, pooled)
        if not held.stray or time.monotonic() >= until:
            return held
        await asyncio.sleep(0.05)
