"""How clients send requests, in threads and in tasks. All decisions are in `_core.server_api`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from .._core.config import StackAuthConfig
from .._core.pickling import PickledByConfig
from .._core.server_api.errors import ApiError
from .._core.server_api.perform import perform, server_config
from .._core.server_api.request import Request, Steps
from .._core.server_api.users import UserPages
from .._core.users import UserProfile
from .._io.network import clocks, in_event_loop

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .._core.config import Settings

T = TypeVar("T")


class SyncCalls(PickledByConfig):
    """Base of `StackAuthClient`. Each request has a time budget of its own."""

    def __init__(self, config: StackAuthConfig | None = None, **settings: Unpack[Settings]) -> None:
        self._config = server_config(config, settings)
        self._connect()

    def _connect(self) -> None:
        from .._io.sync_runner import SyncRunner

        self._runner = self._config.get_or_create(SyncRunner)

    def _send(self, request: Request[T]) -> T:
        if in_event_loop():
            raise RuntimeError("StackAuthClient would block the event loop of this thread; use AsyncStackAuthClient")
        return self._runner.run(perform(self._config, request, clocks()))

    def _send_all(self, steps: Steps[T]) -> T:
        try:
            request = next(steps)
            while True:
                try:
                    result = self._send(request)
                except ApiError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _each(self, pages: UserPages) -> Iterator[UserProfile]:
        return _Users(self._send, pages)

    def close(self) -> None:
        """Close the pooled connections. The next call opens new ones."""
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncCalls(PickledByConfig):
    """Base of `AsyncStackAuthClient`: the same as `SyncCalls`, but async."""

    def __init__(self, config: StackAuthConfig | None = None, **settings: Unpack[Settings]) -> None:
        self._config = server_config(config, settings)
        self._connect()

    def _connect(self) -> None:
        from .._io.async_runner import AsyncRunner

        self._runner = self._config.get_or_create(AsyncRunner)

    async def _send(self, request: Request[T]) -> T:
        return await self._runner.run(perform(self._config, request, clocks()))

    async def _send_all(self, steps: Steps[T]) -> T:
        try:
            request = next(steps)
            while True:
                try:
                    result = await self._send(request)
                except ApiError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _each(self, pages: UserPages) -> AsyncIterator[UserProfile]:
        return _AsyncUsers(self._send, pages)

    async def aclose(self) -> None:
        """Close the pooled connections of this event loop. The next call opens new ones."""
        await self._runner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class _Users(Iterator[UserProfile]):
    """The users of all pages. Not a generator: after an outage, the next call asks for the same page again."""

    def __init__(self, send: Callable[[Request[None]], None], pages: UserPages) -> None:
        self._send = send
        self._pages = pages

    def __next__(self) -> UserProfile:
        while not self._pages.ready:
            if self._pages.done:
                raise StopIteration
            self._send(self._pages.next())
        return self._pages.ready.popleft()


class _AsyncUsers(AsyncIterator[UserProfile]):
    """Same as `_Users`, but async. For an async generator, trio would warn if a loop leaves it early."""

    def __init__(self, send: Callable[[Request[None]], Awaitable[None]], pages: UserPages) -> None:
        self._send = send
        self._pages = pages

    async def __anext__(self) -> UserProfile:
        while not self._pages.ready:
            if self._pages.done:
                raise StopAsyncIteration
            await self._send(self._pages.next())
        return self._pages.ready.popleft()
