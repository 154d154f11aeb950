"""Reasons of failed calls: the same from both HTTP clients."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stackauth_middleware._core.upstream import Call, NoReply, NoReplyKind
from stackauth_middleware._io.attempt import FIRST_WAIT, Attempt, Stage, out_of_time
from stackauth_middleware.errors import ConfigError
from tests.unit.io import authority, hostile
from tests.unit.io.either import Kind, every_runner, running
from tests.unit.io.loopback import Exchange, Loopback, closed_port, deaf_address
from tests.unit.io.test_deadline_adapter import tunnel

UNSENT, TIMED_OUT, BROKEN = NoReplyKind.UNSENT, NoReplyKind.TIMED_OUT, NoReplyKind.BROKEN


class Setting(NamedTuple):
    """What a fault may use: a folder for files, and the environment."""

    folder: Path
    patch: pytest.MonkeyPatch

    def trust(self, mine: authority.Authority) -> None:
        self.patch.setenv("SSL_CERT_FILE", str(mine.file))

    def proxy(self, url: str) -> None:
        self.patch.setenv("https_proxy", url.replace("://", "://someone:canary@"))


Fault = Callable[[Setting], AbstractContextManager[str]]
"""Makes the fault, and yields the URL to call."""


@contextlib.contextmanager
def unknown_name(at: Setting) -> Iterator[str]:
    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "canary")

    async def afail(*_: Any, **__: Any) -> Any:
        fail()

    at.patch.setattr(socket, "getaddrinfo", fail)
    at.patch.setattr("anyio._core._sockets.getaddrinfo", afail)
    at.patch.setattr("trio._highlevel_open_tcp_stream.getaddrinfo", afail)
    yield "http://none.example"


@contextlib.contextmanager
def closed(at: Setting) -> Iterator[str]:
    yield f"http://127.0.0.1:{closed_port()}"


@contextlib.contextmanager
def closed_with_unused_proxy(at: Setting) -> Iterator[str]:
    at.patch.setenv("http_proxy", "http://someone:canary@127.0.0.1:9")
    yield f"http://127.0.0.1:{closed_port()}"


@contextlib.contextmanager
def deaf(at: Setting) -> Iterator[str]:
    with deaf_address() as (host, port):
        yield f"http://{host}:{port}"


def conduct(does: Callable[[Exchange], None]) -> Fault:
    @contextlib.contextmanager
    def fault(at: Setting) -> Iterator[str]:
        with Loopback(does) as server:
            yield server.url

    return fault


def certificate(*, trusted: bool = True, days: int = 1, host: str = "127.0.0.1") -> Fault:
    @contextlib.contextmanager
    def fault(at: Setting) -> Iterator[str]:
        mine = authority.make(at.folder, days=days)
        if trusted:
            at.trust(mine)
        with Loopback(hostile.whole, mine.server_context()) as server:
            yield server.url.replace("127.0.0.1", host)

    return fault


@contextlib.contextmanager
def proxy_closed(at: Setting) -> Iterator[str]:
    at.proxy(f"http://127.0.0.1:{closed_port()}")
    yield "https://127.0.0.1:9"


def proxy_answers(status: int) -> Fault:
    @contextlib.contextmanager
    def fault(at: Setting) -> Iterator[str]:
        with Loopback(
            lambda exchange: exchange.send(f"HTTP/1.1 {status} canary\r\nContent-Length: 0\r\n\r\n")
        ) as proxy:
            at.proxy(proxy.url)
            yield "https://127.0.0.1:9"

    return fault


@contextlib.contextmanager
def behind_a_tunnel(at: Setting) -> Iterator[str]:
    mine = authority.make(at.folder)
    with Loopback(hostile.whole, mine.server_context()) as server, Loopback(tunnel) as proxy:
        at.proxy(proxy.url)
        yield server.url


FAULTS: dict[str, tuple[Fault, NoReplyKind, str]] = {
    "unknown name": (unknown_name, UNSENT, "name not found (check api_url)"),
    "closed port": (closed, UNSENT, "connection refused (check api_url)"),
    "closed port, proxy not used": (
        closed_with_unused_proxy,
        UNSENT,
        "connection refused (check api_url, trust_env_proxies, for the environment names a proxy that is not used)",
    ),
    "no answer to connect": (deaf, TIMED_OUT, "timeout after 0.5 s while connecting (check timeout, api_url)"),
    "other name": (certificate(host="localhost"), UNSENT, "TLS: certificate for another name (check api_url)"),
    "expired": (certificate(days=-1), UNSENT, "TLS: expired certificate (check api_url)"),
    "unknown authority": (
        certificate(trusted=False),
        UNSENT,
        "TLS: certificate by an unknown authority (check SSL_CERT_FILE)",
    ),
    "unknown authority in a tunnel": (
        behind_a_tunnel,
        UNSENT,
        "TLS: certificate by an unknown authority (check SSL_CERT_FILE)",
    ),
    "proxy closed": (proxy_closed, UNSENT, "proxy: connection refused (check the proxy of the environment)"),
    "proxy asks who": (
        proxy_answers(407),
        UNSENT,
        "proxy: status 407 to CONNECT, it asks for a user and password (check the proxy of the environment)",
    ),
    "proxy refuses": (
        proxy_answers(403),
        UNSENT,
        "proxy: status 403 to CONNECT (check the proxy of the environment)",
    ),
    "silence": (
        conduct(hostile.silence),
        TIMED_OUT,
        "timeout after 0.5 s while waiting for the answer (check timeout)",
    ),
    "silence in the body": (
        conduct(hostile.silence_in_the_body),
        TIMED_OUT,
        "timeout after 0.5 s while reading the answer (check timeout)",
    ),
    "reset": (conduct(hostile.reset_at_once), UNSENT, "broken off before an HTTP answer"),
    "closed": (conduct(hostile.closed_at_once), UNSENT, "broken off before an HTTP answer"),
    "not HTTP": (conduct(hostile.not_http), UNSENT, "broken off before an HTTP answer"),
    "reset in the body": (conduct(hostile.reset_in_the_body), BROKEN, "broken off within the answer"),
    "closed in the body": (conduct(hostile.closed_in_the_body), BROKEN, "broken off within the answer"),
    "chunk without size": (conduct(hostile.no_chunk_size), BROKEN, "broken off within the answer"),
    "too large": (
        conduct(hostile.one_over_the_limit),
        NoReplyKind.TOO_LARGE,
        f"the answer was over its limit of {hostile.MAX_BYTES} bytes",
    ),
    "compressed": (
        conduct(hostile.gzip_bomb),
        NoReplyKind.ENCODED,
        "the answer had a Content-Encoding that was not asked for",
    ),
}


@every_runner
@pytest.mark.parametrize("name", FAULTS)
def test_reason_names_the_fault_and_the_setting_to_check(
    name: str, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no password of a proxy, no query, and no text of the server."""
    fault, failure, reason = FAULTS[name]
    timeout = 0.5 if failure is TIMED_OUT else 30
    with fault(Setting(tmp_path, monkeypatch)) as url:
        proxied = ("proxy" in name and "not used" not in name) or "tunnel" in name
        with running(kind, url, timeout=timeout, allow_http=True, trust_env_proxies=proxied) as runner:
            answer = runner.ask("/?canary=canary")
    assert answer == NoReply(failure, reason)


# -- without a network --------------------------------------------------------------------------------


def tls_error(reason: str) -> ssl.SSLError:
    """Return an error as OpenSSL raises it, which sets `reason`."""
    error = ssl.SSLError(1, "canary")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (tls_error("WRONG_VERSION_NUMBER"), "TLS: no handshake, WRONG_VERSION_NUMBER"),
        (ConfigError("SSL_CERT_FILE is unusable"), "SSL_CERT_FILE is unusable"),
        (OSError(errno.ENETUNREACH, "canary"), os.strerror(errno.ENETUNREACH).lower()),
        (OSError(errno.EIO, "canary"), "broken off while connecting"),
    ],
    ids=["tls", "config", "unreachable", "other"],
)
def test_reason_of_an_error_while_connecting(error: Exception, reason: str) -> None:
    attempt = Attempt(Call("GET", "https://api.example", {}), time.monotonic() + 5)
    assert attempt.failed(error) == NoReply(NoReplyKind.UNSENT, f"{reason} (check api_url)")


@pytest.mark.parametrize(
    ("method", "reused", "stage", "early"),
    [
        ("GET", True, Stage.WAITING, True),
        ("GET", True, Stage.READING, False),
        ("GET", False, Stage.WAITING, False),
        ("POST", True, Stage.WAITING, False),
    ],
)
@pytest.mark.parametrize("budget", [1.0, 30.0])
def test_idempotent_call_leaves_a_silent_pooled_connection_early(
    method: str, reused: bool, stage: Stage, early: bool, budget: float
) -> None:
    """So that half of the time, or more, is left for a new connection."""
    began = time.monotonic()
    attempt = Attempt(Call(method, "https://api.example", {}), began + budget)
    attempt.reused, attempt.stage = reused, stage
    expected = min(FIRST_WAIT, budget / 2) if early else budget
    assert attempt.due - began == pytest.approx(expected, abs=0.1)


def test_call_without_time_left_is_inconclusive() -> None:
    """It was never sent, and so says nothing about Stack Auth."""
    assert out_of_time() == NoReply(NoReplyKind.TIMED_OUT, "no time was left to ask (check timeout)", inconclusive=True)
