"""The deadline of a connection, with slow servers, names, certificates and proxies."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackauth_middleware._core.upstream import Call, NoReplyKind
from stackauth_middleware._io import deadline_adapter, network
from stackauth_middleware._io.attempt import Attempt
from stackauth_middleware._io.sync_runner import SyncRunner
from tests.unit.io import authority, hostile
from tests.unit.io.helpers import ask, brief, send_all
from tests.unit.io.loopback import Exchange, Loopback, closed_port, deaf_address

# -- time ------------------------------------------------------------------------------------------


def test_connecting_and_tls_handshake_share_the_deadline(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout of a socket would allow each the whole time."""
    connect = deadline_adapter._connected

    def slowly(address: Any, seconds: float) -> socket.socket:
        time.sleep(0.8)  # the timeout is the subject
        return connect(address, seconds)

    monkeypatch.setattr(deadline_adapter, "_connected", slowly)
    with Loopback(hostile.whole) as silent:  # it waits for the end of an HTTP header, which no handshake has
        began = time.monotonic()
        answer = ask(make_runner(silent.url, timeout=1), silent.url.replace("http:", "https:"))
        took = time.monotonic() - began
    assert answer is NoReplyKind.TIMED_OUT
    assert took < 1.5


def test_header_and_body_share_the_deadline(make_runner: Callable[..., SyncRunner]) -> None:
    def conduct(exchange: Exchange) -> None:
        exchange.hold(0.8)
        hostile.silence_in_the_body(exchange)

    with Loopback(conduct) as server:
        began = time.monotonic()
        assert ask(make_runner(server.url, timeout=1), server.url) is NoReplyKind.TIMED_OUT
        assert time.monotonic() - began < 1.5


def test_nothing_is_read_after_the_deadline() -> None:
    """Even if data is always available at once."""
    near, far = socket.socketpair()
    with near, far, near.makefile("rb", buffering=0) as raw:
        far.sendall(b"there already")
        reader = deadline_adapter._TimedReader(raw, near, Attempt(Call("GET", "", max_bytes=1), time.monotonic()))
        with pytest.raises(TimeoutError):
            reader.read(1)
        reader.close()


# -- addresses -------------------------------------------------------------------------------------


def addresses(*places: Any, family: int = socket.AF_INET) -> Any:
    return lambda *_: [(family, socket.SOCK_STREAM, 6, "", place) for place in places]


def closed_address() -> Any:
    return "127.0.0.1", closed_port()


def test_each_address_of_a_host_is_tried(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Loopback(hostile.whole) as server:
        monkeypatch.setattr(socket, "getaddrinfo", addresses(closed_address(), ("127.0.0.1", server.port)))
        assert brief(ask(make_runner(server.url), "http://two.example/")) == hostile.WHOLE


def test_address_of_an_unsupported_family_is_skipped(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without IPv6, creating the socket fails."""
    with Loopback(hostile.whole) as server:
        found = addresses(("::1", server.port), family=9999)() + addresses(("127.0.0.1", server.port))()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
        assert brief(ask(make_runner(server.url), "http://two.example/")) == hostile.WHOLE


def test_address_that_never_answers_gets_its_share_of_the_time(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Loopback(hostile.whole) as server, deaf_address() as deaf:
        monkeypatch.setattr(socket, "getaddrinfo", addresses(deaf, ("127.0.0.1", server.port)))
        began = time.monotonic()
        assert brief(ask(make_runner(server.url, timeout=1.2), "http://two.example/")) == hostile.WHOLE
        assert 0.5 < time.monotonic() - began < 1.1


def test_all_addresses_time_out(make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch) -> None:
    with deaf_address() as deaf:
        monkeypatch.setattr(socket, "getaddrinfo", addresses(deaf, deaf))
        began = time.monotonic()
        assert ask(make_runner(timeout=0.2), "http://two.example/") is NoReplyKind.TIMED_OUT
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("found", [[], [closed_address()]], ids=["none", "closed"])
def test_no_address_accepts(
    found: list[Any], make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", addresses(*found))
    assert ask(make_runner(), "http://none.example/") is NoReplyKind.UNSENT


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_name_that_does_not_resolve_is_unsent(
    error: Exception, make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert ask(make_runner(), "http://none.example/") in (NoReplyKind.UNSENT, NoReplyKind.BROKEN)


def test_interrupted_connect_closes_the_socket(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leaked socket would cause a ResourceWarning, an error here."""

    def interrupted(sock: socket.socket, _: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(socket.socket, "connect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(make_runner(), "http://127.0.0.1:9/")


# -- TLS -------------------------------------------------------------------------------------------


def test_certificates_of_the_environment(
    make_runner: Callable[..., SyncRunner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE, but only for the name in the certificate; CURL_CA_BUNDLE is ignored."""
    mine = authority.make(tmp_path)
    with Loopback(hostile.whole, mine.server_context()) as server:
        monkeypatch.setenv("CURL_CA_BUNDLE", str(mine.file))
        assert ask(make_runner(server.url), server.url) is NoReplyKind.UNSENT
        monkeypatch.setenv("SSL_CERT_FILE", str(mine.file))
        assert brief(ask(make_runner(server.url), server.url)) == hostile.WHOLE
        assert ask(make_runner(server.url), server.url.replace("127.0.0.1", "localhost")) is NoReplyKind.UNSENT
    assert len(server.requests) == 1


def test_only_the_named_certificates_are_trusted(
    make_runner: Callable[..., SyncRunner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """requests would add its own bundle to our context."""
    (tmp_path / "other").mkdir()
    mine, other = authority.make(tmp_path), authority.make(tmp_path / "other")
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(mine.file))
    monkeypatch.setenv("SSL_CERT_FILE", str(other.file))
    with Loopback(hostile.whole, mine.server_context()) as server:
        assert ask(make_runner(server.url), server.url) is NoReplyKind.UNSENT
    assert server.requests == []


# -- proxies ---------------------------------------------------------------------------------------


def tunnel(exchange: Exchange) -> None:
    """Answer a CONNECT request, and relay."""
    host, _, port = exchange.target.rpartition(":")
    with socket.create_connection((host, int(port))) as far:
        exchange.send("HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=relay, args=(far, exchange.sock))
        back.start()
        relay(exchange.sock, far)
        back.join()
    exchange.close()


def relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def test_proxy_is_used_only_with_trust_env_proxies(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Loopback(lambda e: e.reply(b"proxy")) as proxy, Loopback(hostile.whole) as server:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        assert brief(ask(make_runner(server.url), server.url)) == hostile.WHOLE
        assert proxy.connections == 0
        assert brief(ask(make_runner(server.url, trust_env_proxies=True), f"{server.url}/x")) == (200, b"proxy")
        assert proxy.targets == [f"{server.url}/x"]
        monkeypatch.setenv("no_proxy", f"127.0.0.1:{server.port}")
        assert brief(ask(make_runner(server.url, trust_env_proxies=True), server.url)) == hostile.WHOLE


def test_closed_tunnel_is_opened_again(
    make_runner: Callable[..., SyncRunner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the deadline of the first call, with a new deadline."""
    mine = authority.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(mine.file))
    made = []
    context = network.tls_context
    with Loopback(hostile.whole, mine.server_context()) as server, Loopback(tunnel) as proxy:
        monkeypatch.setenv("https_proxy", f"http://user:word@127.0.0.1:{proxy.port}")
        runner = make_runner(server.url, trust_env_proxies=True, timeout=0.5)

        def counted() -> ssl.SSLContext:
            made.append(True)
            return context()

        monkeypatch.setattr(network, "tls_context", counted)
        assert brief(ask(runner, server.url)) == hostile.WHOLE
        assert brief(ask(runner, server.url)) == hostile.WHOLE
        proxy.drop_connections()
        time.sleep(0.6)  # the budget is the subject
        assert brief(ask(runner, server.url)) == hostile.WHOLE
    assert [each.method for each in proxy.requests] == ["CONNECT", "CONNECT"]
    assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")
    assert not any("proxy-authorization" in each.headers for each in server.requests)
    assert len(made) == 1


def test_slow_response_to_connect_times_out(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Loopback(hostile.header_drip) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        began = time.monotonic()
        runner = make_runner("https://127.0.0.1:9", trust_env_proxies=True, timeout=0.3)
        assert ask(runner, "https://127.0.0.1:9/") is NoReplyKind.TIMED_OUT
        assert time.monotonic() - began < 1


def test_time_for_a_tunnel_counts(
    make_runner: Callable[..., SyncRunner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """urllib3 starts its timeout only after the tunnel is open."""
    mine = authority.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(mine.file))

    def slowly(exchange: Exchange) -> None:
        exchange.hold(0.7)
        tunnel(exchange)

    with Loopback(hostile.silence, mine.server_context()) as server, Loopback(slowly) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        runner = make_runner(server.url, trust_env_proxies=True, timeout=1)
        began = time.monotonic()
        assert ask(runner, server.url) is NoReplyKind.TIMED_OUT
        assert time.monotonic() - began < 1.5


# -- size ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [each for each in hostile.CASES if each.name.startswith("endless_")], ids=lambda case: case.name
)
def test_endless_response_is_cut_off(case: hostile.Case, make_runner: Callable[..., SyncRunner]) -> None:
    """The header, chunk sizes and trailer are bounded too."""
    with Loopback(case.conduct) as server:
        assert brief(ask(make_runner(server.url, timeout=30), server.url)) == case.outcome


# -- pooled connections ----------------------------------------------------------------------------


def test_fresh_call_closes_the_pooled_connection(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.whole) as server:
        runner = make_runner(server.url)
        for call in (Call("GET", server.url), Call("GET", server.url, fresh=True)):
            runner.run(send_all(call))
        assert server.connections == 2


def test_connection_idle_for_too_long_is_not_reused(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Loopback(hostile.whole) as server:
        runner = make_runner(server.url)
        ask(runner, server.url)
        monkeypatch.setattr(deadline_adapter, "MAX_IDLE", -1.0)
        ask(runner, server.url)
        assert server.connections == 2
