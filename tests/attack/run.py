"""Runs the parts of an attack, prints what each found, and sums up."""

from __future__ import annotations

import asyncio
import logging
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from stackauth_middleware.testing import LocalStackAuth

from . import cost, inprocess, requests, servers, sites, table
from .report import Checked, summary

PARTS = ("cost", "servers", "in-process")
BATCH = 50
"""Requests that a site gets before the next one has its turn."""
SHOWN = 3
"""Findings of a site that are printed."""
KEY_FETCHES_PER_SECOND = 3 / 10
"""For each of the three key sets, one fetch in ten seconds may be for an unknown key id."""


class Plan(NamedTuple):
    """What to run.

    Attributes:
        only: texts, one of which a site's name has to hold; all sites where there are none.
        exact: whether `only` has whole names.
        until_found: whether to send no more, in process, once a handler ran that should not have.
    """

    seconds: float
    seed: str
    only: tuple[str, ...] = ()
    parts: tuple[str, ...] = PARTS
    exact: bool = False
    until_found: bool = False

    def covers(self, name: str) -> bool:
        if self.exact:
            return name in self.only
        return not self.only or any(text in name for text in self.only)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep frameworks from logging each hostile request."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def attack(plan: Plan) -> int:
    """Run the parts of `plan`, and return the exit status: 1 where there is a finding."""
    start = time.monotonic()
    checked: list[Checked] = []
    with quiet():
        if "cost" in plan.parts:
            checked += _shown(cost.measure())
        if "servers" in plan.parts:
            share = 0.45 if "in-process" in plan.parts else 0.9
            checked += _shown(servers.attack(plan.covers, plan.seconds * share, plan.seed))
        if "in-process" in plan.parts:
            checked += _shown(in_process(plan, start + plan.seconds))
    print(summary(checked, time.monotonic() - start, plan.seed))
    return 1 if any(each.findings for each in checked) else 0


def _shown(checked: list[Checked]) -> list[Checked]:
    for each in checked:
        print(f"{each.name}: {each.counts}", flush=True)
        for finding in each.findings[:SHOWN]:
            print(f"  FINDING {finding}", flush=True)
        if len(each.findings) > SHOWN:
            print(f"  and {len(each.findings) - SHOWN} more", flush=True)
    return checked


def in_process(plan: Plan, until: float) -> list[Checked]:
    """Send random requests to every site in turn until the monotonic clock says `until`, one turn at least."""
    local = LocalStackAuth(table.PROJECT)
    loop = asyncio.new_event_loop()
    built = [make() for name, make in sites.makers().items() if plan.covers(name)]
    with local.in_process(), inprocess.started(built, loop):
        tokens = requests.Tokens(local)
        drivers = [inprocess.Driver(site, tokens) for site in built]
        start = time.monotonic()
        turn = 0
        while turn == 0 or time.monotonic() < until:
            for driver in drivers:
                rng = random.Random(f"{plan.seed} {driver.site.name} {turn}")
                with driver.site.active():
                    if turn == 0:
                        loop.run_until_complete(driver.controls())
                    loop.run_until_complete(driver.batch(rng, BATCH))
                if turn and time.monotonic() > until:
                    break
            if plan.until_found and any("handler" in problem for each in drivers for problem in each.findings):
                break
            turn += 1
        seconds = time.monotonic() - start
        checked = [_of(driver) for driver in drivers]
        checked.append(_upstream(local, len(drivers), seconds))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return checked


def _of(driver: inprocess.Driver) -> Checked:
    tally = driver.tally
    plain = statistics.median(tally.plain) if tally.plain else 0.0
    counts = f"{tally.requests} requests, {tally.runs} handler runs, {tally.refused} refusals"
    if tally.errors:
        counts += f", {sum(tally.errors.values())} exceptions of the app"
    if plain and tally.slowest[0] > max(50 * plain, 0.05):  # reported, never failed: the machine may have been busy
        counts += f"; slowest {tally.slowest[0] * 1e3:.0f} ms, {tally.slowest[0] / plain:.0f} plain refusals"
    found = sorted(driver.findings.items(), key=lambda each: ("control" in each[0], inprocess.size(each[1])))
    return Checked(
        driver.site.name,
        tally.requests,
        counts,
        [f"{problem}: --replay '{attack.line(driver.site.name)}'" for problem, attack in found],
    )


def _upstream(local: LocalStackAuth, configs: int, seconds: float) -> Checked:
    """Judge what was asked of Stack Auth: no profile at all, and of keys no more than the schedule allows."""
    keys, others = local.requests.count("jwks"), local.requests.count() - local.requests.count("jwks")
    most = configs * (3 + int(seconds * KEY_FETCHES_PER_SECOND) + 3)
    findings = []
    if others:
        findings.append(f"{others} calls upstream that are no fetch of keys")
    if keys > most:
        findings.append(f"{keys} fetches of keys where {most} are the most")
    return Checked("upstream", 0, f"{keys} fetches of keys by {configs} configs, {others} other calls", findings)


def replay(line: str) -> int:
    """Send the request of a finding once more, and say what came of it."""
    name, attack = requests.read(line)
    if name.startswith("server "):
        return servers.replay(name, attack)
    local = LocalStackAuth(table.PROJECT)
    loop = asyncio.new_event_loop()
    site = sites.makers()[name]()
    with quiet(), local.in_process(), inprocess.started([site], loop), site.active():
        driver = inprocess.Driver(site, requests.Tokens(local))
        loop.run_until_complete(driver.send(attack))
        print(driver.last)
        print(*driver.findings or ["no finding"], sep="\n")
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return 1 if driver.findings else 0


def broken(names: list[str], seconds: float, seed: str) -> int:
    """Break the package in each way, attack it in a process of its own, and return 1 where one does not show."""
    unseen = 0
    for name in names:
        done = subprocess.run(
            [sys.executable, "-m", "tests.attack.broken", name, str(seconds), seed],
            check=False,
            capture_output=True,
            text=True,
        )
        expected = 0 if name == "nothing" else 1
        unseen += done.returncode != expected
        found = [line for line in done.stdout.splitlines() if "FINDING" in line]
        print(f"{name}: {len(found)} findings, exit {done.returncode}, {expected} is right", *found[:1], sep="\n")
        if done.returncode not in (0, 1):
            print(done.stderr[-2000:])
    return 1 if unseen else 0
