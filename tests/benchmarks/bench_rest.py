"""Benchmarks h and i: the cost of a call to Stack Auth, and the effect of a slow one on the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import requests

from stackauth_middleware import AsyncVerifier, StackAuthASGIMiddleware, Verifier

from .bench_middleware import snippet_asgi
from .contenders import Snippet
from .drive import Asgi
from .material import PROJECT, SECRET, USERS_ME, Site, site
from .timing import MS, Benchmark, Contender, Figure, Pace, interleaved, ratio

DELAYS = (0, 5, 50)
CROWD = 64
HEADERS = {
    "x-stack-access-type": "server",
    "x-stack-project-id": PROJECT,
    "x-stack-secret-server-key": SECRET,
}
SYNC, ASYNC = "Verifier.profile, fresh=True", "AsyncVerifier.profile, fresh=True"
REQUESTS, HTTPX = "requests.Session, bare", "httpx.AsyncClient, bare"
SNIPPET = "documented snippet (requests.request)"
SLOW = 0.3


def rest(pace: Pace) -> Benchmark:
    benchmark = Benchmark("h", "REST mode: users/me over the loopback")
    rounds = 3 if pace.quick else 9
    with site() as stack, ThreadPoolExecutor(CROWD) as threads, _loop() as loop:
        tokens = [stack.token(sub=f"{number:08d}-2222-4222-8222-222222222222") for number in range(CROWD)]
        for token in tokens:
            stack.have_profile(token)
        settings = {"mode": "rest", "secret_server_key": SECRET, "timeout": 20}
        verifier, averifier = Verifier(stack.config(**settings)), AsyncVerifier(stack.config(**settings))
        url = stack.upstream.url + USERS_ME
        session, client = requests.Session(), _client()
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=CROWD))

        def bare(token: str) -> Any:
            return _read(session.get(url, headers={**HEADERS, "x-stack-access-token": token}, timeout=20))

        def snippet(token: str) -> Any:
            sent = {**HEADERS, "x-stack-access-token": token}
            return _read(requests.request("GET", url, headers=sent))  # as documented, without a time limit

        async def abare(token: str) -> Any:
            return _read(await client.get(url, headers={**HEADERS, "x-stack-access-token": token}))

        calls: dict[str, Callable[[list[str]], object]] = {
            SYNC: _in_threads(threads, lambda token: verifier.profile(token, fresh=True)),
            REQUESTS: _in_threads(threads, bare),
            SNIPPET: _in_threads(threads, snippet),
            ASYNC: _in_tasks(loop, lambda token: averifier.profile(token, fresh=True)),
            HTTPX: _in_tasks(loop, abare),
        }
        delays = DELAYS[:2] if pace.quick else DELAYS
        for delay in delays:
            stack.upstream.delay(delay / 1e3)
            for crowd in (1, CROWD):
                case = f"{delay} ms upstream, {crowd} at once"
                batch = tokens[:crowd]
                contenders = [Contender(n, _batches(call, batch), n in (SYNC, ASYNC)) for n, call in calls.items()]
                budget = 0.02 if pace.quick else 0.15
                benchmark.figures += interleaved(case, contenders, Pace(pace.quick, rounds, budget), "ms")
        stack.upstream.delay(0)
        _while_cached(benchmark, stack, verifier, tokens, pace)
        loop.run_until_complete(client.aclose())
        loop.run_until_complete(averifier.aclose())
        session.close()
        verifier.close()
    for case in (f"{delay} ms upstream, {crowd} at once" for delay in delays for crowd in (1, CROWD)):
        for ours, theirs in ((SYNC, REQUESTS), (ASYNC, HTTPX)):
            times = ratio(benchmark.figure(case, ours), benchmark.figure(case, theirs))
            benchmark.at_most(f"at most 1.1x of {theirs}: {case}", times, 1.1, "x")
    benchmark.notes.append(f"Wall time. {CROWD} at once: as many users, one call each, until the last reply.")
    benchmark.notes.append("Ours verifies the token and reads the profile; the bare calls only read the JSON.")
    return benchmark


def _while_cached(benchmark: Benchmark, stack: Site, verifier: Verifier, tokens: list[str], pace: Pace) -> None:
    verifier.verify(tokens[0])
    stack.upstream.count()
    benchmark.figures += interleaved(
        "while cached", [Contender("Verifier.verify, REST mode", _repeated(verifier.verify, tokens[0]), True)], pace
    )
    benchmark.at_most("no call to Stack Auth while cached: calls", stack.upstream.count(), 0, "calls")


def stall(pace: Pace) -> Benchmark:
    benchmark = Benchmark("i", f"Event-loop stall while the keys take {SLOW * MS:.0f} ms")
    times = 3 if pace.quick else 9
    asgi = Asgi(20)
    with site() as stack:
        token, stalls = stack.token(), {"ASGI middleware": [], SNIPPET_APP: []}
        stack.upstream.delay(SLOW)
        for number in range(times + 1):
            wrapped = StackAuthASGIMiddleware(asgi.app, stack.config())
            other = snippet_asgi(asgi.app, Snippet(stack.jwks_url))
            for name, app in (("ASGI middleware", wrapped), (SNIPPET_APP, other)):
                longest = asyncio.run(_longest_stall(asgi, app, asgi.scope(token)))
                if number:  # the first round includes imports
                    stalls[name].append(longest * MS)
        assert asgi.statuses == {200}
    for name, taken in stalls.items():
        benchmark.figures.append(Figure("longest stall", name, "ms", taken, name == "ASGI middleware"))
    benchmark.at_most("under 10 ms", benchmark.figure("longest stall", "ASGI middleware").median, 10, "ms")
    benchmark.notes.append(
        "Measured by a task that sleeps 1 ms at a time and notes how late it is woken; the imports are done before."
    )
    return benchmark


SNIPPET_APP = "documented snippet, raw ASGI"


async def _longest_stall(asgi: Asgi, app: Any, scope: dict[str, Any]) -> float:
    longest = 0.0

    async def resume() -> None:
        nonlocal longest
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - start - 0.001)

    sampler = asyncio.ensure_future(resume())
    await asyncio.sleep(0.02)
    longest = 0.0
    await app({**scope, "state": {}}, None, asgi._send)
    await asyncio.sleep(0.002)
    sampler.cancel()
    return longest


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=20, limits=httpx.Limits(max_connections=None, max_keepalive_connections=CROWD))


def _read(answer: Any) -> Any:
    assert answer.status_code == 200, answer.status_code
    return answer.json()


def _in_threads(threads: ThreadPoolExecutor, call: Callable[[str], Any]) -> Callable[[list[str]], object]:
    def run(batch: list[str]) -> object:
        return call(batch[0]) if len(batch) == 1 else list(threads.map(call, batch))

    return run


def _in_tasks(loop: asyncio.AbstractEventLoop, call: Callable[[str], Awaitable[Any]]) -> Callable[[list[str]], object]:
    async def all_of(batch: list[str]) -> object:
        return await asyncio.gather(*(call(each) for each in batch))

    return lambda batch: loop.run_until_complete(all_of(batch))


def _batches(call: Callable[[list[str]], object], batch: list[str]) -> Callable[[int], float]:
    def run(loops: int) -> float:
        start = time.perf_counter()
        for _ in range(loops):
            call(batch)
        return time.perf_counter() - start

    return run


def _repeated(call: Callable[[str], object], token: str) -> Callable[[int], float]:
    def run(loops: int) -> float:
        start = time.thread_time()
        for _ in range(loops):
            call(token)
        return time.thread_time() - start

    return run


BENCHMARKS: dict[str, Callable[[Pace], Benchmark]] = {"h": rest, "i": stall}
