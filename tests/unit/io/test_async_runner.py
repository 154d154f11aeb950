"""The runner for tasks, under asyncio and trio: scripts, single flight, cancellation, forks."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import anyio
import pytest

from stackauth_middleware import AsyncVerifier
from stackauth_middleware._core.upstream import (
    Call,
    Script,
    ShareEnd,
)
from stackauth_middleware._io import async_runner
from stackauth_middleware._io.async_runner import AsyncRunner
from stackauth_middleware._io.http_httpx import HttpxClient
from tests.unit.io.either import Kind
from tests.unit.io.helpers import (
    ask_once,
    both,
    forking,
    in_a_child,
    opened,
    share_end,
    sub,
    wait_until_async,
    with_threads,
)
from tests.unit.io.loopback import (
    BACKENDS,
    Backend,
    Exchange,
    Issuer,
    Loopback,
    config_for,
    live_token,
)
from tests.unit.io.runner_cases import *  # noqa: F403 - the tests of both
from tests.unit.io.runner_cases import HeldTransport, share


@pytest.fixture(params=BACKENDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


def test_runners_in_one_event_loop_share_nothing(held: HeldTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if run variables are identified by name, as in older releases of anyio."""
    values: dict[str, Any] = {}

    class RunVarByName:
        def __init__(self, name: str) -> None:
            self.name = name

        def get(self) -> Any:
            return values[self.name]

        def set(self, value: Any) -> None:
            values[self.name] = value

    async def main() -> None:
        monkeypatch.setattr(async_runner, "RunVar", RunVarByName)
        runners = [AsyncRunner(config_for("http://127.0.0.1:9")) for _ in range(2)]
        async with anyio.create_task_group() as group:
            for runner in runners:
                group.start_soon(runner.run, share_end(share()))
            await wait_until_async(lambda: held.calls == 2)
            runners[0].after_fork()
            group.start_soon(runners[0].run, share_end(share()))
            await wait_until_async(lambda: held.calls == 3)
            held.go.set()

    anyio.run(main)


@both
def test_unexpected_exception_propagates_unwrapped(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in an exception group, although a shared fetch has its own task."""
    failure = LookupError("of a library")

    def fail(*_: Any) -> Any:
        raise failure

    monkeypatch.setattr(HttpxClient, "_new_pool", fail)
    with pytest.raises(LookupError) as caught:
        ask_once(backend, "http://127.0.0.1:9")
    assert caught.value is failure


@both
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_exit_exceptions_in_a_call_propagate_unwrapped(
    end: type[BaseException], backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that handles an interrupt does not look into exception groups."""

    def interrupted(runner: AsyncRunner, url: str) -> None:
        raise end("in the call")

    monkeypatch.setattr(HttpxClient, "_new_pool", interrupted)
    with pytest.raises(end, match="in the call"):
        ask_once(backend, "http://127.0.0.1:9")


@both
def test_script_is_closed_when_its_task_is_cancelled(backend: Backend, held: HeldTransport) -> None:
    closed = []

    def script() -> Script[None]:
        try:
            yield Call("GET", "http://127.0.0.1:9/", max_bytes=1)
        finally:
            closed.append(True)

    running = script()

    async def main() -> None:
        async with opened() as runner:
            with anyio.move_on_after(0.02):
                await runner.run(running)

    anyio.run(main, backend=backend)
    assert closed == [True]


@both
def test_followers_of_a_cancelled_leader_look_again(backend: Backend) -> None:
    """Followers check the cache again, and one of them leads, each within its own deadline."""
    issuer = Issuer()

    def conduct(exchange: Exchange) -> None:
        if exchange.number == 1:
            exchange.hold()
        issuer(exchange)

    async def main() -> None:
        verifier = AsyncVerifier(config_for(server.url))
        users: list[str] = []

        async def follow(at: int) -> None:
            users.append((await verifier.verify(live_token(sub=sub(at)))).user_id)

        async with verifier, anyio.create_task_group() as group:
            with anyio.CancelScope() as leader:
                async with anyio.create_task_group() as carrying:
                    carrying.start_soon(verifier.verify, live_token())
                    await wait_until_async(lambda: len(server.requests) == 1)
                    for at in range(20):
                        group.start_soon(follow, at)
                    await anyio.sleep(0.02)
                    leader.cancel()
            await wait_until_async(lambda: len(users) == 20)
        assert set(users) == {sub(at) for at in range(20)}

    with Loopback(conduct) as server:
        anyio.run(main, backend=backend)
    assert len(server.requests) == 2


def test_leader_and_follower_can_be_cancelled_by_asyncio(held: HeldTransport) -> None:
    """By `Task.cancel`, as `asyncio.wait_for` and servers do."""
    import asyncio

    async def main() -> None:
        runner = AsyncRunner(config_for("http://127.0.0.1:9"))
        leader, waiter, other = (asyncio.create_task(runner.run(share_end(share()))) for _ in range(3))
        await wait_until_async(lambda: held.calls == 1)
        leader.cancel()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert await other is ShareEnd.DONE
        assert runner._here().in_flight == {}

    asyncio.run(main())


@pytest.mark.parametrize("turns", range(4))
def test_run_that_ends_as_a_fetch_starts_leaves_no_coroutine_behind(turns: int, held: HeldTransport) -> None:
    """`asyncio.run` cancels the task of the fetch before its first step, as it ends during a prefetch."""
    import asyncio

    async def main() -> None:
        runner = AsyncRunner(config_for("http://127.0.0.1:9"))
        leader = asyncio.create_task(runner.run(share_end(share())))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not leader.done()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
        gc.collect()
    assert [str(each.message) for each in caught] == []


_FIRST_CALL = """
import concurrent.futures.thread, encodings.idna  # what asyncio and trio bring at the first look-up of any name
import json, os, socket, sys, threading, time
from stackauth_middleware import AsyncVerifier
from tests.unit.io.loopback import Issuer, Loopback, config_for, live_token

if sys.argv[1] == "trio":
    import trio
    sleep = trio.sleep

    async def at_once(*work):
        async with trio.open_nursery() as nursery:
            for each in work:
                nursery.start_soon(each)
else:
    import asyncio
    sleep = asyncio.sleep

    async def at_once(*work):
        await asyncio.gather(*(each() for each in work))

seen, verified = [], []
watching = False
longest = 0.0

def hook(event, args):
    if not watching or threading.get_ident() != loop_thread:
        return
    if event in ("import", "open", "socket.gethostbyname", "subprocess.Popen", "time.sleep"):
        seen.append((event, str(args[0])))
    elif event == "socket.connect" and args[0].gettimeout() != 0:
        seen.append((event, str(args[1])))

def looking_up(host, port, family=0, type=0, proto=0, flags=0):
    if watching and threading.get_ident() == loop_thread and not flags & socket.AI_NUMERICHOST:
        seen.append(("getaddrinfo", str(host)))
    return look_up(host, port, family, type, proto, flags)

sys.addaudithook(hook)
look_up, socket.getaddrinfo = socket.getaddrinfo, looking_up

def clock():
    # The time without that spent waiting for a processor.
    waited = int(os.pread(schedstat, 100, 0).split()[1]) / 1e9 if schedstat else 0
    return time.monotonic() - waited

async def turn():
    global longest
    while len(verified) < len(tokens):
        last = clock()
        await sleep(0.005)
        longest = max(longest, clock() - last)

async def verify():
    verified.append(await verifier.verify(tokens[len(verified)]))

async def main():
    global watching, loop_thread, schedstat
    loop_thread = threading.get_ident()
    path = "/proc/thread-self/schedstat"
    schedstat = os.open(path, os.O_RDONLY) if os.path.exists(path) else 0
    await sleep(0.02)
    watching = True
    await at_once(turn, *[verify] * len(tokens))
    watching = False
    await verifier.aclose()

issuer = Issuer()
issuer.hold = 0.5
tokens = [live_token(sub=f"22222222-2222-4222-8222-{at:012x}") for at in range(50)]
with Loopback(issuer) as server:
    verifier = AsyncVerifier(config_for(server.url.replace("127.0.0.1", "localhost")))
    trio.run(main) if sys.argv[1] == "trio" else asyncio.run(main())
    print(json.dumps([len(verified), len(server.requests), seen, longest]))
"""


@both
def test_first_call_does_not_block_the_event_loop(backend: Backend) -> None:
    """50 requests wait for slow keys in a new process: no import, file or blocking call in the thread of the loop.

    The 100 ms of a stall are asserted on the best of three runs, less the time for which the machine, busy with
    others, let this thread wait for a processor (where the kernel tells).
    """
    best = 1.0
    for _ in range(3):
        environ = {name: value for name, value in os.environ.items() if "SSL_CERT" not in name}
        run = subprocess.run(
            [sys.executable, "-c", _FIRST_CALL, backend],
            capture_output=True,
            text=True,
            env=environ,
            check=True,
            timeout=60,
            cwd=Path(__file__).parents[3],
        )
        verified, requests, seen, longest = json.loads(run.stdout)
        assert (verified, requests) == (50, 1)
        assert seen == []
        best = min(best, longest)
        if best < 0.1:
            break
    assert best < 0.1


@forking
@with_threads
def test_forked_child_verifies_over_its_own_connections() -> None:
    """In a new event loop, while the parent's loop has a fetch of the same keys in flight."""
    issuer = Issuer()
    issuer.held = held = threading.Event()

    def in_the_child() -> bool:
        result: list[bool] = []

        async def verify() -> None:
            async with verifier:
                result.append((await verifier.verify(live_token())).is_authenticated)

        thread = threading.Thread(target=anyio.run, args=(verify,))  # this thread has a running loop, of the parent
        thread.start()
        thread.join()
        return result == [True]

    async def main() -> None:
        async with verifier, anyio.create_task_group() as group:
            group.start_soon(verifier.verify, live_token())
            await wait_until_async(lambda: len(server.requests) == 1)
            timer = threading.Timer(0.05, held.set)
            timer.start()
            assert in_a_child(in_the_child)
            timer.join()

    with Loopback(issuer) as server:
        verifier = AsyncVerifier(config_for(server.url))
        anyio.run(main)
    assert (len(server.requests), server.connections) == (2, 2)
