"""What both HTTP clients promise, imported by `test_http_requests` and `test_http_httpx`, each with its `kind`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stackauth_middleware._core.upstream import NoReplyKind, Reply
from tests.unit.io import hostile
from tests.unit.io.either import Kind, running
from tests.unit.io.helpers import SECRET, brief, wait_until
from tests.unit.io.loopback import Loopback


@pytest.mark.parametrize("case", hostile.CASES, ids=hostile.IDS)
def test_server_behaviour_gives_expected_result_within_budget(case: hostile.Case, kind: Kind) -> None:
    """Within the time budget and the size limit."""
    timeout = 0.3 if case.outcome is NoReplyKind.TIMED_OUT else 30
    with Loopback(case.conduct) as server, running(kind, server.url, timeout=timeout) as runner:
        began = time.monotonic()
        answer = brief(runner.send_once())
        took = time.monotonic() - began
    assert answer == case.outcome
    assert len(server.requests) == 1
    assert took < (2 if case.outcome is NoReplyKind.TIMED_OUT else 20)


def test_two_content_lengths_are_rejected(kind: Kind) -> None:
    with Loopback(hostile.two_lengths) as server, running(kind, server.url) as runner:
        assert brief(runner.send_once()) in (NoReplyKind.BROKEN, NoReplyKind.UNSENT)


def test_redirect_is_not_followed(kind: Kind) -> None:
    """The target of the redirect receives nothing."""
    with Loopback(hostile.whole) as second:
        for status in (301, 302, 303, 307, 308):
            with (
                Loopback(lambda e, s=status: e.reply(b"", s, Location=second.url)) as first,
                running(kind, first.url) as runner,
            ):
                answer = runner.send_once(**{"x-stack-secret-server-key": SECRET})
            assert isinstance(answer, Reply)
            assert (answer.status, answer.headers["location"]) == (status, second.url)
    assert second.connections == 0


def test_only_our_headers_are_sent(kind: Kind) -> None:
    """Those of the call and of every call, none that a library adds, and no cookie."""
    with (
        Loopback(lambda e: e.reply(b"{}", Set_Cookie="session=of-another; Path=/")) as server,
        running(kind, server.url) as runner,
    ):
        for _ in range(3):
            runner.send_once("/jwks?a=b", **{"x-stack-project-id": "internal"})
    assert len(server.requests) == 3
    assert {(each.method, each.target) for each in server.requests} == {("GET", "/jwks?a=b")}
    for each in server.requests:
        assert each.headers == {
            "host": f"127.0.0.1:{server.port}",
            "accept-encoding": "identity",
            "user-agent": "stackauth-middleware",
            "x-stack-project-id": "internal",
        }


def test_header_names_are_lower_case_and_repeated_headers_joined(kind: Kind) -> None:
    text = hostile.OK + "X-A: 1\r\nx-a: 2\r\nCACHE-Control: max-age=1\r\nContent-Length: 0\r\n\r\n"
    with Loopback(lambda e: e.send(text)) as server, running(kind, server.url) as runner:
        answer = runner.send_once()
    assert isinstance(answer, Reply)
    assert dict(answer.headers) == {"x-a": "1, 2", "cache-control": "max-age=1", "content-length": "0"}


def test_netrc_is_not_read(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Loopback(hostile.whole) as server:
        for trusting in (False, True):
            with running(kind, server.url, trust_env_proxies=trusting) as runner:
                runner.send_once()
    assert [each.headers.get("authorization") for each in server.requests] == [None, None]


def test_closed_pooled_connection_is_replaced(kind: Kind) -> None:
    with Loopback(hostile.whole) as server, running(kind, server.url) as runner:
        assert brief(runner.send_once()) == hostile.WHOLE
        server.drop_connections()
        time.sleep(0.02)
        assert brief(runner.send_once()) == hostile.WHOLE
    assert server.connections == 2


def test_close_closes_pooled_connections_and_next_call_reconnects(kind: Kind) -> None:
    with Loopback(hostile.whole) as server, running(kind, server.url) as runner:
        runner.close()
        for _ in range(2):
            assert brief(runner.send_once()) == hostile.WHOLE
            assert len(server._open) == 1
            runner.close()
            wait_until(lambda: not server._open)
    assert server.connections == 2
