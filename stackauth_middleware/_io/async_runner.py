"""Runner for tasks: drives scripts under asyncio or trio, and lets concurrent tasks share one fetch.

State that is bound to an event loop is kept in a run variable, which has one value for each loop. A loop that
ends without `AsyncRunner.aclose` leaves its open connections behind.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable, Hashable, Mapping
from itertools import count
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import RunVar

from .._core.cache import register
from .._core.config import StackAuthConfig
from .._core.upstream import Answer, Call, Effect, Led, NoReply, Reply, Resume, Script, Share, ShareEnd
from ..errors import clear_frame_locals
from . import network
from .attempt import out_of_time
from .http_httpx import HttpxClient
from .network import clocks, monotonic

T = TypeVar("T")

_RUN_VAR_NUMBERS = count()


class _LoopState:
    """The state of one runner in one event loop.

    Attributes:
        in_flight: for each fetch in flight, the event that its leader sets when it is done.
        http: the client whose connections belong to this loop.
    """

    def __init__(self, http: HttpxClient) -> None:
        self.in_flight: dict[Hashable, anyio.Event] = {}
        self.http = http


class AsyncRunner:
    """Runs the scripts of one config, from any task of any event loop.

    Args:
        config: its time budget and proxy setting are used.

    Raises:
        ConfigError: a proxy or certificate variable of the environment is unusable.
    """

    def __init__(self, config: StackAuthConfig) -> None:
        self._timeout = config.timeout
        self._proxied = config.trust_env_proxies
        network.check_environment(config)
        # Made here and not at the first call, since reading the certificates would block the event loop.
        self._tls = network.tls_context()
        self.after_fork()
        register(self)

    def reset(self) -> None:
        """Do nothing: a runner caches no answers."""

    def after_fork(self) -> None:
        """Replace fetches in flight and connections, which belong to the parent process."""
        # Each variable has a unique name, since older releases of anyio identify variables by name alone.
        self._state: RunVar[_LoopState] = RunVar(f"stackauth_middleware {next(_RUN_VAR_NUMBERS)}")

    async def aclose(self) -> None:
        """Close the pooled connections of this event loop. The next call opens new ones."""
        await self._here().http.aclose()

    async def run(self, script: Script[T]) -> T:
        """Same as `SyncRunner.run`, but async."""
        try:
            return await self._drive(script, monotonic() + self._timeout)
        except BaseException as error:
            clear_frame_locals(error)
            raise

    async def _drive(self, script: Script[T], deadline: float) -> T:
        with contextlib.closing(script):
            try:
                effect = next(script)
                while True:
                    try:
                        answer = await self._perform(effect, deadline)
                    except Exception as error:
                        effect = script.throw(error)
                    else:
                        effect = script.send(Resume(answer, clocks()))
            except StopIteration as stop:
                result: T = stop.value
                return result

    async def _perform(self, effect: Effect, deadline: float) -> Answer:
        return await _HANDLERS[type(effect)](self, effect, deadline)

    async def _send(self, call: Call, deadline: float) -> Reply | NoReply:
        seconds = deadline - monotonic()
        if seconds <= 0:
            return out_of_time()
        if network.transport_override is not None:
            return await network.transport_override.asend(call, seconds)
        return await self._here().http.send(call, deadline)

    async def _share(self, share: Share, deadline: float) -> Led | ShareEnd:
        """Lead the fetch of `share.key`, or follow the task that leads it.

        Exactly one of these cases applies:

        1. No fetch of this key is in flight in this event loop: this task leads, runs the script and gets the result.
        2. One is in flight: this task follows, until the leader is done or its own time is up.
        3. One is in flight, but this task must not wait (`share.wait` is 0): it returns at once.

        A follower gets no result, and its script looks at the cache again, for the reasons given at
        `SyncRunner._share`. Followers are not limited in number: a task that waits blocks no other.
        """
        now = monotonic()
        in_flight = self._here().in_flight
        done = in_flight.get(share.key)
        if done is None:
            return await self._lead(share, in_flight, min(deadline, now + share.budget))
        if not share.wait:
            return ShareEnd.TIMED_OUT
        with anyio.move_on_after(max(0.0, min(deadline, now + share.wait) - now)):
            await done.wait()
        return ShareEnd.DONE if done.is_set() else ShareEnd.TIMED_OUT

    async def _lead(self, share: Share, in_flight: dict[Hashable, anyio.Event], deadline: float) -> Led:
        """Run the script in a task of its own, and release the followers however it ends.

        The separate task has two reasons. A client that disconnects must not restart the fetch, so it goes on for
        `share.cancel_grace` seconds. And httpcore keeps a connection for ever if asyncio cancels it while it
        acquires a lock; cancellation by a cancel scope does not reach it there.
        """
        done = in_flight[share.key] = anyio.Event()
        script_ended, grace = anyio.Event(), anyio.CancelScope(shield=True)
        failure: BaseException | None = None
        result: Any = None

        async def run_script() -> None:
            nonlocal failure, result
            try:
                with grace:
                    result = await self._drive(share.script(), deadline)
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # raised below: the group would wrap it
                failure = error
            finally:
                script_ended.set()

        running = run_script()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: running)
                try:
                    await script_ended.wait()
                finally:
                    grace.deadline = anyio.current_time() + share.cancel_grace
        finally:
            if inspect.getcoroutinestate(running) == inspect.CORO_CREATED:
                running.close()  # `asyncio.run` ended now, and cancelled the task before its first step
            del in_flight[share.key]
            done.set()
        if failure is not None:
            raise failure
        return Led(result)

    def _here(self) -> _LoopState:
        """Return the state of the event loop that is running."""
        try:
            return self._state.get()
        except LookupError:
            state = _LoopState(HttpxClient(self._tls, trust_env_proxies=self._proxied))
            self._state.set(state)
            return state


_HANDLERS: Mapping[type, Callable[[AsyncRunner, Any, float], Awaitable[Answer]]] = {
    Call: AsyncRunner._send,
    Share: AsyncRunner._share,
}
"""The method that performs an effect, by the type of the effect."""
