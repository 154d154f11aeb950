"""The HTTP client for threads, against servers that behave and servers that do not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stackauth_middleware import Verifier
from stackauth_middleware._core import cache
from stackauth_middleware._core.upstream import (
    NoReplyKind,
    Reply,
)
from stackauth_middleware._io import http_requests
from stackauth_middleware._io.sync_runner import SyncRunner
from tests.unit.io import authority, hostile
from tests.unit.io.client_cases import *  # noqa: F403 - the tests of both
from tests.unit.io.either import Kind
from tests.unit.io.helpers import (
    SECRET,
    ask,
    brief,
    wait_until,
)
from tests.unit.io.loopback import (
    Exchange,
    Issuer,
    Loopback,
    config_for,
    live_token,
)


@pytest.fixture(params=["threads"])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


def test_early_hints_are_not_taken_for_the_reply(make_runner: Callable[..., SyncRunner]) -> None:
    """http.client returns a 103 as the response, and would read the final one as that of the next request."""

    def conduct(exchange: Exchange) -> None:
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        exchange.hold(0.05)
        exchange.reply(exchange.target.encode())

    with Loopback(conduct) as server:
        runner = make_runner(server.url)
        assert [ask(runner, f"{server.url}/{at}") for at in range(3)] == [NoReplyKind.BROKEN] * 3
        assert server.connections == 3


def test_untrusted_certificate_receives_no_request(make_runner: Callable[..., SyncRunner], tmp_path: Path) -> None:
    with Loopback(hostile.whole, authority.make(tmp_path).server_context()) as server:
        assert ask(make_runner(server.url), server.url) is NoReplyKind.UNSENT
    assert server.requests == []


def test_request_headers_are_not_logged(
    make_runner: Callable[..., SyncRunner], caplog: pytest.LogCaptureFixture
) -> None:
    """By no logger, ours or of a library, even at DEBUG and if the call fails."""
    caplog.set_level(logging.DEBUG)
    with Loopback(hostile.whole) as server:
        runner = make_runner(server.url)
        assert isinstance(ask(runner, server.url, **{"x-stack-secret-server-key": SECRET}), Reply)
        assert ask(runner, server.url, **{"x-stack-secret-server-key": SECRET + "\n"}) is NoReplyKind.UNSENT
    assert server.connections == 1
    assert SECRET not in caplog.text


def test_sequential_calls_reuse_one_connection(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.whole) as server:
        runner = make_runner(server.url)
        for _ in range(1000):
            assert brief(ask(runner, server.url)) == hostile.WHOLE
    assert len(server.requests) == 1000
    assert server.connections == 1


def test_each_thread_opens_at_most_one_connection(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.whole) as server, ThreadPoolExecutor(32) as threads:
        runner = make_runner(server.url)
        answers = list(threads.map(lambda _: brief(ask(runner, server.url)), range(400)))
    assert answers == [hostile.WHOLE] * 400
    assert server.connections <= 32


def test_call_is_retried_when_a_pooled_connection_breaks() -> None:
    """The server closes the connection during the call; the retry on a new one succeeds."""
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


def test_partially_read_response_is_closed(
    make_runner: Callable[..., SyncRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, even if it is still referenced: its rest must not be read as the next response."""
    kept = []
    read = http_requests._read

    def keeping(response: Any, *args: Any) -> Any:
        kept.append(response)
        return read(response, *args)

    monkeypatch.setattr(http_requests, "_read", keeping)
    with Loopback(hostile.twenty_megabytes) as server:
        runner = make_runner(server.url)
        assert [ask(runner, server.url) for _ in range(2)] == [NoReplyKind.TOO_LARGE] * 2
        wait_until(lambda: not server._open)
    assert server.connections == 2
