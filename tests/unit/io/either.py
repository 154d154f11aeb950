"""One interface to both runners, for tests of what they have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Literal, cast

import anyio
import anyio.from_thread
import pytest

from stackauth_middleware._core.upstream import Answer, Call, Resume, Script, fetch
from stackauth_middleware._io.async_runner import AsyncRunner
from stackauth_middleware._io.sync_runner import SyncRunner
from tests.unit.io import hostile
from tests.unit.io.helpers import send_all, wait_until
from tests.unit.io.loopback import config_for

Kind = Literal["threads", "asyncio", "trio"]
every_runner = pytest.mark.parametrize("kind", ["threads", "asyncio", "trio"])


class Runner:
    """A runner of one kind, in threads or in an event loop of its own.

    Attributes:
        target: the runner under test.
    """

    def __init__(self, kind: Kind, url: str, stack: contextlib.ExitStack, **settings: Any) -> None:
        self._url = url
        self._kind = kind
        config = config_for(url, **settings)
        if kind == "threads":
            self.target: Any = SyncRunner(config)
            self._threads = stack.enter_context(ThreadPoolExecutor(16))
        else:
            self.target = AsyncRunner(config)
            self._portal = stack.enter_context(anyio.from_thread.start_blocking_portal(kind))
        stack.callback(self.close)

    def close(self) -> None:
        self.target.close() if self._kind == "threads" else self._portal.call(self.target.aclose)

    def start(self, script: Script[Any]) -> Future[Any]:
        """Run `script` beside the caller."""
        if self._kind == "threads":
            return self._threads.submit(self.target.run, script)
        return self._portal.start_task_soon(self.target.run, script)

    def run(self, script: Script[Any]) -> Any:
        return self.start(script).result(60)

    @property
    def in_flight(self) -> dict[Any, Any]:
        """The fetches in flight by key."""
        if self._kind == "threads":
            return dict(self.target._in_flight)
        return self._portal.call(lambda: dict(self.target._here().in_flight))

    def wait_for_followers(self, count: int) -> None:
        """Wait until `count` callers follow the leader of ``"key"``."""
        if self._kind == "threads":
            wait_until(lambda: self.target._in_flight["key"].waiters == count)
        else:
            self._portal.call(anyio.sleep, 0.01)  # all tasks that were started have run by then

    def ask_at_once(self, count: int, path: str = "/", *, fresh: bool = False) -> list[Answer]:
        """Send `count` concurrent calls by `fetch`, with its retry, and return their results."""
        futures = [self.start(self._script(path, fresh)) for _ in range(count)]
        wait(futures)
        return [each.result().answer for each in futures]

    def ask(self, path: str = "/", *, fresh: bool = False) -> Answer:
        return self.ask_at_once(1, path, fresh=fresh)[0]

    def send_once(self, path: str = "", **headers: str) -> Answer:
        """Send one call without a retry, and return its result."""
        return self.run(send_all(Call("GET", self._url + path, headers, max_bytes=hostile.MAX_BYTES)))[0]

    def _script(self, path: str, fresh: bool) -> Script[Resume]:
        return fetch(Call("GET", self._url + path, max_bytes=hostile.MAX_BYTES, fresh=fresh))

    def idle(self, seconds: float) -> None:
        """Make the pooled connections `seconds` older."""
        if self._kind == "threads":
            for pool in cast("Any", self.target._http._adapter).poolmanager.pools._container.values():
                for each in filter(None, pool.pool.queue):
                    each.idle_since -= seconds
        else:
            self._portal.call(self._idle, seconds)

    async def _idle(self, seconds: float) -> None:
        for pool in self.target._here().http._pools.values():
            for each in cast("Any", pool.transport)._pool.connections:
                each._connection._expire_at -= seconds


@contextlib.contextmanager
def running(kind: Kind, url: str = "http://127.0.0.1:9", **settings: Any) -> Iterator[Runner]:
    with contextlib.ExitStack() as stack:
        yield Runner(kind, url, stack, **settings)
