"""Run a coroutine beside the current task of asyncio or trio, without a task group.

A task group would wrap the exceptions of the current task, delay them, and prevent its coroutine from being closed.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import anyio


class BackgroundTask:
    """A coroutine that runs in a task of its own, in the context of the task that started it.

    Args:
        work: makes the coroutine. It handles every `Exception` itself.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        trio = sys.modules.get("trio")
        if trio is not None and trio.lowlevel.in_trio_run():
            trio.lowlevel.spawn_system_task(self._run, context=contextvars.copy_context())
        else:
            import asyncio

            self._task = asyncio.create_task(self._run())  # the event loop keeps no strong reference

    def cancel(self) -> None:
        """Cancel the coroutine, and return at once."""
        self._scope.cancel()

    async def wait(self) -> None:
        """Wait until the coroutine has ended."""
        await self._done.wait()

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._work()
        finally:
            self._done.set()
