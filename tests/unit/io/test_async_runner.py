"""The runner for tasks, under asyncio and trio: scripts, single flight, cancellation, forks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from stackauth_middleware import AsyncVerifier, ConfigError
from stackauth_middleware._core.upstream import (
    Answer,
    Call,
    NoReplyKind,
    Reply,
    Resume,
    Script,
    Share,
    ShareEnd,
)
from stackauth_middleware._io import async_runner, network
from stackauth_middleware._io.async_runner import AsyncRunner
from stackauth_middleware._io.http_httpx import HttpxClient
from tests.unit.core.helpers import Signer
from tests.unit.io import hostile
from tests.unit.io.helpers import (
    ask_once,
    both,
    brief,
    forking,
    in_a_child,
    opened,
    send_all,
    share_end,
    sub,
    wait_until_async,
    with_threads,
)
from tests.unit.io.loopback import (
    Backend,
    Exchange,
    Issuer,
    Loopback,
    config_for,
    live_token,
)


class HeldTransport:
    """A transport override whose replies wait for `go`."""

    def __init__(self) -> None:
        self.calls = 0
        self.go: anyio.Event | None = None

    async def asend(self, call: Call, seconds: float) -> Reply:
        self.calls += 1
        if self.go is not None:
            await self.go.wait()
        return Reply(200, {}, b"override")


@pytest.fixture
def transport_override(monkeypatch: pytest.MonkeyPatch) -> HeldTransport:
    held = HeldTransport()
    monkeypatch.setattr(network, "transport_override", held)
    return held


def share(**limits: Any) -> Share:
    """Return a shared fetch of one call."""

    def script() -> Script[None]:
        yield Call("GET", "http://127.0.0.1:9/", max_bytes=10)

    return Share("key", script, **limits)


@both
def test_all_calls_of_a_script_share_one_time_budget(backend: Backend) -> None:
    """The second call gets the rest of the time; the third is not sent."""

    def slowly(exchange: Exchange) -> None:
        exchange.hold(0.6)
        exchange.reply()

    async def main() -> list[Any]:
        async with opened(server.url, timeout=1) as runner:
            return [
                brief(each)
                for each in await runner.run(send_all(*[Call("GET", server.url, max_bytes=10, fresh=True)] * 3))
            ]

    with Loopback(slowly) as server:
        began = time.monotonic()
        assert anyio.run(main, backend=backend) == [(200, b""), NoReplyKind.TIMED_OUT, NoReplyKind.TIMED_OUT]
        assert time.monotonic() - began < 1.6
    assert len(server.requests) == 2


def test_missing_certificate_file_fails_at_construction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE is '.*missing\.pem'; it must be a file of PEM"):
        AsyncRunner(config_for("https://api.example.com"))


def test_runners_in_one_event_loop_share_nothing(
    transport_override: HeldTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        transport_override.go = anyio.Event()
        async with anyio.create_task_group() as group:
            for runner in runners:
                group.start_soon(runner.run, share_end(share()))
            await wait_until_async(lambda: transport_override.calls == 2)
            runners[0].after_fork()
            group.start_soon(runners[0].run, share_end(share()))
            await wait_until_async(lambda: transport_override.calls == 3)
            transport_override.go.set()

    anyio.run(main)


@both
def test_transport_override_replaces_the_network(
    backend: Backend, transport_override: HeldTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(HttpxClient, "_new_pool", none)
    assert brief(ask_once(backend, "http://127.0.0.1:9")) == (200, b"override")
    AsyncRunner(config_for("http://127.0.0.1:9")).reset()


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


def test_exception_of_a_script_propagates(transport_override: HeldTransport) -> None:
    def script() -> Script[None]:
        yield share()
        raise LookupError("of the script")

    async def main() -> None:
        async with opened() as runner:
            await runner.run(script())

    with pytest.raises(LookupError, match="of the script"):
        anyio.run(main)


@both
def test_script_can_handle_exception_of_a_shared_fetch(backend: Backend, transport_override: HeldTransport) -> None:
    """The middleware refuses the request, and the failed fetch is not in flight any more."""

    def fails() -> Script[None]:
        raise LookupError("of the fetch")
        yield

    def script() -> Script[str]:
        try:
            yield Share("key", fails)
        except LookupError as error:
            resume = yield Share("key", send_all)
            return f"{error}, then {type(resume.answer).__name__}"
        return "not raised"

    async def main() -> str:
        async with opened() as runner:
            return await runner.run(script())

    assert anyio.run(main, backend=backend) == "of the fetch, then Led"


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


def test_script_is_resumed_with_both_clocks(transport_override: HeldTransport) -> None:
    def script() -> Script[Resume]:
        return (yield share())

    async def main() -> Resume:
        async with opened() as runner:
            return await runner.run(script())

    resume = anyio.run(main)
    assert abs(resume.clocks.wall - time.time()) < 5
    assert abs(resume.clocks.mono - time.monotonic()) < 5


@both
def test_script_is_closed_when_its_task_is_cancelled(backend: Backend, transport_override: HeldTransport) -> None:
    closed = []

    def script() -> Script[None]:
        try:
            yield Call("GET", "http://127.0.0.1:9/", max_bytes=1)
        finally:
            closed.append(True)

    running = script()

    async def main() -> None:
        transport_override.go = anyio.Event()
        async with opened() as runner:
            with anyio.move_on_after(0.02):
                await runner.run(running)

    anyio.run(main, backend=backend)
    assert closed == [True]


@both
def test_concurrent_callers_with_equal_keys_share_one_fetch(
    backend: Backend, transport_override: HeldTransport
) -> None:
    """With any number of followers: `max_waiters` applies to threads."""

    async def main() -> None:
        transport_override.go = anyio.Event()
        ends: list[ShareEnd] = []

        async def join() -> None:
            ends.append(await runner.run(share_end(share(max_waiters=4))))

        async with opened() as runner:
            async with anyio.create_task_group() as group:
                for _ in range(100):
                    group.start_soon(join)
                await wait_until_async(lambda: transport_override.calls == 1)
                await anyio.sleep(0.01)
                transport_override.go.set()
            assert runner._here().in_flight == {}
        assert ends == [ShareEnd.DONE] * 100
        assert transport_override.calls == 1

    anyio.run(main, backend=backend)


@both
def test_follower_with_wait_zero_returns_at_once(backend: Backend, transport_override: HeldTransport) -> None:
    """And one with a limit after its `wait`, or when its own time budget is spent."""

    async def main() -> None:
        transport_override.go = anyio.Event()
        async with opened(timeout=0.5) as runner, anyio.create_task_group() as group:
            group.start_soon(runner.run, share_end(share()))
            await wait_until_async(lambda: transport_override.calls == 1)
            began = time.monotonic()
            assert await runner.run(share_end(share(wait=0))) is ShareEnd.TIMED_OUT
            assert await runner.run(share_end(share(wait=0.05))) is ShareEnd.TIMED_OUT
            assert time.monotonic() - began < 0.45
            assert await runner.run(share_end(share())) is ShareEnd.TIMED_OUT
            assert 0.55 <= time.monotonic() - began < 2
            transport_override.go.set()

    anyio.run(main, backend=backend)


@both
def test_leader_stops_after_its_budget(backend: Backend) -> None:
    answers: list[Answer] = []

    def fetching() -> Script[None]:
        answers.append((yield Call("GET", server.url, max_bytes=10)).answer)

    async def main() -> ShareEnd:
        async with opened(server.url) as runner:
            return await runner.run(share_end(Share("key", fetching, budget=0.1)))

    with Loopback(hostile.silence) as server:
        began = time.monotonic()
        assert anyio.run(main, backend=backend) is ShareEnd.DONE
        assert time.monotonic() - began < 2
    assert [brief(each) for each in answers] == [NoReplyKind.TIMED_OUT]


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


def test_leader_and_follower_can_be_cancelled_by_asyncio(transport_override: HeldTransport) -> None:
    """By `Task.cancel`, as `asyncio.wait_for` and servers do."""
    import asyncio

    async def main() -> None:
        transport_override.go = anyio.Event()
        runner = AsyncRunner(config_for("http://127.0.0.1:9"))
        leader, waiter, other = (asyncio.create_task(runner.run(share_end(share()))) for _ in range(3))
        await wait_until_async(lambda: transport_override.calls == 1)
        leader.cancel()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert await other is ShareEnd.DONE
        assert runner._here().in_flight == {}

    asyncio.run(main())


def header(kid: str) -> str:
    """Return the header part of a token signed by `kid`."""
    return Signer(1, kid).token({}).partition(".")[0]


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
