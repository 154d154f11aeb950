"""Helpers for tests of the runners and HTTP clients."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

from stackauth_middleware._core.upstream import (
    Answer,
    Call,
    Led,
    NoReply,
    NoReplyKind,
    Reply,
    Script,
    Share,
    ShareEnd,
)
from stackauth_middleware._io.async_runner import AsyncRunner
from stackauth_middleware._io.sync_runner import SyncRunner
from tests.unit.io import hostile
from tests.unit.io.loopback import (
    BACKENDS,
    Backend,
    config_for,
)

SECRET = "ssk_this_is_never_to_be_seen"


def send_all(*calls: Call) -> Script[list[Answer]]:
    """Send each call, and return the results."""
    answers = []
    for call in calls:
        resume = yield call
        answers.append(resume.answer)
    return answers


def brief(answer: Answer | NoReplyKind) -> Any:
    answer = answer.kind if isinstance(answer, NoReply) else answer
    return (answer.status, answer.body) if isinstance(answer, Reply) else answer


def ask(runner: SyncRunner, url: str, **headers: str) -> Any:
    """Return the reply, or the kind of the missing reply."""
    answer = runner.run(send_all(Call("GET", url, headers, max_bytes=hostile.MAX_BYTES)))[0]
    return answer.kind if isinstance(answer, NoReply) else answer


def share_end(share: Share) -> Script[ShareEnd]:
    resume = yield share
    assert isinstance(resume.answer, ShareEnd | Led)
    return ShareEnd.DONE if isinstance(resume.answer, Led) else resume.answer


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for a condition that another thread makes true."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.001)


forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


# A process with threads may deadlock in a child, says Python 3.12; that ours does not is the subject.
with_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def in_a_child(work: Callable[[], bool]) -> bool:
    """Return whether `work` returns True in a forked child, within 20 seconds."""
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage does not see a child that is killed
        status = 2
        try:
            signal.alarm(20)
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def sub(at: int) -> str:
    return f"22222222-2222-4222-8222-{at:012x}"


both = pytest.mark.parametrize("backend", BACKENDS)


@contextlib.asynccontextmanager
async def opened(url: str = "http://127.0.0.1:9", **settings: Any) -> AsyncIterator[AsyncRunner]:
    runner = AsyncRunner(config_for(url, **settings))
    try:
        yield runner
    finally:
        with anyio.CancelScope(shield=True):
            await runner.aclose()


async def ask_async(runner: AsyncRunner, url: str, **headers: str) -> Any:
    """Return the reply, or the kind of the missing reply."""
    answer = (await runner.run(send_all(Call("GET", url, headers, max_bytes=hostile.MAX_BYTES))))[0]
    return answer.kind if isinstance(answer, NoReply) else answer


def ask_once(backend: Backend, url: str, **settings: Any) -> Any:
    async def main() -> Any:
        async with opened(url, **settings) as runner:
            return await ask_async(runner, url)

    return anyio.run(main, backend=backend)


async def gathered(*work: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Run all of `work` concurrently, and return the results."""
    results: dict[int, Any] = {}

    async def one(at: int) -> None:
        results[at] = await work[at]()

    async with anyio.create_task_group() as group:
        for at in range(len(work)):
            group.start_soon(one, at)
    return [results[at] for at in range(len(work))]


async def wait_until_async(true: Callable[[], bool]) -> None:
    """Same as `wait_until`, but async."""
    with anyio.fail_after(20):
        while not true():
            await anyio.sleep(0.001)
