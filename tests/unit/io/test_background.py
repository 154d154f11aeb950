"""Background tasks: they run beside the current task, in its context, and can be cancelled and awaited."""

from __future__ import annotations

from contextvars import ContextVar

import anyio
import pytest

from stackauth_middleware._io.background import BackgroundTask

VALUE = ContextVar("VALUE", default=0)
pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def test_work_runs_beside_the_current_task_in_its_context(backend: str) -> None:
    async def main() -> list[int]:
        seen: list[int] = []

        async def work() -> None:
            seen.append(VALUE.get())

        VALUE.set(5)
        task = BackgroundTask(work)
        assert seen == []
        with anyio.fail_after(5):
            await task.wait()
        return seen

    assert anyio.run(main, backend=backend) == [5]


@pytest.mark.parametrize("started", [True, False])
def test_cancelled_work_ends(backend: str, started: bool) -> None:
    async def main() -> list[str]:
        log: list[str] = []
        entered = anyio.Event()

        async def work() -> None:
            entered.set()
            try:
                await anyio.sleep(60)
            finally:
                log.append("finally")

        task = BackgroundTask(work)
        with anyio.fail_after(5):
            if started:
                await entered.wait()
            task.cancel()
            assert log == []
            await task.wait()
        return log

    assert anyio.run(main, backend=backend) == ["finally"]


def test_work_that_has_ended_can_be_cancelled(backend: str) -> None:
    async def main() -> None:
        async def work() -> None: ...

        task = BackgroundTask(work)
        await task.wait()
        task.cancel()
        await task.wait()

    anyio.run(main, backend=backend)


def test_work_ends_with_the_event_loop(backend: str) -> None:
    log: list[str] = []

    async def main() -> None:
        entered = anyio.Event()

        async def work() -> None:
            entered.set()
            try:
                await anyio.sleep(60)
            finally:
                log.append("finally")

        BackgroundTask(work)
        await entered.wait()

    anyio.run(main, backend=backend)
    assert log == ["finally"]
