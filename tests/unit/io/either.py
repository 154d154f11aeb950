"""One interface to both runners, for tests of what they have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Literal, cast

import anyio.from_thread
import pytest

from stackauth_middleware._core.upstream import Answer, Call, Resume, Script, fetch
from stackauth_middleware._io.async_runner import AsyncRunner
from stackauth_middleware._io.sync_runner import SyncRunner
from tests.unit.io import hostile
from tests.unit.io.loopback import config_for

Kind = Literal["threads", "asyncio", "trio"]
every_runner = pytest.mark.parametrize("kind", ["threads", "asyncio", "trio"])


class Runner:
    """A runner of one kind. Calls use `fetch`, with its retry."""

    def __init__(self, kind: Kind, url: str, stack: contextlib.ExitStack, **settings: Any) -> None:
        self._url = url
        config = config_for(url, **settings)
        if kind == "threads":
            self._sync = SyncRunner(config)
            stack.callback(self._sync.close)
            self._threads = stack.enter_context(ThreadPoolExecutor(16))
        else:
            self._portal = stack.enter_context(anyio.from_thread.start_blocking_portal(kind))
            self._async = AsyncRunner(config)
            stack.callback(self._portal.call, self._async.aclose)
        self._kind = kind

    def ask_at_once(self, count: int, path: str = "/", *, fresh: bool = False) -> list[Answer]:
        """Send `count` concurrent calls, and return their results."""
        if self._kind == "threads":
            futures = [self._threads.submit(self._sync.run, self._script(path, fresh)) for _ in range(count)]
        else:
            futures = [self._portal.start_task_soon(self._async.run, self._script(path, fresh)) for _ in range(count)]
        wait(futures)
        return [each.result().answer for each in futures]

    def ask(self, path: str = "/", *, fresh: bool = False) -> Answer:
        return self.ask_at_once(1, path, fresh=fresh)[0]

    def _script(self, path: str, fresh: bool) -> Script[Resume]:
        return fetch(Call("GET", self._url + path, max_bytes=hostile.MAX_BYTES, fresh=fresh))

    def idle(self, seconds: float) -> None:
        """Make the pooled connections `seconds` older."""
        if self._kind == "threads":
            for pool in cast("Any", self._sync._http._adapter).poolmanager.pools._container.values():
                for each in filter(None, pool.pool.queue):
                    each.idle_since -= seconds
        else:
            self._portal.call(self._idle, seconds)

    async def _idle(self, seconds: float) -> None:
        for pool in self._async._here().http._pools.values():
            for each in cast("Any", pool.transport)._pool.connections:
                each._connection._expire_at -= seconds


@contextlib.contextmanager
def running(kind: Kind, url: str, **settings: Any) -> Iterator[Runner]:
    with contextlib.ExitStack() as stack:
        yield Runner(kind, url, stack, **settings)
