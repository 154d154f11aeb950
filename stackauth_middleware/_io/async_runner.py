"""The asynchronous edge: httpx sends, tasks share a flight, and the pump drives a script.

It works on httpx's transport layer, so there is no client that could keep a cookie, follow a redirect
or read a netrc file. Everything with a loop in it lives in a run variable, one for each event loop,
asyncio's or trio's. A loop that ends without `aclose` leaves its open connections behind.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Mapping
from importlib import import_module
from itertools import count
from typing import Any, TypeVar, cast

import anyio
import httpx
from anyio.lowlevel import RunVar

from .._core.cache import register
from .._core.config import StackAuthConfig
from .._core.upstream import Answer, Call, Effect, Led, NoReply, Reply, Resume, Script, Share, ShareEnd
from ..errors import clear_frame_locals
from . import network
from .attempt import ENCODED, MAX_IDLE, Attempt, Stage, out_of_time
from .network import HANDLERS, clocks

T = TypeVar("T")

_RENEWALS = count()

# What both libraries import only at the first call, which would stop the event loop for a tenth of a second.
import_module("httpcore")
for _backend in ("asyncio", "trio"):
    with contextlib.suppress(ImportError):
        import_module(f"anyio._backends._{_backend}")


class _OfLoop:
    """What belongs to one event loop."""

    def __init__(self) -> None:
        self.flights: dict[Hashable, anyio.Event] = {}
        self.pools: dict[str | None, _Pool] = {}


class _Pool:
    """Connections of one event loop, to Stack Auth or to one proxy."""

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self.transport = transport
        self._calls = 0
        self._retired = False

    @contextlib.asynccontextmanager
    async def in_use(self) -> AsyncIterator[httpx.AsyncHTTPTransport]:
        """Keep a pool that is retired meanwhile open for the body."""
        self._calls += 1
        try:
            yield self.transport
        finally:
            self._calls -= 1
            await self._close_if_done()

    async def retire(self) -> None:
        """Close it once the last call that it serves is done. httpx closes connections only all together."""
        self._retired = True
        await self._close_if_done()

    async def _close_if_done(self) -> None:
        if self._retired and not self._calls:
            with anyio.CancelScope(shield=True):
                await self.transport.aclose()


class AsyncRunner:
    """Drives the scripts of one config from any task of any event loop."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._timeout = config.timeout
        self._proxied = config.trust_env_proxies
        network.check_environment(config)
        # Made here and not at the first call, for the same reason.
        self._tls = network.tls_context()
        self.after_fork()
        register(self)

    def reset(self) -> None:
        """Nothing is remembered here."""

    def after_fork(self) -> None:
        """Leave flights and sockets to the parent."""
        # A name of its own: older releases of anyio tell such variables apart by nothing else.
        self._of_loop: RunVar[_OfLoop] = RunVar(f"stackauth_middleware {next(_RENEWALS)}")

    async def aclose(self) -> None:
        """Close the pooled connections of this event loop. The next call opens new ones."""
        pools = self._here().pools
        for proxy in list(pools):
            await pools.pop(proxy).transport.aclose()

    async def run(self, script: Script[T]) -> T:
        """Return what `script` returns, all its work within one budget of time."""
        try:
            return await self._drive(script, time.monotonic() + self._timeout)
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
        answer: Answer = await getattr(self, HANDLERS[type(effect)])(effect, deadline)
        return answer

    async def _join(self, flight: Share, deadline: float) -> Led | ShareEnd:
        now = time.monotonic()
        flights = self._here().flights
        landed = flights.get(flight.key)
        if landed is None:
            return await self._carry(flight, flights, min(deadline, now + flight.budget))
        if not flight.wait:
            return ShareEnd.TIMED_OUT
        with anyio.move_on_after(max(0.0, min(deadline, now + flight.wait) - now)):
            await landed.wait()
        return ShareEnd.DONE if landed.is_set() else ShareEnd.TIMED_OUT

    async def _carry(self, flight: Share, flights: dict[Hashable, anyio.Event], deadline: float) -> Led:
        """Lead: run the script. Whatever becomes of this task, the followers are released to look again.

        A task of its own runs it, for two reasons. A stranger who asks and leaves must not cost a call each
        time, so it goes on for a while. And httpcore, cancelled by asyncio itself where it takes a lock,
        would keep the connection for ever; a cancel scope never strikes there.
        """
        landed = flights[flight.key] = anyio.Event()
        done, going_on = anyio.Event(), anyio.CancelScope(shield=True)
        failure: BaseException | None = None
        result: Any = None

        async def fly() -> None:
            nonlocal failure, result
            try:
                with going_on:
                    result = await self._drive(flight.script(), deadline)
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # raised below: the group would wrap it
                failure = error
            finally:
                done.set()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(fly)
                try:
                    await done.wait()
                finally:
                    going_on.deadline = anyio.current_time() + flight.cancel_grace
        finally:
            del flights[flight.key]
            landed.set()
        if failure is not None:
            raise failure
        return Led(result)

    async def _send(self, call: Call, deadline: float) -> Reply | NoReply:
        left = deadline - time.monotonic()
        if left <= 0:
            return out_of_time()
        if network.transport_override is not None:
            return await network.transport_override.asend(call, left)
        attempt = Attempt(call, deadline)
        try:
            proxy = network.proxy_for(call.url) if self._proxied else None
            attempt.proxied = proxy is not None
            with anyio.fail_after(left) as scope:
                pools = self._here().pools
                if call.fresh and proxy in pools:
                    await pools.pop(proxy).retire()
                pool = pools.get(proxy) or pools.setdefault(proxy, self._new_pool(proxy))
                async with pool.in_use() as transport:
                    return await _exchange(transport, attempt, scope)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return attempt.failed(error)

    def _new_pool(self, named: str | None) -> _Pool:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=MAX_IDLE)
        tls = self._tls if named and named.startswith("https:") else None
        proxy = httpx.Proxy(named, ssl_context=tls) if named else None
        return _Pool(httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=limits, proxy=proxy))

    def _here(self) -> _OfLoop:
        try:
            return self._of_loop.get()
        except LookupError:
            here = _OfLoop()
            self._of_loop.set(here)
            return here


async def _exchange(transport: httpx.AsyncHTTPTransport, attempt: Attempt, scope: anyio.CancelScope) -> Reply | NoReply:
    """Send the call and read its answer; `scope` ends when the attempt is due."""
    connected = False

    def reached(stage: Stage) -> None:
        attempt.stage = stage
        scope.deadline = anyio.current_time() + attempt.due - time.monotonic()

    async def trace(event: str, info: Mapping[str, Any]) -> None:
        nonlocal connected
        if event == "connection.connect_tcp.started":
            connected = True
        elif event == "http11.send_request_headers.started" and info["request"].method != b"CONNECT":
            attempt.reused = not connected
            reached(Stage.WAITING)

    headers = {**network.REQUEST_HEADERS, **attempt.call.headers}
    method, url, content = attempt.call.method, attempt.call.url, attempt.call.body or None
    request = httpx.Request(method, url, headers=headers, content=content, extensions={"trace": trace})
    response = await transport.handle_async_request(request)
    reached(Stage.READING)
    try:
        return await _read(response, attempt)
    finally:
        await response.aclose()


async def _read(response: httpx.Response, attempt: Attempt) -> Reply | NoReply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    if network.is_encoded(headers):
        return ENCODED
    body = bytearray()
    # Leaving the loop would leave four generators behind, one in the other; cancelling ends them inside out.
    with anyio.CancelScope() as scope:
        async for chunk in cast("httpx.AsyncByteStream", response.stream):
            body += chunk
            if len(body) > attempt.call.max_bytes:
                scope.cancel()
    too_large = len(body) > attempt.call.max_bytes
    return attempt.too_large() if too_large else Reply(response.status_code, headers, bytes(body))


@contextlib.asynccontextmanager
async def beside(
    do: Callable[[], Coroutine[Any, Any, None]],
) -> AsyncIterator[tuple[Callable[[], object], Callable[[], object]]]:
    """Yield what starts `do` beside the body, and what gives it up; it is given up at the end of the body."""
    failure: BaseException | None = None
    given_up = anyio.CancelScope()

    async def doing() -> None:
        with given_up:
            await do()

    async with anyio.create_task_group() as group:
        try:
            yield lambda: group.start_soon(doing), given_up.cancel
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # raised below: the group would wrap it
            failure = error
        given_up.cancel()
    if failure is not None:
        raise failure
