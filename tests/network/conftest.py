"""Fixtures for the tests of profiles over a network."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stackauth_middleware import _handler_api, _verifiers, asgi, wsgi
from stackauth_middleware._core.records import Clocks
from stackauth_middleware._core.upstream import Call
from stackauth_middleware._io import async_runner, network, sync_runner
from stackauth_middleware._io.http_httpx import HttpxClient
from stackauth_middleware._io.http_requests import RequestsClient
from tests.unit.io import loopback

from .upstream import Upstream, upstream_serving

CLOCK_READERS = (async_runner, _handler_api, sync_runner, _verifiers)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the keys, proxies and certificates of the machine out of the tests."""
    for name in list(os.environ):
        if (
            name.lower().endswith(("_proxy", "ssl_cert_file", "ssl_cert_dir"))
            or "STACK_" in name
            or "HEXCLAVE_" in name
        ):
            monkeypatch.delenv(name)


def _quick_head(sock: socket.socket) -> bytes | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = sock.recv(65536)
        if not data:
            return None
        head += data
    return head[:-4]


@pytest.fixture(autouse=True)
def quick_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read request heads in large pieces, since these tests send thousands of requests without a body."""
    monkeypatch.setattr(loopback, "_head", _quick_head)


@pytest.fixture
def up() -> Iterator[Upstream]:
    with upstream_serving() as upstream:
        yield upstream


class Warp:
    """Both clocks as the package reads them, which tests set forward. Time budgets are not affected."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds

    def __call__(self) -> Clocks:
        wall, mono = network.clocks()
        return Clocks(wall + self.seconds, mono + self.seconds)


@pytest.fixture
def warp(monkeypatch: pytest.MonkeyPatch) -> Warp:
    warp = Warp()
    patch_clocks(monkeypatch, warp)
    return warp


def patch_clocks(monkeypatch: pytest.MonkeyPatch, clocks: Callable[[], Clocks]) -> None:
    """Make the package read `clocks`. Middlewares read both clocks without the function, for speed."""
    for module in CLOCK_READERS:
        monkeypatch.setattr(module, "clocks", clocks)
    for middleware in (asgi, wsgi):
        monkeypatch.setattr(middleware, "time", lambda: clocks().wall)
        monkeypatch.setattr(middleware, "monotonic", lambda: clocks().mono)


class Attempts:
    """Counts the attempts of the runners to send a call, answered or not."""

    def __init__(self) -> None:
        self.count = 0

    def since(self) -> int:
        """Return the number of attempts since the last call of this method."""
        count, self.count = self.count, 0
        return count


def attempts_counted(monkeypatch: pytest.MonkeyPatch, place: str = "/users/me") -> Attempts:
    """Return the count of attempts of both runners to call `place`."""
    counted = Attempts()

    def counting(runner: type, name: str) -> None:
        send = getattr(runner, name)

        def count(self: Any, call: Call, deadline: float) -> Any:
            counted.count += place in call.url
            return send(self, call, deadline)

        monkeypatch.setattr(runner, name, count)

    counting(RequestsClient, "send")
    counting(HttpxClient, "send")
    return counted


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    return attempts_counted(monkeypatch)
