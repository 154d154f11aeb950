"""The threaded edge, against servers that behave and servers that do not."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stackauth_middleware import ConfigError, Verifier
from stackauth_middleware._core import cache
from stackauth_middleware._core.upstream import (
    Answer,
    Call,
    Led,
    NoReply,
    NoReplyKind,
    Reply,
    Resume,
    Script,
    Share,
    ShareEnd,
)
from stackauth_middleware._io import network, sync_runner
from stackauth_middleware._io.sync_runner import SyncRunner
from tests.unit.io import authority, hostile
from tests.unit.io.loopback import Exchange, Issuer, Loopback, config_for, live_token

SECRET = "ssk_this_is_never_to_be_seen"


def asking(*calls: Call) -> Script[list[Answer]]:
    """Send each call, and return the answers."""
    answers = []
    for call in calls:
        resume = yield call
        answers.append(resume.answer)
    return answers


def ask(runner: SyncRunner, url: str, **headers: str) -> Any:
    """Return the reply, or what kind of failure there was."""
    answer = runner.run(asking(Call("GET", url, headers, max_bytes=hostile.MAX_BYTES)))[0]
    return answer.kind if isinstance(answer, NoReply) else answer


def brief(answer: Answer | NoReplyKind) -> Any:
    answer = answer.kind if isinstance(answer, NoReply) else answer
    return (answer.status, answer.body) if isinstance(answer, Reply) else answer


def joining(flight: Share) -> Script[ShareEnd]:
    resume = yield flight
    assert isinstance(resume.answer, ShareEnd | Led)
    return ShareEnd.DONE if isinstance(resume.answer, Led) else resume.answer


class Gate:
    """A flight's script that stays aloft until it is let go.

    Attributes:
        carried: how many carriers there were.
    """

    def __init__(self) -> None:
        self.carried = 0
        self.aloft = threading.Event()
        self.go = threading.Event()
        self.end: BaseException | None = None

    def __call__(self) -> Script[None]:
        self.carried += 1
        self.aloft.set()
        assert self.go.wait(10)
        if self.end is not None:
            end, self.end = self.end, None
            raise end
        yield from ()

    def flight(self, **limits: Any) -> Share:
        return Share("key", self, **limits)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


def until(true: Callable[[], bool]) -> None:
    """Wait for another thread to get somewhere."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "another thread did not get there"
        time.sleep(0.001)


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", hostile.CASES, ids=hostile.IDS)
def test_conduct_of_a_server(case: hostile.Case, make_runner: Callable[..., SyncRunner]) -> None:
    """Whatever a server does ends in the answer that is due, within the budget and the cap."""
    with Loopback(case.conduct) as server:
        runner = make_runner(server.url, timeout=0.3 if case.outcome is NoReplyKind.TIMED_OUT else 30)
        began = time.monotonic()
        answer = brief(ask(runner, server.url))
        took = time.monotonic() - began
    assert answer == case.outcome
    assert len(server.requests) == 1
    assert took < (2 if case.outcome is NoReplyKind.TIMED_OUT else 20)


def test_two_lengths_are_no_answer(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.two_lengths) as server:
        assert ask(make_runner(server.url), server.url) in (NoReplyKind.BROKEN, NoReplyKind.UNSENT)


def test_an_early_hint_is_not_taken_for_the_answer(make_runner: Callable[..., SyncRunner]) -> None:
    """http.client returns a 103 as the answer, and leaves the real one in the pipe for the next call."""

    def conduct(exchange: Exchange) -> None:
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        exchange.hold(0.05)
        exchange.reply(exchange.target.encode())

    with Loopback(conduct) as server:
        runner = make_runner(server.url)
        assert [ask(runner, f"{server.url}/{at}") for at in range(3)] == [NoReplyKind.BROKEN] * 3
        assert server.connections == 3


def test_a_redirect_is_not_followed(make_runner: Callable[..., SyncRunner]) -> None:
    """Nothing of the call reaches the server that it is redirected to."""
    with Loopback(hostile.whole) as second:
        for status in (301, 302, 303, 307, 308):
            with Loopback(lambda e, s=status: e.reply(b"", s, Location=second.url)) as first:  # type: ignore[misc]
                answer = ask(make_runner(first.url), first.url, **{"x-stack-secret-server-key": SECRET})
            assert isinstance(answer, Reply)
            assert (answer.status, answer.headers["location"]) == (status, second.url)
    assert second.connections == 0


def test_no_cookie_is_kept(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(lambda e: e.reply(b"{}", Set_Cookie="session=of-another; Path=/")) as server:
        runner = make_runner(server.url)
        for _ in range(3):
            ask(runner, server.url)
    assert len(server.requests) == 3
    assert not any("cookie" in each.headers for each in server.requests)


def test_what_is_sent(make_runner: Callable[..., SyncRunner]) -> None:
    """The headers of the call and of every call, and none that a library adds."""
    with Loopback(hostile.whole) as server:
        ask(make_runner(server.url), f"{server.url}/jwks?a=b", **{"x-stack-project-id": "internal"})
    [sent] = server.requests
    assert (sent.method, sent.target) == ("GET", "/jwks?a=b")
    assert sent.headers == {
        "host": f"127.0.0.1:{server.port}",
        "accept-encoding": "identity",
        "user-agent": "stackauth-middleware",
        "x-stack-project-id": "internal",
    }


def test_headers_come_in_lower_case_and_repeated_ones_joined(make_runner: Callable[..., SyncRunner]) -> None:
    text = hostile.OK + "X-A: 1\r\nx-a: 2\r\nCACHE-Control: max-age=1\r\nContent-Length: 0\r\n\r\n"
    with Loopback(lambda e: e.send(text)) as server:
        answer = ask(make_runner(server.url), server.url)
    assert isinstance(answer, Reply)
    assert dict(answer.headers) == {"x-a": "1, 2", "cache-control": "max-age=1", "content-length": "0"}


def test_netrc_is_never_read(
    make_runner: Callable[..., SyncRunner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Loopback(hostile.whole) as server:
        ask(make_runner(server.url), server.url)
        ask(make_runner(server.url, trust_env_proxies=True), server.url)
    assert [each.headers.get("authorization") for each in server.requests] == [None, None]


def test_a_server_with_a_certificate_of_its_own_is_not_asked(
    make_runner: Callable[..., SyncRunner], tmp_path: Path
) -> None:
    with Loopback(hostile.whole, authority.make(tmp_path).server_context()) as server:
        assert ask(make_runner(server.url), server.url) is NoReplyKind.UNSENT
    assert server.requests == []


def test_a_certificate_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said where the edge is made, not 503 for 503 later."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE is '.*missing\.pem'; it must be a file of PEM"):
        SyncRunner(config_for("https://api.example.com"))


def test_no_header_comes_into_a_log(make_runner: Callable[..., SyncRunner], caplog: pytest.LogCaptureFixture) -> None:
    """Neither ours nor the clients' loggers tell a key, not even at DEBUG and when the call fails."""
    caplog.set_level(logging.DEBUG)
    with Loopback(hostile.whole) as server:
        runner = make_runner(server.url)
        assert isinstance(ask(runner, server.url, **{"x-stack-secret-server-key": SECRET}), Reply)
        assert ask(runner, server.url, **{"x-stack-secret-server-key": SECRET + "\n"}) is NoReplyKind.UNSENT
    assert server.connections == 1
    assert SECRET not in caplog.text


# -- time ------------------------------------------------------------------------------------------


def test_one_budget_for_all_calls_of_a_script(make_runner: Callable[..., SyncRunner]) -> None:
    """The second call is cut short by what the first one took; the third is not even begun."""

    def slowly(exchange: Exchange) -> None:
        exchange.hold(0.6)
        exchange.reply()

    with Loopback(slowly) as server:
        runner = make_runner(server.url, timeout=1)
        began = time.monotonic()
        answers = runner.run(asking(*[Call("GET", server.url, max_bytes=10, fresh=True)] * 3))
        took = time.monotonic() - began
    assert [brief(each) for each in answers] == [(200, b""), NoReplyKind.TIMED_OUT, NoReplyKind.TIMED_OUT]
    assert len(server.requests) == 2
    assert took < 1.5


# -- the pool --------------------------------------------------------------------------------------


def test_a_thousand_calls_over_one_connection(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.whole) as server:
        runner = make_runner(server.url)
        for _ in range(1000):
            assert brief(ask(runner, server.url)) == hostile.WHOLE
    assert len(server.requests) == 1000
    assert server.connections == 1


def test_threads_open_a_connection_each_at_most(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.whole) as server, ThreadPoolExecutor(32) as threads:
        runner = make_runner(server.url)
        answers = list(threads.map(lambda _: brief(ask(runner, server.url)), range(400)))
    assert answers == [hostile.WHOLE] * 400
    assert server.connections <= 32


def test_a_pooled_connection_that_was_closed_meanwhile(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.whole) as server:
        runner = make_runner(server.url)
        assert brief(ask(runner, server.url)) == hostile.WHOLE
        server.drop_connections()
        time.sleep(0.02)
        assert brief(ask(runner, server.url)) == hostile.WHOLE
    assert server.connections == 2


def test_a_pooled_connection_that_breaks_under_the_call() -> None:
    """The server closes while the call is under way: one more try, over a new connection, succeeds."""
    issuer = Issuer()

    def conduct(exchange: Exchange) -> None:
        if exchange.number == 2:
            exchange.reset()
        issuer(exchange)

    with Loopback(conduct) as server, Verifier(config_for(server.url)) as verifier:
        assert verifier.verify(live_token()).is_authenticated
        cache.reset_all()
        assert verifier.verify(live_token()).is_authenticated
    assert (len(server.requests), server.connections) == (3, 2)


def test_closing_closes_what_is_pooled(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.whole) as server:
        runner = make_runner(server.url)
        ask(runner, server.url)
        transport = runner._pool()
        assert len(server._open) == 1
        runner.close()
        until(lambda: not server._open)
        assert runner._pool() is not transport


def test_an_answer_that_is_not_read_to_its_end_is_closed(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, whoever still holds it: what is left of it must never be read as the next answer."""
    kept = []
    read = sync_runner._read

    def keeping(response: Any, *args: Any) -> Any:
        kept.append(response)
        return read(response, *args)

    monkeypatch.setattr(sync_runner, "_read", keeping)
    with Loopback(hostile.twenty_megabytes) as server:
        runner = make_runner(server.url)
        assert [ask(runner, server.url) for _ in range(2)] == [NoReplyKind.TOO_LARGE] * 2
        until(lambda: not server._open)
    assert server.connections == 2


def test_closing_opens_again_on_demand(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.whole) as server:
        runner = make_runner(server.url)
        runner.close()
        for _ in range(2):
            assert brief(ask(runner, server.url)) == hostile.WHOLE
            runner.close()
    assert server.connections == 2


def test_with_a_stand_in_no_socket_is_made(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    class TransportOverride:
        def send(self, call: Call, seconds: float) -> Reply:
            assert 0 < seconds <= 30
            return Reply(200, {}, call.url.encode())

    def no_socket(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was made")

    monkeypatch.setattr(socket, "socket", no_socket)
    monkeypatch.setattr(network, "transport_override", TransportOverride())
    runner = make_runner()
    assert brief(ask(runner, "http://127.0.0.1:9/")) == (200, b"http://127.0.0.1:9/")
    runner.reset()


# -- the pump --------------------------------------------------------------------------------------


def test_what_a_script_raises_comes_out(make_runner: Callable[..., SyncRunner]) -> None:
    def script() -> Script[None]:
        yield Share("key", asking)  # type: ignore[arg-type]
        raise LookupError("of the script")

    with pytest.raises(LookupError, match="of the script"):
        make_runner().run(script())


def test_what_a_flight_raises_its_asker_can_handle(make_runner: Callable[..., SyncRunner]) -> None:
    """A door refuses whatever went wrong; and nobody else waits for a flight that is down."""

    def fails() -> Script[None]:
        raise LookupError("of the flight")
        yield  # type: ignore[unreachable]

    def script() -> Script[str]:
        try:
            yield Share("key", fails)
        except LookupError as error:
            resume = yield Share("key", asking)  # type: ignore[arg-type]
            return f"{error}, then {type(resume.answer).__name__}"
        return "not raised"

    assert make_runner().run(script()) == "of the flight, then Led"


def test_what_is_raised_shows_no_variable(make_runner: Callable[..., SyncRunner]) -> None:
    """Those of ours and of the client hold keys and tokens; the caller's own stay."""

    def script() -> Script[None]:
        canary = "canary of the script"
        yield Share("key", asking)  # type: ignore[arg-type]
        raise LookupError(len(canary))

    own = "canary of the caller"
    with pytest.raises(LookupError) as raised:
        make_runner().run(script())
    shown = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
    assert "canary of the script" not in shown.replace('canary = "canary of the script"', "")
    assert own in shown


def test_a_script_is_closed_when_its_caller_is_killed(
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


def test_both_clocks_come_with_every_answer(make_runner: Callable[..., SyncRunner]) -> None:
    def script() -> Script[Resume]:
        return (yield Share("key", asking))  # type: ignore[arg-type]

    resume = make_runner().run(script())
    assert abs(resume.clocks.wall - time.time()) < 5
    assert abs(resume.clocks.mono - time.monotonic()) < 5


# -- flights ---------------------------------------------------------------------------------------


def test_equal_flights_are_carried_once(make_runner: Callable[..., SyncRunner], threads: ThreadPoolExecutor) -> None:
    runner, gate = make_runner(), Gate()
    ends = [threads.submit(runner.run, joining(gate.flight())) for _ in range(32)]
    until(lambda: gate.aloft.is_set() and runner._flights["key"].waiters == 31)
    assert runner.run(joining(Share("another", asking))) is ShareEnd.DONE  # type: ignore[arg-type]
    gate.go.set()
    assert [each.result(10) for each in ends] == [ShareEnd.DONE] * 32
    assert gate.carried == 1
    assert runner._flights == {}


def test_who_does_not_wait_goes_on(make_runner: Callable[..., SyncRunner], threads: ThreadPoolExecutor) -> None:
    runner, gate = make_runner(), Gate()
    token_source = threads.submit(runner.run, joining(gate.flight(wait=0)))
    until(gate.aloft.is_set)
    assert runner.run(joining(gate.flight(wait=0))) is ShareEnd.TIMED_OUT
    gate.go.set()
    assert token_source.result(10) is ShareEnd.DONE


def test_at_most_so_many_wait(make_runner: Callable[..., SyncRunner], threads: ThreadPoolExecutor) -> None:
    runner, gate = make_runner(), Gate()
    token_source = threads.submit(runner.run, joining(gate.flight(max_waiters=4)))
    until(gate.aloft.is_set)
    waiting = [threads.submit(runner.run, joining(gate.flight(max_waiters=4))) for _ in range(4)]
    until(lambda: runner._flights["key"].waiters == 4)
    assert [runner.run(joining(gate.flight(max_waiters=4))) for _ in range(10)] == [ShareEnd.FULL] * 10
    gate.go.set()
    assert [each.result(10) for each in (token_source, *waiting)] == [ShareEnd.DONE] * 5


def test_flights_of_a_pool_share_the_limit_of_waiting_threads(
    make_runner: Callable[..., SyncRunner], threads: ThreadPoolExecutor
) -> None:
    runner, gates = make_runner(), [Gate(), Gate()]
    flights = [gate.flight(max_waiters=2)._replace(key=at, pool="pool") for at, gate in enumerate(gates)]
    ends = [threads.submit(runner.run, joining(flight)) for flight in flights]
    until(lambda: all(gate.aloft.is_set() for gate in gates))
    ends += [threads.submit(runner.run, joining(flight)) for flight in flights]
    until(lambda: sum(each.waiters for each in runner._flights.values()) == 2)
    assert [runner.run(joining(flight)) for flight in flights] == [ShareEnd.FULL] * 2
    other = Gate()
    ends += [threads.submit(runner.run, joining(other.flight(max_waiters=2))) for _ in range(3)]
    until(lambda: other.aloft.is_set() and runner._flights["key"].waiters == 2)
    for gate in (*gates, other):
        gate.go.set()
    assert [each.result(10) for each in ends] == [ShareEnd.DONE] * 7


def test_a_waiter_has_limits_of_its_own(make_runner: Callable[..., SyncRunner], threads: ThreadPoolExecutor) -> None:
    """It gives up after what it can spend on waiting, or when its own budget is spent; its place is free again."""
    runner, gate = make_runner(timeout=0.5), Gate()
    token_source = threads.submit(runner.run, joining(gate.flight()))
    until(gate.aloft.is_set)
    began = time.monotonic()
    assert runner.run(joining(gate.flight(wait=0.05))) is ShareEnd.TIMED_OUT
    assert time.monotonic() - began < 0.45
    assert runner.run(joining(gate.flight())) is ShareEnd.TIMED_OUT
    assert 0.55 <= time.monotonic() - began < 2
    assert runner._flights["key"].waiters == 0
    gate.go.set()
    assert token_source.result(10) is ShareEnd.DONE


def test_a_waiter_whose_time_is_up_as_the_flight_lands_has_no_lock_to_let_go(
    make_runner: Callable[..., SyncRunner], threads: ThreadPoolExecutor
) -> None:
    """Between the two steps of landing the lock is the carrier's, and tracers and free threads do stop there."""
    runner, gate = make_runner(), Gate()
    token_source = threads.submit(runner.run, joining(gate.flight()))
    until(gate.aloft.is_set)
    aloft = runner._flights["key"]
    lock, landing, waiter_is_gone = aloft.lock, threading.Event(), threading.Event()

    class LandingSlowly:
        def acquire(self, *, timeout: float) -> bool:
            gate.go.set()
            assert landing.wait(10)
            return lock.acquire(timeout=timeout)

        def release(self) -> None:
            if not landing.is_set():
                landing.set()
                assert waiter_is_gone.wait(10)
            lock.release()

    aloft.lock = LandingSlowly()  # type: ignore[assignment]
    assert runner.run(joining(gate.flight(wait=0.01))) is ShareEnd.DONE
    waiter_is_gone.set()
    assert token_source.result(10) is ShareEnd.DONE
    assert runner._flights == {}


def test_a_carrier_spends_what_it_can_and_no_more(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.silence) as server:
        runner = make_runner(server.url, timeout=5)
        answers: list[Answer] = []

        def fetching() -> Script[None]:
            answers.append((yield Call("GET", server.url, max_bytes=10)).answer)

        began = time.monotonic()
        assert runner.run(joining(Share("key", fetching, budget=0.1))) is ShareEnd.DONE
        assert time.monotonic() - began < 2
    assert [brief(each) for each in answers] == [NoReplyKind.TIMED_OUT]


@pytest.mark.parametrize("death", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_killed_carrier_harms_nobody(
    death: type[BaseException], make_runner: Callable[..., SyncRunner], threads: ThreadPoolExecutor
) -> None:
    """Those who waited are let go to look again, and one of them takes over."""
    runner, gate = make_runner(), Gate()

    def looking_again() -> Script[int]:
        looks = 0
        while gate.end is not None or not looks:
            yield gate.flight()
            looks += 1
        return looks

    gate.end = death()
    token_source: Future[Any] = threads.submit(runner.run, joining(gate.flight()))
    until(gate.aloft.is_set)
    followers = [threads.submit(runner.run, looking_again()) for _ in range(8)]
    until(lambda: runner._flights["key"].waiters == 8)
    gate.go.set()
    assert isinstance(token_source.exception(10), death)
    assert [each.result(10) for each in followers] == [1] * 8
    assert runner._flights == {}
    assert runner.run(joining(gate.flight())) is ShareEnd.DONE


def test_a_signal_between_taking_a_flight_and_carrying_it(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flight that nobody carries must not stay: all who came later would wait for it in vain."""
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
        runner.run(joining(Gate().flight()))
    assert runner._flights == {}


# -- cold starts, floods, rotations: the edge under a verifier --------------------------------------


def test_threads_on_a_cold_start_cause_one_flight(threads: ThreadPoolExecutor) -> None:
    """1,000 verifications by 32 threads, each with a token of its own."""
    issuer = Issuer()
    issuer.held = threading.Event()
    tokens = [live_token(sub=f"22222222-2222-4222-8222-{at:012x}") for at in range(1000)]
    with Loopback(issuer) as server, Verifier(config_for(server.url)) as verifier, ThreadPoolExecutor(32) as pool:
        users = [pool.submit(verifier.verify, each) for each in tokens]
        until(lambda: any(each.waiters == 31 for each in verifier.network._flights.values()))
        issuer.held.set()
        assert len({each.result(30).user_id for each in users}) == 1000
    assert len(server.requests) == 1


def test_the_last_waiter_of_a_dead_carrier_has_its_own_deadline(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The carrier dies in its send late in its own budget; who takes over still has the rest of its own."""
    issuer = Issuer()
    dying = threading.Event()
    sends = iter(range(100))
    send = SyncRunner._send

    def mortal(self: SyncRunner, call: Call, deadline: float) -> Reply | NoReply:
        if next(sends) == 0:
            dying.wait(10)
            raise KeyboardInterrupt
        return send(self, call, deadline)

    monkeypatch.setattr(SyncRunner, "_send", mortal)
    with Loopback(issuer) as server, Verifier(config_for(server.url, timeout=0.5)) as verifier:
        token_source = threads.submit(verifier.verify, live_token())
        until(lambda: bool(verifier.network._flights))
        time.sleep(0.1)
        followers = [threads.submit(verifier.verify, live_token(sub=sub(at))) for at in range(5)]
        until(lambda: any(each.waiters == 5 for each in verifier.network._flights.values()))
        dying.set()
        assert isinstance(token_source.exception(10), KeyboardInterrupt)
        assert {each.result(10).user_id for each in followers} == {sub(at) for at in range(5)}
    assert len(server.requests) == 1


def sub(at: int) -> str:
    return f"22222222-2222-4222-8222-{at:012x}"


# -- processes -------------------------------------------------------------------------------------

forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
# A process with threads may deadlock in a child, says Python 3.12; that ours does not is the subject.
with_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def in_a_child(work: Callable[[], bool]) -> bool:
    """Say whether `work` is true in a forked child, which has 20 seconds."""
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage does not see a child that is killed
        status = 2
        try:
            signal.alarm(20)
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@forking
@with_threads
def test_a_child_forked_after_the_first_use_verifies(threads: ThreadPoolExecutor) -> None:
    """As under ``gunicorn --preload``: with the parent's keys, with none, and over connections of its own."""
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
def test_a_fork_while_a_thread_holds_the_lock_and_has_a_flight(threads: ThreadPoolExecutor) -> None:
    issuer = Issuer()
    issuer.held = held = threading.Event()
    with Loopback(issuer) as server, Verifier(config_for(server.url)) as verifier:
        token_source = threads.submit(verifier.verify, live_token())
        until(lambda: len(server.requests) == 1)
        holding, done = threading.Event(), threading.Event()

        def hold_every_lock() -> None:
            with contextlib.ExitStack() as stack:
                stack.enter_context(verifier.network._lock)
                stack.enter_context(cache._living_lock)
                for one in list(cache._living):
                    if isinstance(one, cache.Atomic | cache.LRUCache):
                        stack.enter_context(one._lock)
                holding.set()
                done.wait(30)

        holder = threads.submit(hold_every_lock)
        assert holding.wait(10)

        def let_go_when_the_child_asks() -> None:
            until(lambda: len(server.requests) == 2)
            held.set()

        threads.submit(let_go_when_the_child_asks)
        try:
            assert in_a_child(lambda: verifier.verify(live_token()).is_authenticated)
        finally:
            done.set()
            held.set()
        holder.result(10)
        assert token_source.result(10).is_authenticated
