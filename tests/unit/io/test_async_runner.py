"""The asynchronous edge, under asyncio and trio, against servers that behave and servers that do not."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from stackauth_middleware import AsyncVerifier, ConfigError, ErrorCode, RefusedError
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
from stackauth_middleware._core.users import UserType
from stackauth_middleware._io import async_runner, network
from stackauth_middleware._io.async_runner import AsyncRunner, beside
from tests.unit.core.helpers import SIGNERS, Signer
from tests.unit.io import authority, hostile
from tests.unit.io.loopback import (
    BACKENDS,
    Backend,
    Exchange,
    Issuer,
    Loopback,
    Skew,
    config_for,
    deaf_address,
    live_token,
)
from tests.unit.io.test_deadline_adapter import closed_address, tunnel
from tests.unit.io.test_sync_runner import SECRET, brief, forking, in_a_child, sub, with_threads

both = pytest.mark.parametrize("backend", BACKENDS)


@contextlib.asynccontextmanager
async def opened(url: str = "http://127.0.0.1:9", **settings: Any) -> AsyncIterator[AsyncRunner]:
    runner = AsyncRunner(config_for(url, **settings))
    try:
        yield runner
    finally:
        with anyio.CancelScope(shield=True):
            await runner.aclose()


def asking(*calls: Call) -> Script[list[Answer]]:
    """Send each call, and return the answers."""
    answers = []
    for call in calls:
        resume = yield call
        answers.append(resume.answer)
    return answers


async def ask(runner: AsyncRunner, url: str, **headers: str) -> Any:
    """Return the reply, or what kind of failure there was."""
    answer = (await runner.run(asking(Call("GET", url, headers, max_bytes=hostile.MAX_BYTES))))[0]
    return answer.kind if isinstance(answer, NoReply) else answer


def ask_once(backend: Backend, url: str, **settings: Any) -> Any:
    async def main() -> Any:
        async with opened(url, **settings) as runner:
            return await ask(runner, url)

    return anyio.run(main, backend=backend)


def joining(flight: Share) -> Script[ShareEnd]:
    resume = yield flight
    assert isinstance(resume.answer, ShareEnd | Led)
    return ShareEnd.DONE if isinstance(resume.answer, Led) else resume.answer


async def gathered(*work: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Return what each of `work`, run at once, returns."""
    results: dict[int, Any] = {}

    async def one(at: int) -> None:
        results[at] = await work[at]()

    async with anyio.create_task_group() as group:
        for at in range(len(work)):
            group.start_soon(one, at)
    return [results[at] for at in range(len(work))]


async def until(true: Callable[[], bool]) -> None:
    """Wait for another task or thread to get somewhere."""
    with anyio.fail_after(20):
        while not true():
            await anyio.sleep(0.001)


class HeldStandIn:
    """A stand-in whose answers wait until they are let go."""

    def __init__(self) -> None:
        self.calls = 0
        self.go: anyio.Event | None = None

    async def asend(self, call: Call, seconds: float) -> Reply:
        self.calls += 1
        if self.go is not None:
            await self.go.wait()
        return Reply(200, {}, b"stand-in")


@pytest.fixture
def transport_override(monkeypatch: pytest.MonkeyPatch) -> HeldStandIn:
    held = HeldStandIn()
    monkeypatch.setattr(network, "transport_override", held)
    return held


def flight(**limits: Any) -> Share:
    """A flight that makes one call."""

    def script() -> Script[None]:
        yield Call("GET", "http://127.0.0.1:9/", max_bytes=10)

    return Share("key", script, **limits)


# -- answers ---------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("case", hostile.CASES, ids=hostile.IDS)
def test_conduct_of_a_server(case: hostile.Case, backend: Backend) -> None:
    """Whatever a server does ends in the same answer as over the threaded edge, within the budget and the cap."""
    timeout = 0.3 if case.outcome is NoReplyKind.TIMED_OUT else 30
    with Loopback(case.conduct) as server:
        began = time.monotonic()
        answer = brief(ask_once(backend, server.url, timeout=timeout))
        took = time.monotonic() - began
    assert answer == case.outcome
    assert len(server.requests) == 1
    assert took < (2 if case.outcome is NoReplyKind.TIMED_OUT else 20)


@both
def test_two_lengths_are_no_answer(backend: Backend) -> None:
    with Loopback(hostile.two_lengths) as server:
        assert ask_once(backend, server.url) in (NoReplyKind.BROKEN, NoReplyKind.UNSENT)


@both
def test_an_early_hint_is_not_taken_for_the_answer(backend: Backend) -> None:
    def conduct(exchange: Exchange) -> None:
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        exchange.hold(0.02)
        exchange.reply(exchange.target.encode())

    async def main() -> list[Any]:
        async with opened(server.url) as runner:
            return [brief(await ask(runner, f"{server.url}/{at}")) for at in range(3)]

    with Loopback(conduct) as server:
        assert anyio.run(main, backend=backend) == [(200, b"/0"), (200, b"/1"), (200, b"/2")]


@both
def test_a_redirect_is_not_followed(backend: Backend) -> None:
    """Nothing of the call reaches the server that it is redirected to."""
    with Loopback(hostile.whole) as second:
        for status in (301, 302, 303, 307, 308):
            with Loopback(lambda e, s=status: e.reply(b"", s, Location=second.url)) as first:  # type: ignore[misc]
                answer = ask_once(backend, first.url)
            assert isinstance(answer, Reply)
            assert (answer.status, answer.headers["location"]) == (status, second.url)
    assert second.connections == 0


@both
def test_what_is_sent(backend: Backend) -> None:
    """The headers of the call and of every call, none that a library adds, and no cookie of the answer before."""

    async def main() -> None:
        async with opened(server.url) as runner:
            for _ in range(3):
                await ask(runner, f"{server.url}/jwks?a=b", **{"x-stack-project-id": "internal"})

    with Loopback(lambda e: e.reply(b"{}", Set_Cookie="session=of-another; Path=/")) as server:
        anyio.run(main, backend=backend)
    assert len(server.requests) == 3
    assert {(each.method, each.target) for each in server.requests} == {("GET", "/jwks?a=b")}
    for each in server.requests:
        assert each.headers == {
            "host": f"127.0.0.1:{server.port}",
            "accept-encoding": "identity",
            "user-agent": "stackauth-middleware",
            "x-stack-project-id": "internal",
        }


@both
def test_headers_come_in_lower_case_and_repeated_ones_joined(backend: Backend) -> None:
    text = hostile.OK + "X-A: 1\r\nx-a: 2\r\nCACHE-Control: max-age=1\r\nContent-Length: 0\r\n\r\n"
    with Loopback(lambda e: e.send(text)) as server:
        answer = ask_once(backend, server.url)
    assert isinstance(answer, Reply)
    assert dict(answer.headers) == {"x-a": "1, 2", "cache-control": "max-age=1", "content-length": "0"}


def test_netrc_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Loopback(hostile.whole) as server:
        ask_once("asyncio", server.url)
        ask_once("asyncio", server.url, trust_env_proxies=True)
    assert [each.headers.get("authorization") for each in server.requests] == [None, None]


@both
def test_no_header_comes_into_a_log(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    """Neither ours nor the clients' loggers tell a key, not even at DEBUG and when the call fails."""

    async def main() -> list[Any]:
        async with opened(server.url) as runner:
            return [await ask(runner, server.url, **{"x-stack-secret-server-key": SECRET}) for _ in range(2)]

    caplog.set_level(logging.DEBUG)
    with Loopback(lambda e: hostile.whole(e) if e.number == 1 else hostile.two_lengths(e)) as server:
        answers = anyio.run(main, backend=backend)
    assert brief(answers[0]) == hostile.WHOLE
    assert answers[1] is NoReplyKind.UNSENT
    assert "receive_response_headers.failed" in caplog.text
    assert SECRET not in caplog.text


# -- time and addresses ----------------------------------------------------------------------------


@both
def test_one_budget_for_all_calls_of_a_script(backend: Backend) -> None:
    """The second call is cut short by what the first one took; the third is not even begun."""

    def slowly(exchange: Exchange) -> None:
        exchange.hold(0.6)
        exchange.reply()

    async def main() -> list[Any]:
        async with opened(server.url, timeout=1) as runner:
            return [
                brief(each)
                for each in await runner.run(asking(*[Call("GET", server.url, max_bytes=10, fresh=True)] * 3))
            ]

    with Loopback(slowly) as server:
        began = time.monotonic()
        assert anyio.run(main, backend=backend) == [(200, b""), NoReplyKind.TIMED_OUT, NoReplyKind.TIMED_OUT]
        assert time.monotonic() - began < 1.6
    assert len(server.requests) == 2


def resolving(monkeypatch: pytest.MonkeyPatch, *places: Any) -> None:
    """Have every name resolve to `places`, under both libraries."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]

    async def resolve(*_: Any, **__: Any) -> Any:
        if not found:
            raise socket.gaierror(-2, "Name or service not known")
        return found

    monkeypatch.setattr("anyio._core._sockets.getaddrinfo", resolve)
    monkeypatch.setattr("trio._highlevel_open_tcp_stream.getaddrinfo", resolve)


@both
def test_each_address_of_a_host_is_tried(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past one that refuses and one that never answers, at the same port."""
    with Loopback(hostile.whole) as server, deaf_address("127.0.0.3", server.port) as deaf:
        resolving(monkeypatch, ("127.0.0.2", server.port), deaf, ("127.0.0.1", server.port))
        url = f"http://three.example:{server.port}"
        assert brief(ask_once(backend, url, timeout=5, allow_http=True)) == hostile.WHOLE


@both
def test_a_name_that_does_not_resolve(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch)
    assert ask_once(backend, "http://none.example", allow_http=True) is NoReplyKind.UNSENT


@both
def test_a_port_that_is_closed(backend: Backend) -> None:
    assert ask_once(backend, f"http://127.0.0.1:{closed_address()[1]}") is NoReplyKind.UNSENT


# -- TLS and proxies -------------------------------------------------------------------------------


@both
def test_certificates_of_the_environment(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE is trusted, for the name in the certificate."""
    mine = authority.make(tmp_path)
    with Loopback(hostile.whole, mine.server_context()) as server:
        assert ask_once(backend, server.url) is NoReplyKind.UNSENT
        monkeypatch.setenv("SSL_CERT_FILE", str(mine.file))
        assert brief(ask_once(backend, server.url)) == hostile.WHOLE
        elsewhere = server.url.replace("127.0.0.1", "localhost")
        assert ask_once(backend, elsewhere) is NoReplyKind.UNSENT
    assert len(server.requests) == 1


def test_a_certificate_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE is '.*missing\.pem'; it must be a file of PEM"):
        AsyncRunner(config_for("https://api.example.com"))


@both
@pytest.mark.filterwarnings("ignore:Exception ignored in. <:pytest.PytestUnraisableExceptionWarning")
def test_a_tls_handshake_that_never_ends(backend: Backend) -> None:
    """httpcore leaves the socket of a cancelled handshake to the garbage collector, which complains: here and now."""
    with Loopback(hostile.whole) as silent:  # it waits for the end of an HTTP header, which no handshake has
        began = time.monotonic()
        assert ask_once(backend, silent.url.replace("http:", "https:"), timeout=0.3) is NoReplyKind.TIMED_OUT
        assert time.monotonic() - began < 2
        gc.collect()


@both
def test_a_proxy_is_used_only_where_asked_for(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    with Loopback(lambda e: e.reply(b"proxy")) as proxy, Loopback(hostile.whole) as server:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        assert brief(ask_once(backend, server.url)) == hostile.WHOLE
        assert proxy.connections == 0
        assert brief(ask_once(backend, f"{server.url}/x", trust_env_proxies=True)) == (200, b"proxy")
        assert proxy.targets == [f"{server.url}/x"]
        monkeypatch.setenv("no_proxy", f"127.0.0.1:{server.port}")
        assert brief(ask_once(backend, server.url, trust_env_proxies=True)) == hostile.WHOLE


@pytest.mark.parametrize("proxy_speaks_tls", [False, True])
def test_a_tunnel_through_a_proxy(proxy_speaks_tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificates of the environment hold for the proxy, too; its password goes to it alone."""
    mine = authority.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(mine.file))
    tls = mine.server_context() if proxy_speaks_tls else None
    with Loopback(hostile.whole, mine.server_context()) as server, Loopback(tunnel, tls) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("://", "://somebody:word@"))
        assert brief(ask_once("asyncio", server.url, trust_env_proxies=True)) == hostile.WHOLE
    assert [each.method for each in proxy.requests] == ["CONNECT"]
    assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")
    assert not any("proxy-authorization" in each.headers for each in server.requests)


def test_a_proxy_that_is_no_http_proxy_comes_up_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the constructor it is a failure of the call: nothing is raised, and nobody goes round the proxy."""

    async def main() -> Any:
        async with opened(server.url, trust_env_proxies=True) as runner:
            monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
            return await ask(runner, server.url)

    with Loopback(hostile.whole) as server:
        assert anyio.run(main) is NoReplyKind.UNSENT
    assert server.connections == 0


# -- the pool --------------------------------------------------------------------------------------


@both
def test_a_thousand_calls_open_a_handful_of_connections(backend: Backend) -> None:
    async def main() -> None:
        async def fifty() -> None:
            for _ in range(50):
                assert brief(await ask(runner, server.url)) == hostile.WHOLE

        async with opened(server.url) as runner:
            await gathered(*[fifty] * 20)

    with Loopback(hostile.whole) as server:
        anyio.run(main, backend=backend)
    assert len(server.requests) == 1000
    assert server.connections <= 40


@both
def test_a_pooled_connection_that_was_closed_meanwhile(backend: Backend) -> None:
    async def main() -> None:
        async with opened(server.url) as runner:
            assert brief(await ask(runner, server.url)) == hostile.WHOLE
            server.drop_connections()
            await anyio.sleep(0.02)
            assert brief(await ask(runner, server.url)) == hostile.WHOLE

    with Loopback(hostile.whole) as server:
        anyio.run(main, backend=backend)
    assert server.connections == 2


@both
def test_a_pooled_connection_that_breaks_under_the_call(backend: Backend) -> None:
    """The server closes while the call is under way: one more try, over a new connection, succeeds."""
    issuer = Issuer()

    def conduct(exchange: Exchange) -> None:
        if exchange.number == 2:
            exchange.reset()
        issuer(exchange)

    async def main() -> None:
        async with AsyncVerifier(config_for(server.url)) as verifier:
            for _ in range(2):
                assert (await verifier.verify(live_token())).is_authenticated
                cache.reset_all()

    with Loopback(conduct) as server:
        anyio.run(main, backend=backend)
    assert (len(server.requests), server.connections) == (3, 2)


@both
def test_closing_closes_what_is_pooled_and_opens_again_on_demand(backend: Backend) -> None:
    async def main() -> None:
        runner = AsyncRunner(config_for(server.url))
        await runner.aclose()
        for _ in range(2):
            assert brief(await ask(runner, server.url)) == hostile.WHOLE
            assert len(server._open) == 1
            await runner.aclose()
            await until(lambda: not server._open)

    with Loopback(hostile.whole) as server:
        anyio.run(main, backend=backend)
    assert server.connections == 2


@both
def test_event_loops_one_after_another_and_in_threads(backend: Backend) -> None:
    """One verifier for all: each loop has connections of its own, and the keys are everybody's."""
    with Loopback(Issuer()) as server:
        verifier = AsyncVerifier(config_for(server.url))

        async def main() -> bool:
            async with verifier:
                cache.reset_all()
                return (await verifier.verify(live_token())).is_authenticated

        def run(_: int) -> bool:
            return anyio.run(main, backend=backend)

        assert [run(at) for at in range(3)] == [True] * 3
        assert server.connections == 3
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(run, range(8))) == [True] * 8
        assert 3 < server.connections <= 11


def test_configs_in_one_loop_are_kept_apart(transport_override: HeldStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where run variables go by their names, as in older releases of anyio: equal flights of two are two."""
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
        edges = [AsyncRunner(config_for("http://127.0.0.1:9")) for _ in range(2)]
        transport_override.go = anyio.Event()
        async with anyio.create_task_group() as group:
            for runner in edges:
                group.start_soon(runner.run, joining(flight()))
            await until(lambda: transport_override.calls == 2)
            edges[0].after_fork()
            group.start_soon(edges[0].run, joining(flight()))
            await until(lambda: transport_override.calls == 3)
            transport_override.go.set()

    anyio.run(main)


@both
def test_with_a_stand_in_no_socket_is_made(
    backend: Backend, transport_override: HeldStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(AsyncRunner, "_new_pool", none)
    assert brief(ask_once(backend, "http://127.0.0.1:9")) == (200, b"stand-in")
    AsyncRunner(config_for("http://127.0.0.1:9")).reset()


@both
def test_what_nobody_expects_comes_out_as_it_is(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """In no group, though the call has a task of its own."""
    failure = LookupError("of a library")

    def fail(*_: Any) -> Any:
        raise failure

    monkeypatch.setattr(AsyncRunner, "_new_pool", fail)
    with pytest.raises(LookupError) as caught:
        ask_once(backend, "http://127.0.0.1:9")
    assert caught.value is failure


# -- the pump --------------------------------------------------------------------------------------


def test_what_a_script_raises_comes_out(transport_override: HeldStandIn) -> None:
    def script() -> Script[None]:
        yield flight()
        raise LookupError("of the script")

    async def main() -> None:
        async with opened() as runner:
            await runner.run(script())

    with pytest.raises(LookupError, match="of the script"):
        anyio.run(main)


@both
def test_what_a_flight_raises_its_asker_can_handle(backend: Backend, transport_override: HeldStandIn) -> None:
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

    async def main() -> str:
        async with opened() as runner:
            return await runner.run(script())

    assert anyio.run(main, backend=backend) == "of the flight, then Led"


@both
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_what_ends_the_process_in_a_call_comes_out_as_it_is(
    end: type[BaseException], backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call has a task of its own, and a server that waits for an interrupt looks into no group."""

    def interrupted(runner: AsyncRunner, url: str) -> None:
        raise end("in the call")

    monkeypatch.setattr(AsyncRunner, "_new_pool", interrupted)
    with pytest.raises(end, match="in the call"):
        ask_once(backend, "http://127.0.0.1:9")


def test_both_clocks_come_with_every_answer(transport_override: HeldStandIn) -> None:
    def script() -> Script[Resume]:
        return (yield flight())

    async def main() -> Resume:
        async with opened() as runner:
            return await runner.run(script())

    resume = anyio.run(main)
    assert abs(resume.clocks.wall - time.time()) < 5
    assert abs(resume.clocks.mono - time.monotonic()) < 5


@both
def test_a_script_is_closed_when_its_task_is_cancelled(backend: Backend, transport_override: HeldStandIn) -> None:
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


# -- flights ---------------------------------------------------------------------------------------


@both
def test_equal_flights_are_carried_once(backend: Backend, transport_override: HeldStandIn) -> None:
    """However many wait: the limit on waiters is for threads."""

    async def main() -> None:
        transport_override.go = anyio.Event()
        ends: list[ShareEnd] = []

        async def join() -> None:
            ends.append(await runner.run(joining(flight(max_waiters=4))))

        async with opened() as runner:
            async with anyio.create_task_group() as group:
                for _ in range(100):
                    group.start_soon(join)
                await until(lambda: transport_override.calls == 1)
                await anyio.sleep(0.01)
                transport_override.go.set()
            assert runner._here().flights == {}
        assert ends == [ShareEnd.DONE] * 100
        assert transport_override.calls == 1

    anyio.run(main, backend=backend)


@both
def test_who_does_not_wait_goes_on(backend: Backend, transport_override: HeldStandIn) -> None:
    """At once, or after what it can spend on waiting, or when its own budget is spent."""

    async def main() -> None:
        transport_override.go = anyio.Event()
        async with opened(timeout=0.5) as runner, anyio.create_task_group() as group:
            group.start_soon(runner.run, joining(flight()))
            await until(lambda: transport_override.calls == 1)
            began = time.monotonic()
            assert await runner.run(joining(flight(wait=0))) is ShareEnd.TIMED_OUT
            assert await runner.run(joining(flight(wait=0.05))) is ShareEnd.TIMED_OUT
            assert time.monotonic() - began < 0.45
            assert await runner.run(joining(flight())) is ShareEnd.TIMED_OUT
            assert 0.55 <= time.monotonic() - began < 2
            transport_override.go.set()

    anyio.run(main, backend=backend)


@both
def test_a_carrier_spends_what_it_can_and_no_more(backend: Backend) -> None:
    answers: list[Answer] = []

    def fetching() -> Script[None]:
        answers.append((yield Call("GET", server.url, max_bytes=10)).answer)

    async def main() -> ShareEnd:
        async with opened(server.url) as runner:
            return await runner.run(joining(Share("key", fetching, budget=0.1)))

    with Loopback(hostile.silence) as server:
        began = time.monotonic()
        assert anyio.run(main, backend=backend) is ShareEnd.DONE
        assert time.monotonic() - began < 2
    assert [brief(each) for each in answers] == [NoReplyKind.TIMED_OUT]


@both
def test_a_cancelled_carrier_harms_nobody(backend: Backend) -> None:
    """In the middle of its call: those who waited look again, one takes over, each within its own deadline."""
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
            with anyio.CancelScope() as token_source:
                async with anyio.create_task_group() as carrying:
                    carrying.start_soon(verifier.verify, live_token())
                    await until(lambda: len(server.requests) == 1)
                    for at in range(20):
                        group.start_soon(follow, at)
                    await anyio.sleep(0.02)
                    token_source.cancel()
            await until(lambda: len(users) == 20)
        assert set(users) == {sub(at) for at in range(20)}

    with Loopback(conduct) as server:
        anyio.run(main, backend=backend)
    assert len(server.requests) == 2


def test_a_task_that_asyncio_cancels(transport_override: HeldStandIn) -> None:
    """By asyncio's own means, as `asyncio.wait_for` and servers do, the carrier, and then a waiter."""
    import asyncio

    async def main() -> None:
        transport_override.go = anyio.Event()
        runner = AsyncRunner(config_for("http://127.0.0.1:9"))
        token_source, waiter, other = (asyncio.create_task(runner.run(joining(flight()))) for _ in range(3))
        await until(lambda: transport_override.calls == 1)
        token_source.cancel()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await token_source
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert await other is ShareEnd.DONE
        assert runner._here().flights == {}

    asyncio.run(main())


# -- cold starts, floods, rotations: the edge under a verifier --------------------------------------


@both
def test_a_cold_start_causes_one_flight(backend: Backend) -> None:
    """A thousand requests at once, each with a token of its own."""
    issuer = Issuer()
    issuer.held = threading.Event()
    tokens = [live_token(sub=sub(at)) for at in range(1000)]

    async def main() -> None:
        users: set[str] = set()

        async with AsyncVerifier(config_for(server.url)) as verifier, anyio.create_task_group() as group:

            async def verify(token: str) -> None:
                users.add((await verifier.verify(token)).user_id)

            for token in tokens:
                group.start_soon(verify, token)
            await until(lambda: len(server.requests) == 1)
            await anyio.sleep(0.02)
            assert issuer.held is not None
            issuer.held.set()
        assert len(users) == 1000

    with Loopback(issuer) as server:
        anyio.run(main, backend=backend)
    assert len(server.requests) == 1


@both
def test_a_flood_of_junk_kids(backend: Backend, skew: Skew, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 unknown kids cause one flight, and meanwhile who has a held key does not wait for it."""
    # The count is the subject: a slow machine, or one that measures coverage, may take more than the second.
    monkeypatch.setattr("stackauth_middleware._core.key_set_cache.REFRESH_BUDGET", 60.0)
    issuer = Issuer()
    template = live_token().split(".")[1:]
    junk = [".".join([header(f"junk-{at}"), *template]) for at in range(10_000)]

    async def main() -> None:
        refused: list[ErrorCode] = []
        verifier = AsyncVerifier(config_for(server.url))

        async def flood(tokens: list[str]) -> None:
            for token in tokens:
                with pytest.raises(RefusedError) as caught:
                    await verifier.verify(token)
                refused.append(caught.value.code)

        async with verifier:
            await verifier.verify(live_token())
            await flood(junk[:100])  # so soon after the first flight they cause none
            assert len(server.requests) == 1
            refused.clear()
            skew.seconds = 10.1
            issuer.held = held = threading.Event()
            async with anyio.create_task_group() as group:
                for at in range(100):
                    group.start_soon(flood, junk[at::100])
                await until(lambda: len(server.requests) == 2)
                for at in range(50):
                    assert (await verifier.verify(live_token(sub=sub(at)))).user_id == sub(at)
                assert not refused
                held.set()
        assert refused == [ErrorCode.INVALID_TOKEN] * 10_000

    with Loopback(issuer) as server:
        anyio.run(main, backend=backend)
    assert len(server.requests) == 2
    assert server.requests[1].headers["cache-control"] == "no-cache"


def header(kid: str) -> str:
    """Return the header part of a token signed by `kid`."""
    return Signer(1, kid).token({}).partition(".")[0]


@both
def test_a_rotation(backend: Backend, skew: Skew) -> None:
    """200 honest requests at once with the new key all succeed, on one flight."""
    issuer = Issuer()
    new = Signer(77_777, "rotated")
    tokens = [live_token(signer=new, sub=sub(at)) for at in range(200)]

    async def main() -> None:
        users: set[str] = set()
        async with AsyncVerifier(config_for(server.url)) as verifier:

            async def verify(token: str) -> None:
                users.add((await verifier.verify(token)).user_id)

            await verifier.verify(live_token())
            skew.seconds = 10.1
            issuer.signers = {**SIGNERS, UserType.NORMAL: (new,)}
            issuer.hold = 0.05
            async with anyio.create_task_group() as group:
                for token in tokens:
                    group.start_soon(verify, token)
        assert len(users) == 200

    with Loopback(issuer) as server:
        anyio.run(main, backend=backend)
    assert len(server.requests) == 2


# -- the event loop --------------------------------------------------------------------------------

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
    # The time, less that spent in wait for a processor.
    waited = int(os.pread(schedstat, 100, 0).split()[1]) / 1e9 if schedstat else 0
    return time.monotonic() - waited

async def tick():
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
    await at_once(tick, *[verify] * len(tokens))
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
def test_the_first_call_does_not_stop_the_loop(backend: Backend) -> None:
    """In a fresh process, 50 requests waiting for slow keys: no import, file or blocking call on the loop's thread.

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


# -- beside something else -------------------------------------------------------------------------


@both
@pytest.mark.parametrize("ending", ["done before", "given up", "left behind", "never started"])
def test_beside(ending: str, backend: Backend) -> None:
    """What was started is given up on demand, or at the end of the body, which waits for it to end."""
    done: list[str] = []

    async def work() -> None:
        done.append("started")
        try:
            await anyio.sleep(0 if ending == "done before" else 60)
            done.append("finished")
        except anyio.get_cancelled_exc_class():
            done.append("cancelled")
            raise

    async def main() -> None:
        async with beside(work) as (start, give_up):
            if ending != "never started":
                start()
                await anyio.sleep(0.02)
            if ending == "given up":
                give_up()
                await anyio.sleep(0.02)
                assert done[-1] == "cancelled"

    anyio.run(main, backend=backend)
    ends = {"done before": ["started", "finished"], "never started": []}
    assert done == ends.get(ending, ["started", "cancelled"])


@both
@pytest.mark.parametrize("failure", [LookupError("of the app"), SystemExit(3)])
def test_what_the_body_raises_comes_out_as_it_is(failure: BaseException, backend: Backend) -> None:
    """In no group, and with what was beside it given up."""

    async def main() -> None:
        async with beside(anyio.sleep_forever) as (start, _):
            start()
            await anyio.sleep(0)
            raise failure

    with pytest.raises(type(failure)) as caught:
        anyio.run(main, backend=backend)
    assert caught.value is failure


@both
def test_a_body_that_is_cancelled(backend: Backend) -> None:
    async def main() -> bool:
        with anyio.move_on_after(0.02) as scope:
            async with beside(anyio.sleep_forever) as (start, _):
                start()
                await anyio.sleep_forever()
        return scope.cancelled_caught

    assert anyio.run(main, backend=backend)


# -- processes -------------------------------------------------------------------------------------


@forking
@with_threads
def test_a_child_forked_after_the_first_use_verifies() -> None:
    """From within a loop that has a flight of the same keys in the air, in a new loop, over connections of its own."""
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
            await until(lambda: len(server.requests) == 1)
            timer = threading.Timer(0.05, held.set)
            timer.start()
            assert in_a_child(in_the_child)
            timer.join()

    with Loopback(issuer) as server:
        verifier = AsyncVerifier(config_for(server.url))
        anyio.run(main)
    assert (len(server.requests), server.connections) == (2, 2)
