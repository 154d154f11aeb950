"""The HTTP client for tasks, under asyncio and trio, against servers that behave and servers that do not."""

from __future__ import annotations

import gc
import logging
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest

from stackauth_middleware import AsyncVerifier
from stackauth_middleware._core import cache
from stackauth_middleware._core.upstream import (
    NoReplyKind,
)
from stackauth_middleware._io import http_httpx
from stackauth_middleware._io.http_httpx import _close_lost_stream
from tests.unit.io import authority, hostile
from tests.unit.io.client_cases import *  # noqa: F403 - the tests of both
from tests.unit.io.either import Kind
from tests.unit.io.helpers import (
    SECRET,
    ask_async,
    ask_once,
    both,
    brief,
    gathered,
    opened,
)
from tests.unit.io.loopback import (
    BACKENDS,
    Backend,
    Exchange,
    Issuer,
    Loopback,
    config_for,
    deaf_address,
    live_token,
)
from tests.unit.io.test_deadline_adapter import closed_address, tunnel


@pytest.fixture(params=BACKENDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@both
def test_early_hints_are_not_taken_for_the_reply(backend: Backend) -> None:
    def conduct(exchange: Exchange) -> None:
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        exchange.hold(0.02)
        exchange.reply(exchange.target.encode())

    async def main() -> list[Any]:
        async with opened(server.url) as runner:
            return [brief(await ask_async(runner, f"{server.url}/{at}")) for at in range(3)]

    with Loopback(conduct) as server:
        assert anyio.run(main, backend=backend) == [(200, b"/0"), (200, b"/1"), (200, b"/2")]


@both
def test_request_headers_are_not_logged(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    """By no logger, ours or of a library, even at DEBUG and if the call fails."""

    async def main() -> list[Any]:
        async with opened(server.url) as runner:
            return [await ask_async(runner, server.url, **{"x-stack-secret-server-key": SECRET}) for _ in range(2)]

    caplog.set_level(logging.DEBUG)
    with Loopback(lambda e: hostile.whole(e) if e.number == 1 else hostile.two_lengths(e)) as server:
        answers = anyio.run(main, backend=backend)
    assert brief(answers[0]) == hostile.WHOLE
    assert answers[1] is NoReplyKind.UNSENT
    assert "receive_response_headers.failed" in caplog.text
    assert SECRET not in caplog.text


def resolving(monkeypatch: pytest.MonkeyPatch, *places: Any) -> None:
    """Make every name resolve to `places`, under asyncio and trio."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]

    async def resolve(*_: Any, **__: Any) -> Any:
        if not found:
            raise socket.gaierror(-2, "Name or service not known")
        return found

    monkeypatch.setattr("anyio._core._sockets.getaddrinfo", resolve)
    monkeypatch.setattr("trio._highlevel_open_tcp_stream.getaddrinfo", resolve)


@both
def test_each_address_of_a_host_is_tried(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one that refuses and one that never answers, at the same port."""
    with Loopback(hostile.whole) as server, deaf_address("127.0.0.3", server.port) as deaf:
        resolving(monkeypatch, ("127.0.0.2", server.port), deaf, ("127.0.0.1", server.port))
        url = f"http://three.example:{server.port}"
        assert brief(ask_once(backend, url, timeout=5, allow_http=True)) == hostile.WHOLE


@both
def test_unresolvable_name_is_unsent(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch)
    assert ask_once(backend, "http://none.example", allow_http=True) is NoReplyKind.UNSENT


@both
def test_closed_port_is_unsent(backend: Backend) -> None:
    assert ask_once(backend, f"http://127.0.0.1:{closed_address()[1]}") is NoReplyKind.UNSENT


@both
def test_certificates_of_the_environment_are_trusted(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE, but only for the name in the certificate."""
    mine = authority.make(tmp_path)
    with Loopback(hostile.whole, mine.server_context()) as server:
        assert ask_once(backend, server.url) is NoReplyKind.UNSENT
        monkeypatch.setenv("SSL_CERT_FILE", str(mine.file))
        assert brief(ask_once(backend, server.url)) == hostile.WHOLE
        elsewhere = server.url.replace("127.0.0.1", "localhost")
        assert ask_once(backend, elsewhere) is NoReplyKind.UNSENT
    assert len(server.requests) == 1


@both
@pytest.mark.filterwarnings("ignore:Exception ignored (in. <|while ):pytest.PytestUnraisableExceptionWarning")
def test_hanging_tls_handshake_times_out(backend: Backend) -> None:
    """httpcore leaves the socket of a cancelled handshake to the garbage collector, which warns."""
    with Loopback(hostile.whole) as silent:  # it waits for the end of an HTTP header, which no handshake has
        began = time.monotonic()
        assert ask_once(backend, silent.url.replace("http:", "https:"), timeout=0.3) is NoReplyKind.TIMED_OUT
        assert time.monotonic() - began < 2
        gc.collect()


@both
def test_proxy_is_used_only_with_trust_env_proxies(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    with Loopback(lambda e: e.reply(b"proxy")) as proxy, Loopback(hostile.whole) as server:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        assert brief(ask_once(backend, server.url)) == hostile.WHOLE
        assert proxy.connections == 0
        assert brief(ask_once(backend, f"{server.url}/x", trust_env_proxies=True)) == (200, b"proxy")
        assert proxy.targets == [f"{server.url}/x"]
        monkeypatch.setenv("no_proxy", f"127.0.0.1:{server.port}")
        assert brief(ask_once(backend, server.url, trust_env_proxies=True)) == hostile.WHOLE


@pytest.mark.parametrize("proxy_speaks_tls", [False, True])
def test_https_is_tunnelled_through_a_proxy(
    proxy_speaks_tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificates of the environment apply to the proxy too; only the proxy gets its password."""
    mine = authority.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(mine.file))
    tls = mine.server_context() if proxy_speaks_tls else None
    with Loopback(hostile.whole, mine.server_context()) as server, Loopback(tunnel, tls) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("://", "://user:word@"))
        assert brief(ask_once("asyncio", server.url, trust_env_proxies=True)) == hostile.WHOLE
    assert [each.method for each in proxy.requests] == ["CONNECT"]
    assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")
    assert not any("proxy-authorization" in each.headers for each in server.requests)


def test_unsupported_proxy_set_later_fails_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is raised, and the call does not bypass the proxy."""

    async def main() -> Any:
        async with opened(server.url, trust_env_proxies=True) as runner:
            monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
            return await ask_async(runner, server.url)

    with Loopback(hostile.whole) as server:
        assert anyio.run(main) is NoReplyKind.UNSENT
    assert server.connections == 0


@both
def test_concurrent_calls_reuse_connections(backend: Backend) -> None:
    async def main() -> None:
        async def thirty() -> None:
            for _ in range(30):
                assert brief(await ask_async(runner, server.url)) == hostile.WHOLE

        async with opened(server.url, timeout=30) as runner:
            await gathered(*[thirty] * 8)

    with Loopback(hostile.whole) as server:
        anyio.run(main, backend=backend)
    assert len(server.requests) == 240
    assert server.connections <= 16


@both
def test_call_is_retried_when_a_pooled_connection_breaks(backend: Backend) -> None:
    """The server closes the connection during the call; the retry on a new one succeeds."""
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
def test_each_event_loop_has_its_own_connections(backend: Backend) -> None:
    """With one verifier, whose keys all event loops share."""
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


class _Stream:
    closed = False

    async def aclose(self) -> None:
        self.closed = True


@both
def test_stream_that_anyio_dropped_is_closed(backend: Backend) -> None:
    """The traceback is that of a cancelled `anyio.connect_tcp`; `nox -s lowest` shows the same with an old anyio."""
    stream = _Stream()

    async def connect_tcp() -> None:
        connected_stream = stream  # noqa: F841  # read from the frame
        raise RuntimeError

    async def main() -> None:
        try:
            await connect_tcp()
        except RuntimeError as error:
            await _close_lost_stream(error)

    anyio.run(main, backend=backend)
    assert stream.closed


def test_httpx2_is_used_where_it_is_installed() -> None:
    """The session `httpx2` runs this file and others with it."""
    expected = "httpx2" if find_spec("httpx2") else "httpx"
    assert http_httpx.httpx.__name__ == expected
    assert expected.replace("httpx", "httpcore") in sys.modules
