"""Cancellation at every point at which httpx suspends, over real sockets: no socket or fetch is leaked (H1)."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import pytest

from stackauth_middleware import AsyncVerifier
from stackauth_middleware._core.upstream import Answer, Call, Script, Share
from stackauth_middleware._io.async_runner import AsyncRunner
from tests.concurrency.cancelling import MEANS, Actor, Gone, Means, Stepped
from tests.unit.io import hostile
from tests.unit.io.helpers import brief, wait_until_async
from tests.unit.io.loopback import Exchange, Issuer, Loopback, config_for, live_token

each_means = pytest.mark.parametrize("means", MEANS, ids=str)
TOKENS = [live_token(refresh_token_id=f"session {at}") for at in range(4)]


async def session_of(verifier: AsyncVerifier, token: str) -> str | None:
    return (await verifier.verify(token)).session_id


class Caller(Actor):
    """An actor whose HTTP call runs in another task, but counts as its own suspensions."""

    def __init__(self, runner: AsyncRunner, ask: Callable[[], Coroutine[Any, Any, Any]], means: Means, at: int) -> None:
        super().__init__(ask, means, at)
        self._http = runner._here().http
        self._send = self._http.send
        self._http.send = self._stepped

    def _stepped(self, call: Call, deadline: float) -> Any:
        self._http.send = self._send
        return Stepped(self._send(call, deadline), self.on_suspension)


def shared(call: Call, cancel_grace: float) -> Script[list[Answer]]:
    """Send `call` in a shared fetch, and return the results."""
    answers: list[Answer] = []

    def script() -> Script[None]:
        resume = yield call
        answers.append(resume.answer)

    yield Share(call.url, script, cancel_grace=cancel_grace)
    return answers


async def assert_all_closed(runner: AsyncRunner, server: Loopback, means: Means) -> None:
    """Assert that no call is left in the pool, and that closing closes its connections."""
    for each in runner._here().http._pools.values():
        pool: Any = each.transport._pool
        assert pool._requests == []
        assert all(each.is_idle() for each in pool.connections)
    await runner.aclose()
    await wait_until_async(lambda: not server._open)
    if means.backend == "asyncio":
        assert asyncio.all_tasks() == {asyncio.current_task()}


@each_means
@pytest.mark.parametrize("cancel_grace", [0.0, 10.0], ids=["no grace", "grace"])
@pytest.mark.parametrize("pooled", [False, True], ids=["new connection", "pooled connection"])
def test_call_can_be_cancelled_at_every_point(pooled: bool, cancel_grace: float, means: Means) -> None:
    """Its reply, if it still arrives, is not taken for that of another call."""

    def conduct(exchange: Exchange) -> None:
        exchange.send(hostile.OK + f"Content-Length: {len(exchange.target)}\r\n\r\n")
        exchange.hold(0.002)
        exchange.send(exchange.target)

    async def main(at: int) -> bool:
        runner = AsyncRunner(config_for(server.url))

        async def ask(path: str) -> Any:
            return [
                brief(each)
                for each in await runner.run(shared(Call("GET", server.url + path, max_bytes=100), cancel_grace))
            ]

        if pooled:
            assert await ask("/before") == [(200, b"/before")]
        actor = Caller(runner, partial(ask, "/cancelled"), means, at)
        await actor.run()
        answered = [(200, b"/cancelled")]
        if actor.was_cancelled and means.native:
            assert actor.outcome is Gone
        else:
            assert actor.outcome in ([Gone, answered] if actor.was_cancelled else [answered])
        assert await ask("/after") == [(200, b"/after")]
        await assert_all_closed(runner, server, means)
        return actor.was_cancelled

    points = 0
    with Loopback(conduct) as server:
        while anyio.run(main, points + 1, backend=means.backend):
            points += 1
    gc.collect()
    print(f"cancelled at {points} points")
    assert points >= (2 if pooled else 3)


@each_means
@pytest.mark.parametrize("whose", [0, 1], ids=["leader", "follower"])
def test_concurrent_callers_are_served_if_one_is_cancelled_at_any_point(whose: int, means: Means) -> None:
    issuer = Issuer()

    async def main(at: int) -> bool:
        issuer.held = held = threading.Event()
        asked = len(server.requests)
        verifier = AsyncVerifier(config_for(server.url))
        runner = verifier._runner
        asks = [partial(session_of, verifier, token) for token in TOKENS[:3]]
        first = Caller(runner, asks[0], means, at if whose == 0 else 0)
        rest = [Actor(asks[1], means, at if whose == 1 else 0), Actor(asks[2], means, 0)]
        actors = [first, *rest]
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(first.run)
                await wait_until_async(lambda: len(server.requests) > asked or first.is_over)
                for each in rest:
                    group.start_soon(each.run)
                await wait_until_async(lambda: all(each.suspensions or each.is_over for each in rest))
                held.set()
            left = actors[whose].was_cancelled
            for number, each in enumerate(actors):
                gone = each.outcome is Gone
                assert gone if each.was_cancelled and means.native else each.was_cancelled or not gone
                assert gone or each.outcome == f"session {number}"
            assert len(server.requests) - asked <= 1 + left
            assert runner._here().in_flight == {}
            assert await session_of(verifier, TOKENS[3]) == "session 3"
            assert len(server.requests) - asked <= 1 + left
            await assert_all_closed(runner, server, means)
        return left

    points = 0
    with Loopback(issuer) as server:
        while anyio.run(main, points + 1, backend=means.backend):
            points += 1
    gc.collect()
    print(f"cancelled at {points} points")
    assert points >= (3 if whose == 0 else 1)
