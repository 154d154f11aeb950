"""The HTTP client for threads, against servers that behave and servers that do not."""

from __future__ import annotations

import logging
import time
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


@pytest.mark.parametrize("case", hostile.CASES, ids=hostile.IDS)
def test_server_behaviour_gives_expected_result_within_budget(
    case: hostile.Case, make_runner: Callable[..., SyncRunner]
) -> None:
    """Within the time budget and the size limit."""
    with Loopback(case.conduct) as server:
        runner = make_runner(server.url, timeout=0.3 if case.outcome is NoReplyKind.TIMED_OUT else 30)
        began = time.monotonic()
        answer = brief(ask(runner, server.url))
        took = time.monotonic() - began
    assert answer == case.outcome
    assert len(server.requests) == 1
    assert took < (2 if case.outcome is NoReplyKind.TIMED_OUT else 20)


def test_two_content_lengths_are_rejected(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.two_lengths) as server:
        assert ask(make_runner(server.url), server.url) in (NoReplyKind.BROKEN, NoReplyKind.UNSENT)


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


def test_redirect_is_not_followed(make_runner: Callable[..., SyncRunner]) -> None:
    """The target of the redirect receives nothing."""
    with Loopback(hostile.whole) as second:
        for status in (301, 302, 303, 307, 308):
            with Loopback(lambda e, s=status: e.reply(b"", s, Location=second.url)) as first:
                answer = ask(make_runner(first.url), first.url, **{"x-stack-secret-server-key": SECRET})
            assert isinstance(answer, Reply)
            assert (answer.status, answer.headers["location"]) == (status, second.url)
    assert second.connections == 0


def test_cookies_are_not_stored(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(lambda e: e.reply(b"{}", Set_Cookie="session=of-another; Path=/")) as server:
        runner = make_runner(server.url)
        for _ in range(3):
            ask(runner, server.url)
    assert len(server.requests) == 3
    assert not any("cookie" in each.headers for each in server.requests)


def test_only_our_headers_are_sent(make_runner: Callable[..., SyncRunner]) -> None:
    """Those of the call and of every call, and none that a library adds."""
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


def test_header_names_are_lower_case_and_repeated_headers_joined(make_runner: Callable[..., SyncRunner]) -> None:
    text = hostile.OK + "X-A: 1\r\nx-a: 2\r\nCACHE-Control: max-age=1\r\nContent-Length: 0\r\n\r\n"
    with Loopback(lambda e: e.send(text)) as server:
        answer = ask(make_runner(server.url), server.url)
    assert isinstance(answer, Reply)
    assert dict(answer.headers) == {"x-a": "1, 2", "cache-control": "max-age=1", "content-length": "0"}


def test_netrc_is_not_read(
    make_runner: Callable[..., SyncRunner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Loopback(hostile.whole) as server:
        ask(make_runner(server.url), server.url)
        ask(make_runner(server.url, trust_env_proxies=True), server.url)
    assert [each.headers.get("authorization") for each in server.requests] == [None, None]


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


def test_closed_pooled_connection_is_replaced(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.whole) as server:
        runner = make_runner(server.url)
        assert brief(ask(runner, server.url)) == hostile.WHOLE
        server.drop_connections()
        time.sleep(0.02)
        assert brief(ask(runner, server.url)) == hostile.WHOLE
    assert server.connections == 2


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


def test_close_closes_pooled_connections(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.whole) as server:
        runner = make_runner(server.url)
        ask(runner, server.url)
        transport = runner._http._pooled()
        assert len(server._open) == 1
        runner.close()
        wait_until(lambda: not server._open)
        assert runner._http._pooled() is not transport


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


def test_call_after_close_reconnects(make_runner: Callable[..., SyncRunner]) -> None:
    with Loopback(hostile.whole) as server:
        runner = make_runner(server.url)
        runner.close()
        for _ in range(2):
            assert brief(ask(runner, server.url)) == hostile.WHOLE
            runner.close()
    assert server.connections == 2
