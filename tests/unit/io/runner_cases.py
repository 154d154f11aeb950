"""What both runners promise, imported by `test_sync_runner` and `test_async_runner`, each with its `kind`."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from stackauth_middleware import ConfigError
from stackauth_middleware._core.upstream import Answer, Call, NoReplyKind, Reply, Resume, Script, Share, ShareEnd
from stackauth_middleware._io import network
from tests.unit.io import hostile
from tests.unit.io.either import Kind, running
from tests.unit.io.helpers import brief, send_all, share_end, wait_until
from tests.unit.io.loopback import Exchange, Loopback

CALL = Call("GET", "http://127.0.0.1:9/", max_bytes=10)


class HeldTransport:
    """A transport override whose replies wait for `go`."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = threading.Event()

    def send(self, call: Call, seconds: float) -> Reply:
        self.calls += 1
        assert self.go.wait(10)
        return Reply(200, {}, b"override")

    async def asend(self, call: Call, seconds: float) -> Reply:
        self.calls += 1
        with anyio.fail_after(10):
            while not self.go.is_set():
                await anyio.sleep(0.001)
        return Reply(200, {}, b"override")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldTransport:
    held = HeldTransport()
    monkeypatch.setattr(network, "transport_override", held)
    return held


def share(**limits: Any) -> Share:
    """Return a shared fetch of one call."""
    return Share("key", lambda: send_all(CALL), **limits)


def test_all_calls_of_a_script_share_one_time_budget(kind: Kind) -> None:
    """The second call gets the rest of the time; the third is not sent."""

    def slowly(exchange: Exchange) -> None:
        exchange.hold(0.6)
        exchange.reply()

    with Loopback(slowly) as server, running(kind, server.url, timeout=1) as runner:
        began = time.monotonic()
        answers = runner.run(send_all(*[Call("GET", server.url, max_bytes=10, fresh=True)] * 3))
        took = time.monotonic() - began
    assert [brief(each) for each in answers] == [(200, b""), NoReplyKind.TIMED_OUT, NoReplyKind.TIMED_OUT]
    assert len(server.requests) == 2
    assert took < 1.6


def test_missing_certificate_file_fails_at_construction(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not only by failing calls later."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with (
        pytest.raises(ConfigError, match=r"SSL_CERT_FILE is '.*missing\.pem'; it must be a file of PEM"),
        running(kind, "https://api.example.com"),
    ):
        pass


def test_transport_override_replaces_the_network(kind: Kind, held: HeldTransport) -> None:
    def no_socket(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was made")

    held.go.set()
    with running(kind) as runner, pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", no_socket)
        assert [brief(each) for each in runner.run(send_all(CALL))] == [(200, b"override")]
        runner.target.reset()


def test_exception_of_a_script_propagates(kind: Kind) -> None:
    def script() -> Script[None]:
        yield Share("key", send_all)
        raise LookupError("of the script")

    with running(kind) as runner, pytest.raises(LookupError, match="of the script"):
        runner.run(script())


def test_script_can_handle_exception_of_a_shared_fetch(kind: Kind) -> None:
    """The middleware refuses the request, and the failed fetch is not in flight any more."""

    def fails() -> Script[None]:
        raise LookupError("of the fetch")
        yield

    def script() -> Script[str]:
        try:
            yield Share("key", fails)
        except LookupError as error:
            resume = yield Share("key", send_all)
            return f"{error}, then {type(resume.answer).__name__}"
        return "not raised"

    with running(kind) as runner:
        assert runner.run(script()) == "of the fetch, then Led"


def test_script_is_resumed_with_both_clocks(kind: Kind) -> None:
    def script() -> Script[Resume]:
        return (yield Share("key", send_all))

    with running(kind) as runner:
        resume: Resume = runner.run(script())
    assert abs(resume.clocks.wall - time.time()) < 5
    assert abs(resume.clocks.mono - time.monotonic()) < 5


def test_concurrent_callers_with_equal_keys_share_one_fetch(kind: Kind, held: HeldTransport) -> None:
    with running(kind) as runner:
        ends = [runner.start(share_end(share())) for _ in range(12)]
        wait_until(lambda: held.calls == 1)
        runner.wait_for_followers(11)
        assert runner.run(share_end(Share("another", send_all))) is ShareEnd.DONE
        held.go.set()
        assert [each.result(10) for each in ends] == [ShareEnd.DONE] * 12
        assert runner.in_flight == {}
    assert held.calls == 1


def test_follower_stops_after_its_wait_or_its_own_budget(kind: Kind, held: HeldTransport) -> None:
    """At once if it must not wait. It is no longer counted as waiting then."""
    with running(kind, timeout=0.5) as runner:
        leader = runner.start(share_end(share(wait=0)))
        wait_until(lambda: held.calls == 1)
        began = time.monotonic()
        assert runner.run(share_end(share(wait=0))) is ShareEnd.TIMED_OUT
        assert runner.run(share_end(share(wait=0.05))) is ShareEnd.TIMED_OUT
        assert time.monotonic() - began < 0.45
        assert runner.run(share_end(share())) is ShareEnd.TIMED_OUT
        assert 0.55 <= time.monotonic() - began < 2
        runner.wait_for_followers(0)
        held.go.set()
        assert leader.result(10) is ShareEnd.DONE


def test_leader_stops_after_its_budget(kind: Kind) -> None:
    answers: list[Answer] = []

    def fetching() -> Script[None]:
        answers.append((yield Call("GET", server.url, max_bytes=10)).answer)

    with Loopback(hostile.silence) as server, running(kind, server.url, timeout=5) as runner:
        began = time.monotonic()
        assert runner.run(share_end(Share("key", fetching, budget=0.1))) is ShareEnd.DONE
        assert time.monotonic() - began < 2
    assert [brief(each) for each in answers] == [NoReplyKind.TIMED_OUT]
