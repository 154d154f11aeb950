"""Pooled connections that died while idle, behind relays that reset them or drop data."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest

from stackauth_middleware import Verifier
from stackauth_middleware._core.upstream import NoReply, NoReplyKind
from stackauth_middleware._io import attempt
from tests.unit.io import authority, hostile
from tests.unit.io.either import Kind, every_runner, running
from tests.unit.io.helpers import brief
from tests.unit.io.loopback import Exchange, Issuer, Loopback, config_for, live_token

Death = Literal["reset", "swallow"]


class Relay:
    """Answers, except on connections opened before `cut`. For `answer` of a `Loopback`.

    Attributes:
        dead: how many requests came over connections that were cut.
    """

    def __init__(self, death: Death, at_once: int = 1) -> None:
        self._death = death
        self._all_are_here = threading.Barrier(at_once)
        self._cut: int | None = None
        self.dead = 0

    def cut(self, server: Loopback) -> None:
        self._cut = server.connections

    def __call__(self, exchange: Exchange, body: object = b"whole") -> None:
        if self._cut is None:
            self._all_are_here.wait(20)  # so that each call has a connection of its own
        elif exchange.connection <= self._cut:
            self.dead += 1
            exchange.reset() if self._death == "reset" else exchange.hold()
        exchange.reply(body)


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "FIRST_WAIT", 0.2)


@every_runner
@pytest.mark.parametrize("idle", [1, 6, 35])
@pytest.mark.parametrize("pooled", [1, 16])
@pytest.mark.parametrize("death", ["reset", "swallow"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.usefixtures("short_wait")
def test_calls_on_dead_pooled_connections_are_retried_on_new_ones(
    scheme: str, death: Death, pooled: int, idle: int, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Concurrently; after a few idle seconds, the old connections are not even tried."""
    mine = authority.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(mine.file))
    relay = Relay(death, pooled)
    with (
        Loopback(relay, mine.server_context() if scheme == "https" else None) as server,
        running(kind, server.url) as runner,
    ):
        assert [brief(each) for each in runner.ask_at_once(pooled)] == [hostile.WHOLE] * pooled
        assert server.connections == pooled
        relay.cut(server)
        runner.idle(idle)
        assert [brief(each) for each in runner.ask_at_once(pooled)] == [hostile.WHOLE] * pooled
    fewest, most = (1, pooled) if idle < 4 else (0, 0)  # the first to fail closes what is not in use
    assert fewest <= relay.dead <= most


@every_runner
@pytest.mark.parametrize("death", ["reset", "swallow"])
@pytest.mark.usefixtures("short_wait")
def test_dead_connection_closes_the_other_pooled_ones(death: Death, kind: Kind) -> None:
    """Otherwise each of the next calls would fail on one of them."""
    relay = Relay(death, 16)
    with Loopback(relay) as server, running(kind, server.url) as runner:
        runner.ask_at_once(16)
        relay.cut(server)
        assert brief(runner.ask()) == hostile.WHOLE
        assert [brief(each) for each in runner.ask_at_once(8)] == [hostile.WHOLE] * 8
        assert relay.dead == 1


@every_runner
def test_connection_in_use_is_not_closed_with_its_pool(kind: Kind) -> None:
    """A call on a live connection is answered, while another call finds a dead connection."""
    slow_is_here, go = threading.Event(), threading.Event()
    warm = threading.Barrier(2)

    def conduct(exchange: Exchange) -> None:
        if exchange.target == "/warm":
            warm.wait(20)
        elif exchange.target == "/slow":
            slow_is_here.set()
            go.wait(20)
        elif exchange.connection <= 2:
            exchange.reset()
        exchange.reply(b"whole")

    with Loopback(conduct) as server, running(kind, server.url) as runner:
        runner.ask_at_once(2, "/warm")
        answers: list[object] = []
        slow = threading.Thread(target=lambda: answers.append(brief(runner.ask("/slow"))))
        slow.start()
        assert slow_is_here.wait(20)
        assert brief(runner.ask()) == hostile.WHOLE
        go.set()
        slow.join(20)
    assert answers == [hostile.WHOLE]
    assert server.targets.count("/slow") == 1


@every_runner
def test_fresh_call_uses_a_new_connection(kind: Kind) -> None:
    """Even if a pooled connection is alive: another call may just have returned it."""
    with Loopback(hostile.whole) as server, running(kind, server.url) as runner:
        assert brief(runner.ask()) == hostile.WHOLE
        assert brief(runner.ask(fresh=True)) == hostile.WHOLE
    assert server.connections == 2


@every_runner
def test_failure_on_a_new_connection_is_not_retried(kind: Kind) -> None:
    with Loopback(hostile.reset_at_once) as server, running(kind, server.url) as runner:
        answer = runner.ask()
        assert isinstance(answer, NoReply)
        assert (answer.kind, answer.inconclusive) == (NoReplyKind.UNSENT, False)
    assert server.connections == 1


@every_runner
def test_failed_retry_is_conclusive(kind: Kind) -> None:
    def conduct(exchange: Exchange) -> None:
        if exchange.number > 1:
            exchange.reset()
        exchange.reply(b"whole")

    with Loopback(conduct) as server, running(kind, server.url) as runner:
        assert brief(runner.ask()) == hostile.WHOLE
        answer = runner.ask()
        assert isinstance(answer, NoReply)
        assert not answer.inconclusive
    assert len(server.requests) == 3


@every_runner
def test_pooled_connection_gets_at_most_half_of_the_time(kind: Kind) -> None:
    """If the time budget is short."""

    def conduct(exchange: Exchange) -> None:
        if exchange.connection == 1 and exchange.number > 1:
            exchange.hold()
        exchange.reply(b"whole")

    with Loopback(conduct) as server, running(kind, server.url, timeout=1) as runner:
        assert brief(runner.ask()) == hostile.WHOLE
        assert brief(runner.ask()) == hostile.WHOLE
    assert server.connections == 2


@every_runner
def test_response_that_has_begun_may_take_the_whole_time_budget(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait ends with the header, which proves that the connection is alive."""
    monkeypatch.setattr(attempt, "FIRST_WAIT", 0.1)

    def conduct(exchange: Exchange) -> None:
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwh")
        if exchange.number > 1:
            exchange.hold(0.3)  # the timeout is the subject
        exchange.send("ole")

    with Loopback(conduct) as server, running(kind, server.url) as runner:
        assert [brief(runner.ask()) for _ in range(2)] == [hostile.WHOLE] * 2
    assert (server.connections, len(server.requests)) == (1, 2)


@every_runner
def test_next_call_closes_idle_connections(kind: Kind) -> None:
    """All that are too old, not only the one that it would use."""
    relay = Relay("reset", 4)
    with Loopback(relay) as server, running(kind, server.url) as runner:
        runner.ask_at_once(4)
        relay.cut(server)
        runner.idle(5)
        assert brief(runner.ask()) == hostile.WHOLE
        for _ in range(1000):
            if len(server._open) == 1:
                break
            server.closing.wait(0.005)
        assert len(server._open) == 1
    assert relay.dead == 0


@pytest.mark.parametrize("death", ["reset", "swallow"])
def test_dead_pooled_connections_refuse_no_user_and_leave_the_breaker_closed(
    death: Death, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In REST mode, one user for each connection, as with a firewall that drops idle connections."""
    relay, issuer = Relay(death, 8), Issuer()

    def conduct(exchange: Exchange) -> None:
        token = exchange.headers.get("x-stack-access-token")
        if token is None:
            issuer(exchange)
        else:
            payload = token.split(".")[1]
            relay(exchange, {"id": json.loads(base64.urlsafe_b64decode(payload + "=="))["sub"]})

    tokens = [live_token(sub=f"00000000-0000-4000-8000-{number:012}") for number in range(24)]
    with Loopback(conduct) as server, ThreadPoolExecutor(8) as threads:
        config = config_for(server.url, mode="rest", secret_server_key="ssk_of_the_tests")
        with Verifier(config) as verifier:
            verifier.prefetch_keys()
            list(threads.map(verifier.verify, tokens[:8]))
            relay.cut(server)
            monkeypatch.setattr(attempt, "FIRST_WAIT", 0.2)
            users = list(threads.map(verifier.verify, tokens[8:16]))
            assert [each.user_id[-2:] for each in users] == [f"{number:02}" for number in range(8, 16)]
            assert relay.dead
            list(threads.map(verifier.verify, tokens[16:]))
            assert verifier._flow._profiles._api.breaker.record.failures == 0
