"""Cancel a task at each point at which it suspends, alone and together with another.

A coroutine is stepped by hand inside its task, so that each of its suspensions is seen just before it
happens; the cancellation comes then, by the means at hand, and strikes while the task is suspended.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import anyio
from anyio.lowlevel import checkpoint

from stackauth_middleware._core import cache
from stackauth_middleware._core.upstream import Call, NoReply, Reply
from stackauth_middleware._io.async_runner import AsyncRunner
from tests.unit.io.loopback import Backend

from ..security.issuer import CountingIssuer


class Means(NamedTuple):
    """The means of cancelling a task: natively, as servers and `asyncio.wait_for` do, or by a cancel scope."""

    backend: Backend
    native: bool = False

    def __str__(self) -> str:
        return f"{self.backend} {'task' if self.native else 'scope'}"


MEANS = (Means("asyncio", native=True), Means("asyncio"), Means("trio"))


class Gone:
    """The outcome of a cancelled task."""


class Stepped:
    """Awaits a coroutine, and calls a function just before each of its suspensions."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], on_suspension: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._on_suspension = on_suspension

    def __await__(self) -> Generator[Any, Any, Any]:
        resume: Callable[[], Any] = partial(self._coroutine.send, None)
        while True:
            try:
                awaited = resume()
            except StopIteration as end:
                return end.value
            self._on_suspension()
            try:
                sent = yield awaited
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as error:
                resume = partial(self._coroutine.throw, error)
            else:
                resume = partial(self._coroutine.send, sent)


class Actor:
    """A caller in its own task.

    Args:
        ask: what it does.
        at: the suspension, counted from 1, at which it is cancelled; 0 for never.

    Attributes:
        suspensions: how many there were so far.
        was_cancelled: whether it came to the suspension at which it was to be cancelled.
        outcome: what `ask` returned or raised, or `Gone`.
        raised: what came out of `ask`, its cancellation included.
    """

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, Any]], means: Means, at: int) -> None:
        self._ask, self._means, self._at = ask, means, at
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[Any] | None = None
        self.suspensions = 0
        self.was_cancelled = self.is_over = False
        self.outcome: Any = None
        self.raised: BaseException | None = None

    async def run(self) -> None:
        if self._means.native:
            self._task = asyncio.current_task()
        try:
            with self._scope:
                await self._asking()
            if self._scope.cancelled_caught:
                self.outcome = Gone
        except asyncio.CancelledError:
            if not (self._means.native and self.was_cancelled):
                raise
            self.outcome = Gone
        except Exception as error:
            self.outcome = error
        finally:
            self.is_over = True

    async def _asking(self) -> None:
        try:
            self.outcome = await Stepped(self._ask(), self.on_suspension)
        except BaseException as error:
            self.raised = error
            raise

    def on_suspension(self) -> None:
        self.suspensions += 1
        if self.suspensions == self._at:
            self.was_cancelled = True
            (self._task or self._scope).cancel()


class SlowIssuer(CountingIssuer):
    """Suspends a fixed number of times in each call; the first call also waits until all others follow.

    A shared fetch has its own task; `on_suspension` is called for its suspensions within a call.
    """

    all_follow: anyio.Event | None = None
    on_suspension: Callable[[], None] = staticmethod(lambda: None)

    async def asend(self, call: Call, seconds: float) -> Reply | NoReply:
        answer: Reply | NoReply = await Stepped(self._asend(call, seconds), self.on_suspension)
        return answer

    async def _asend(self, call: Call, seconds: float) -> Reply | NoReply:
        waits_for = self.all_follow if not self.calls else None
        answer = self.send(call, seconds)
        if self.all_follow is not None:
            await checkpoint()
            if waits_for is not None:
                await waits_for.wait()
            await checkpoint()
        return answer


@dataclass
class Scene:
    """Several concurrent callers.

    Attributes:
        runner: the runner of their scripts.
        asks: the callers, the leader first.
        right: what each gets.
        calls: the number of calls without cancellation; each cancellation may cost as many again.
        leaves: how many leave by themselves.
        again: a request afterwards, whose outcome is `right_again`; it makes no call if `is_cached`.
        is_cached: whether the result is cached; by default if any caller was served.
        on_actors: called with the actors before they start.
        done: set once all but the first are over, for a first that is not over by itself.
    """

    runner: AsyncRunner
    asks: list[Callable[[], Coroutine[Any, Any, Any]]]
    right: list[Any]
    again: Callable[[], Awaitable[Any]]
    right_again: Any
    calls: int = 1
    leaves: int = 0
    is_cached: Callable[[], bool] | None = None
    on_actors: Callable[[list[Actor]], None] = lambda actors: None
    done: anyio.Event = field(default_factory=anyio.Event)


Stage = Callable[[], Awaitable[Scene]]


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await checkpoint()


def played(stage: Stage, issuer: SlowIssuer, means: Means, cancel_at: Mapping[int, int]) -> list[Actor]:
    """Run the scene of `stage` with the tasks in `cancel_at` cancelled at those points, and check the outcomes."""

    async def play() -> list[Actor]:
        issuer.all_follow, issuer.on_suspension = None, lambda: None
        scene = await stage()
        issuer.calls.clear()
        issuer.all_follow = anyio.Event()
        actors = [Actor(ask, means, cancel_at.get(at, 0)) for at, ask in enumerate(scene.asks)]
        scene.on_actors(actors)
        first, *rest = actors
        issuer.on_suspension = lambda: None if first.is_over else first.on_suspension()
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(first.run)
                await until(lambda: bool(issuer.calls) or first.is_over)
                for each in rest:
                    group.start_soon(each.run)
                await until(lambda: all(each.suspensions or each.is_over for each in rest))
                issuer.all_follow.set()
                await until(lambda: all(each.is_over for each in rest))
                scene.done.set()
            await _run(scene, actors, issuer, means)
        return actors

    try:
        return anyio.run(play, backend=means.backend)
    except BaseException as error:
        raise AssertionError(f"with the tasks cancelled at {dict(cancel_at)}: {error!r}") from error


async def _run(scene: Scene, actors: list[Actor], issuer: SlowIssuer, means: Means) -> None:
    left = sum(each.was_cancelled for each in actors)
    most = scene.calls * (1 + scene.leaves + left)
    for each, right in zip(actors, scene.right, strict=True):
        gone = each.outcome is Gone
        assert gone if each.was_cancelled and means.native else each.was_cancelled or not gone
        assert gone or each.outcome == right, (each.outcome, right)
    assert len(issuer.calls) <= most if left or scene.leaves else len(issuer.calls) == most
    assert scene.runner._here().in_flight == {}
    assert not [one for one in list(cache._registered) if getattr(one, "_lock", None) and one._lock.locked()]
    if means.backend == "asyncio":
        assert asyncio.all_tasks() == {asyncio.current_task()}
    cached = scene.is_cached() if scene.is_cached else any(each.outcome is not Gone for each in actors)
    issuer.calls.clear()
    assert await scene.again() == scene.right_again
    assert len(issuer.calls) == (0 if cached else scene.calls)


def walk(stage: Stage, issuer: SlowIssuer, means: Means) -> list[int]:
    """Cancel each task at each of its suspensions, and each pair at each pair; return the number of points of each."""
    gc.freeze()  # what was there before the walk, so that to collect what it left takes no time
    play = partial(played, stage, issuer, means)
    undisturbed = play({})
    assert not any(each.was_cancelled for each in undisturbed)
    everyone = range(len(undisturbed))
    points = [_points(lambda at, one=one: play({one: at})[one]) for one in everyone]
    for one in everyone:
        for other in everyone[one + 1 :]:
            for at in range(1, points[one] + 1):
                _points(lambda there: play({one: at, other: there})[other])  # noqa: B023 - called within this turn
    gc.collect()  # for what complains only when it is collected
    gc.unfreeze()
    return points


def _points(play: Callable[[int], Actor]) -> int:
    """Run with a task cancelled at its first, second, ... suspension; return the number of its suspensions."""
    at = 1
    while play(at).was_cancelled:
        at += 1
    return at - 1
