"""Benchmark m: whether the cost of a request grows with the number of users, of rules and of threads."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from stackauth_middleware import Rule, StackAuthASGIMiddleware, Verifier

from .bench_servers import threads
from .drive import Asgi
from .material import Site, site
from .timing import Benchmark, Contender, Pace, interleaved, over, ratio

USERS = (1, 100, 10_000, 100_000)
RULES = (1, 10, 100, 1000)
THREADS = (1, 4, 16, 64)


def growth(pace: Pace) -> Benchmark:
    benchmark = Benchmark("m", "Growth")
    users = USERS[:-2] if pace.quick else USERS
    with site() as stack:
        _users(benchmark, stack, pace, users)
        _rules(benchmark, stack, pace)
        _threads(benchmark, stack, pace)
    benchmark.notes.append(
        "A cached token. Each user has one, and they take turns: the worst case for processor caches."
    )
    benchmark.notes.append("The path matches the last rule. A new path has an id that was never asked for.")
    benchmark.notes.append("Threads share one token and the global lock; wall time per call.")
    return benchmark


def _users(benchmark: Benchmark, stack: Site, pace: Pace, counts: tuple[int, ...]) -> None:
    tokens = stack.tokens(counts[-1])
    contenders = []
    for number in counts:
        verifier = Verifier(stack.config(token_cache_size=number))
        for token in tokens[:number]:
            verifier.verify(token)
        contenders.append(Contender(f"{number:,} users", over(tokens[:number], verifier.verify), ours=True))
    benchmark.figures += interleaved("Verifier.verify by users", contenders, pace)
    most, one = (
        benchmark.figure("Verifier.verify by users", f"{number:,} users") for number in (counts[-1], counts[0])
    )
    benchmark.at_most(f"at most 2x with {counts[-1]:,} users", ratio(most, one), 2, "x")


def _rules(benchmark: Benchmark, stack: Site, pace: Pace) -> None:
    asgi, token = Asgi(20), stack.token()
    known, new = [], []
    for number in RULES:
        rules = [Rule(f"/area-{at}/**", "optional") for at in range(number)]
        app = StackAuthASGIMiddleware(asgi.app, stack.config(rules=rules))
        asgi.fetch_keys(app, token)
        path = f"/area-{number - 1}/items/"
        known.append(Contender(f"{number:,} rules", _requests(asgi, app, asgi.scope(token, path + "42")), ours=True))
        new.append(Contender(f"{number:,} rules", _requests(asgi, app, asgi.scope(token), path), ours=True))
    benchmark.figures += interleaved("ASGI middleware, known path", known, pace)
    benchmark.figures += interleaved("ASGI middleware, new path", new, pace)


def _requests(asgi: Asgi, app: Any, scope: dict[str, Any], prefix: str | None = None) -> Callable[[int], float]:
    """Return a run that sends `scope`, with `prefix` each time with another id as its path."""
    if prefix is None:
        return over([scope], lambda each: asgi.call(app, each))
    ids = count()

    def send(each: dict[str, Any]) -> None:
        path = f"{prefix}{next(ids)}"
        asgi.call(app, {**each, "path": path, "raw_path": path.encode()})

    return over([scope], send)


def _threads(benchmark: Benchmark, stack: Site, pace: Pace) -> None:
    verifier, token = Verifier(stack.config()), stack.token()
    verifier.verify(token)
    contenders = [Contender(f"{n} threads", threads(verifier.verify, token, n), ours=True) for n in THREADS]
    longer = Pace(pace.quick, 5 if pace.quick else 15, 0.1)
    benchmark.figures += interleaved("Verifier.verify by threads", contenders, longer)


BENCHMARKS: dict[str, Callable[[Pace], Benchmark]] = {"m": growth}
