"""Benchmark j: memory per cached token, and whether it stops growing at the bound."""

from __future__ import annotations

import base64
import gc
import json
import os
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt

from stackauth_middleware import Verifier

from .material import Site, site
from .timing import Benchmark, Figure, Pace

BOUND = 10_000
KIB = 1024


def memory(pace: Pace) -> Benchmark:
    benchmark = Benchmark("j", "Memory of tokens")
    distinct = 100_000 if pace.quick else 1_000_000
    checkpoints = (BOUND, 2 * BOUND, distinct // 2, distinct)
    resident = _resident(checkpoints)
    for count, kib in resident.items():
        benchmark.figures.append(
            Figure("resident set", f"after {count:,} distinct tokens", "MiB", [kib / KIB], ours=True)
        )
    per_token = _per_token(BOUND, times=1 if pace.quick else 3)
    benchmark.figures.insert(0, Figure("tracemalloc", "per cached token", "KiB", per_token, ours=True))
    each = benchmark.figures[0].median
    benchmark.at_most("at most 1.0 KiB per cached token", each, 1.0, "KiB")
    grown = (resident[distinct] - resident[2 * BOUND]) / KIB
    benchmark.at_most(f"flat after the bound: MiB grown from {2 * BOUND:,} to {distinct:,} tokens", grown, 2, "MiB")
    benchmark.notes.append(
        f"token_cache_size is {BOUND:,}. All memory that stays allocated is counted, including the hash tables."
    )
    benchmark.notes.append("The resident set is measured with the signature check turned off.")
    return benchmark


def _per_token(count: int, times: int) -> list[float]:
    """Return the KiB that one cached token takes, once for each of `times` fillings of the cache."""
    taken = []
    for _ in range(times):
        with site() as stack:
            verifier = Verifier(stack.config(token_cache_size=count))
            verifier.verify(stack.token())
            supply, verify = _tokens(stack), verifier.verify
            with _unchecked():
                for _ in range(200):
                    verify(next(supply))
                gc.collect()
                tracemalloc.start()
                before = tracemalloc.get_traced_memory()[0]
                for _ in range(count - 201):
                    verify(next(supply))
                gc.collect()
                taken.append((tracemalloc.get_traced_memory()[0] - before) / (count - 201) / KIB)
                tracemalloc.stop()
    return taken


def _resident(checkpoints: tuple[int, ...]) -> dict[int, float]:
    """Return the resident KiB of the process by the number of distinct tokens verified."""
    found: dict[int, float] = {}
    with site() as stack:
        verifier = Verifier(stack.config(token_cache_size=BOUND))
        verifier.verify(stack.token())
        supply = _tokens(stack)
        with _unchecked():
            done = 0
            for count in checkpoints:
                for _ in range(count - done):
                    verifier.verify(next(supply))
                done = count
                found[count] = _rss()
    return found


def _tokens(stack: Site) -> Iterator[str]:
    """Yield tokens of distinct users and sessions, with all claims of a real token and an invalid signature."""
    header, payload, signature = stack.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    text = json.dumps(claims, separators=(",", ":"))
    places = [claims["sub"], claims["refresh_token_id"]]
    while True:
        made = text
        for each in places:
            made = made.replace(each, str(uuid.uuid4()))
        yield f"{header}.{base64.urlsafe_b64encode(made.encode()).rstrip(b'=').decode()}.{signature}"


@contextmanager
def _unchecked() -> Iterator[None]:
    """Accept every ES256 signature: a million checks would take minutes and leave nothing in memory."""
    verify, algorithm = jwt.algorithms.ECAlgorithm.verify, jwt.algorithms.ECAlgorithm
    algorithm.verify = lambda *_: True
    try:
        yield
    finally:
        algorithm.verify = verify


def _rss() -> float:
    gc.collect()
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / KIB
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


BENCHMARKS: dict[str, Callable[[Pace], Benchmark]] = {"j": memory}
