"""The runner for threads: scripts, single flight, forks."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from stackauth_middleware import Verifier
from stackauth_middleware._core import cache
from stackauth_middleware._core.upstream import (
    Call,
    NoReply,
    Reply,
    Script,
    Share,
    ShareEnd,
)
from stackauth_middleware._io import network
from stackauth_middleware._io.http_requests import RequestsClient
from stackauth_middleware._io.sync_runner import SyncRunner
from tests.unit.io.either import Kind
from tests.unit.io.helpers import (
    forking,
    in_a_child,
    send_all,
    share_end,
    sub,
    wait_until,
    with_threads,
)
from tests.unit.io.loopback import (
    Issuer,
    Loopback,
    config_for,
    live_token,
)
from tests.unit.io.runner_cases import *  # noqa: F403 - the tests of both


@pytest.fixture(params=["threads"])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


class Gate:
    """The script of a shared fetch, which blocks until `go` is set.

    Attributes:
        runs: how often it was run.
        started: set when it runs.
        end: an exception for the next run to raise.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.started = threading.Event()
        self.go = threading.Event()
        self.end: BaseException | None = None

    def __call__(self) -> Script[None]:
        self.runs += 1
        self.started.set()
        assert self.go.wait(10)
        if self.end is not None:
            end, self.end = self.end, None
            raise end
        yield from ()

    def share(self, **limits: Any) -> Share:
        return Share("key", self, **limits)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


def test_traceback_frames_hold_no_local_variables(make_runner: Callable[..., SyncRunner]) -> None:
    """Our frames and those of the HTTP client hold keys and tokens; the caller's variables remain."""

    def script() -> Script[None]:
        canary = "canary of the script"
        yield Share("key", send_all)
        raise LookupError(len(canary))

    own = "canary of the caller"
    with pytest.raises(LookupError) as raised:
        make_runner().run(script())
    shown = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
    assert "canary of the script" not in shown.replace('canary = "canary of the script"', "")
    assert own in shown


def test_script_is_closed_when_its_thread_is_killed(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class TransportOverride:
        def send(self, call: Call, seconds: float) -> Reply:
            raise SystemExit

    def script() -> Script[None]:
        try:
            yield Call("GET", "http://127.0.0.1:9/", max_bytes=1)
        finally:
            closed.append(True)

    monkeypatch.setattr(network, "transport_override", TransportOverride())
    running = script()
    with pytest.raises(SystemExit):
        make_runner().run(running)
    assert closed == [True]


def test_number_of_followers_is_limited(make_runner: Callable[..., SyncRunner], threads: ThreadPoolExecutor) -> None:
    runner, gate = make_runner(), Gate()
    leader = threads.submit(runner.run, share_end(gate.share(max_waiters=4)))
    wait_until(gate.started.is_set)
    waiting = [threads.submit(runner.run, share_end(gate.share(max_waiters=4))) for _ in range(4)]
    wait_until(lambda: runner._in_flight["key"].waiters == 4)
    assert [runner.run(share_end(gate.share(max_waiters=4))) for _ in range(10)] == [ShareEnd.FULL] * 10
    gate.go.set()
    assert [each.result(10) for each in (leader, *waiting)] == [ShareEnd.DONE] * 5


def test_fetches_of_a_pool_share_the_limit_of_followers(
    make_runner: Callable[..., SyncRunner], threads: ThreadPoolExecutor
) -> None:
    runner, gates = make_runner(), [Gate(), Gate()]
    shares = [gate.share(max_waiters=2)._replace(key=at, pool="pool") for at, gate in enumerate(gates)]
    ends = [threads.submit(runner.run, share_end(flight)) for flight in shares]
    wait_until(lambda: all(gate.started.is_set() for gate in gates))
    ends += [threads.submit(runner.run, share_end(flight)) for flight in shares]
    wait_until(lambda: sum(each.waiters for each in runner._in_flight.values()) == 2)
    assert [runner.run(share_end(flight)) for flight in shares] == [ShareEnd.FULL] * 2
    other = Gate()
    ends += [threads.submit(runner.run, share_end(other.share(max_waiters=2))) for _ in range(3)]
    wait_until(lambda: other.started.is_set() and runner._in_flight["key"].waiters == 2)
    for gate in (*gates, other):
        gate.go.set()
    assert [each.result(10) for each in ends] == [ShareEnd.DONE] * 7


def test_follower_that_times_out_as_the_leader_finishes_does_not_release_the_lock(
    make_runner: Callable[..., SyncRunner], threads: ThreadPoolExecutor
) -> None:
    """The leader marks the fetch as done before it releases the lock, and can be suspended in between."""
    runner, gate = make_runner(), Gate()
    leader = threads.submit(runner.run, share_end(gate.share()))
    wait_until(gate.started.is_set)
    fetch = runner._in_flight["key"]
    lock, releasing, follower_is_done = fetch.lock, threading.Event(), threading.Event()

    class SlowRelease:
        def acquire(self, *, timeout: float) -> bool:
            gate.go.set()
            assert releasing.wait(10)
            return lock.acquire(timeout=timeout)

        def release(self) -> None:
            if not releasing.is_set():
                releasing.set()
                assert follower_is_done.wait(10)
            lock.release()

    fetch.lock = SlowRelease()
    assert runner.run(share_end(gate.share(wait=0.01))) is ShareEnd.DONE
    follower_is_done.set()
    assert leader.result(10) is ShareEnd.DONE
    assert runner._in_flight == {}


@pytest.mark.parametrize("death", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_followers_of_a_killed_leader_look_again(
    death: type[BaseException], make_runner: Callable[..., SyncRunner], threads: ThreadPoolExecutor
) -> None:
    """Followers check the cache again, and one of them leads."""
    runner, gate = make_runner(), Gate()

    def looking_again() -> Script[int]:
        looks = 0
        while gate.end is not None or not looks:
            yield gate.share()
            looks += 1
        return looks

    gate.end = death()
    leader: Future[Any] = threads.submit(runner.run, share_end(gate.share()))
    wait_until(gate.started.is_set)
    followers = [threads.submit(runner.run, looking_again()) for _ in range(8)]
    wait_until(lambda: runner._in_flight["key"].waiters == 8)
    gate.go.set()
    assert isinstance(leader.exception(10), death)
    assert [each.result(10) for each in followers] == [1] * 8
    assert runner._in_flight == {}
    assert runner.run(share_end(gate.share())) is ShareEnd.DONE


def test_signal_before_the_leader_starts_leaves_no_fetch_in_flight(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch without a leader would block all later callers."""
    runner = make_runner()

    class Interrupted:
        left = 1

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            if self.left:
                self.left -= 1
                raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_lock", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        runner.run(share_end(Gate().share()))
    assert runner._in_flight == {}


def test_follower_of_a_dead_leader_keeps_its_own_deadline(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader dies late in its time budget; a follower that leads has the rest of its own."""
    issuer = Issuer()
    dying = threading.Event()
    sends = iter(range(100))
    send = RequestsClient.send

    def mortal(self: RequestsClient, call: Call, deadline: float) -> Reply | NoReply:
        if next(sends) == 0:
            dying.wait(10)
            raise KeyboardInterrupt
        return send(self, call, deadline)

    monkeypatch.setattr(RequestsClient, "send", mortal)
    with Loopback(issuer) as server, Verifier(config_for(server.url, timeout=0.5)) as verifier:
        leader = threads.submit(verifier.verify, live_token())
        wait_until(lambda: bool(verifier._runner._in_flight))
        time.sleep(0.1)
        followers = [threads.submit(verifier.verify, live_token(sub=sub(at))) for at in range(5)]
        wait_until(lambda: any(each.waiters == 5 for each in verifier._runner._in_flight.values()))
        dying.set()
        assert isinstance(leader.exception(10), KeyboardInterrupt)
        assert {each.result(10).user_id for each in followers} == {sub(at) for at in range(5)}
    assert len(server.requests) == 1


@forking
@with_threads
def test_forked_child_verifies_over_its_own_connections(threads: ThreadPoolExecutor) -> None:
    """As under ``gunicorn --preload``, with the parent's keys and without keys."""
    with Loopback(Issuer()) as server, Verifier(config_for(server.url)) as verifier:
        verifier.verify(live_token())

        def verifies_and_fetches() -> bool:
            verifier.verify(live_token())
            cache.reset_all()
            return verifier.verify(live_token(sub=sub(1))).user_id == sub(1)

        assert in_a_child(verifies_and_fetches)
        assert (len(server.requests), server.connections) == (2, 2)
        cache.reset_all()
        verifier.verify(live_token())
        assert (len(server.requests), server.connections) == (3, 2)  # the parent's connection is untouched


@forking
@with_threads
def test_forked_child_verifies_while_locks_were_held_and_a_fetch_in_flight(threads: ThreadPoolExecutor) -> None:
    issuer = Issuer()
    issuer.held = held = threading.Event()
    with Loopback(issuer) as server, Verifier(config_for(server.url)) as verifier:
        leader = threads.submit(verifier.verify, live_token())
        wait_until(lambda: len(server.requests) == 1)
        holding, done = threading.Event(), threading.Event()

        def hold_all_locks() -> None:
            with contextlib.ExitStack() as stack:
                stack.enter_context(verifier._runner._lock)
                stack.enter_context(cache._registered_lock)
                for one in list(cache._registered):
                    if isinstance(one, cache.Atomic | cache.LRUCache):
                        stack.enter_context(one._lock)
                holding.set()
                done.wait(30)

        holder = threads.submit(hold_all_locks)
        assert holding.wait(10)

        def release_when_the_child_calls() -> None:
            wait_until(lambda: len(server.requests) == 2)
            held.set()

        threads.submit(release_when_the_child_calls)
        try:
            assert in_a_child(lambda: verifier.verify(live_token()).is_authenticated)
        finally:
            done.set()
            held.set()
        holder.result(10)
        assert leader.result(10).is_authenticated
