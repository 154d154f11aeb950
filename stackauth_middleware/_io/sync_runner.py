"""The threaded edge: requests sends, threads share a flight, and the pump drives a script.

It works on requests' transport layer, so there is no session that could keep a cookie, follow a
redirect or read a netrc file.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Hashable
from typing import Any, TypeVar, cast

import requests
import urllib3

from .._core.cache import register
from .._core.config import StackAuthConfig
from .._core.upstream import Answer, Call, Effect, Led, NoReply, NoReplyKind, Reply, Resume, Script, Share, ShareEnd
from ..errors import clear_frame_locals
from . import network
from .attempt import ENCODED, Attempt, out_of_time
from .deadline_adapter import Transport, Until
from .network import HANDLERS, clocks

T = TypeVar("T")


class _Aloft:
    """A flight that somebody carries. Made when it starts, so that no lock outlives its thread's world.

    A signal may raise anywhere, but not between the two steps of landing: an event would take several more.

    Attributes:
        landed: whether it is down, whatever became of its carrier.
        lock: held until then; from there on it goes from one who waits to the next.
        waiters: how many threads wait.
        pool: of the flight.
    """

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.landed = False
        self.lock = threading.Lock()
        self.lock.acquire()
        self.waiters = 0


class SyncRunner:
    """Drives the scripts of one config from any thread that runs no event loop."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._timeout = config.timeout
        self._proxied = config.trust_env_proxies
        network.check_environment(config)
        self.after_fork()
        register(self)

    def reset(self) -> None:
        """Nothing is remembered here."""

    def after_fork(self) -> None:
        """Leave locks, flights and sockets to the parent."""
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Aloft] = {}
        self._transport: Transport | None = None

    def close(self) -> None:
        """Close the pooled connections. The next call opens new ones."""
        with self._lock:
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def run(self, script: Script[T]) -> T:
        """Return what `script` returns, all its work within one budget of time."""
        try:
            return self._drive(script, time.monotonic() + self._timeout)
        except BaseException as error:
            clear_frame_locals(error)
            raise

    def _drive(self, script: Script[T], deadline: float) -> T:
        with contextlib.closing(script):
            try:
                effect = next(script)
                while True:
                    try:
                        answer = self._perform(effect, deadline)
                    except Exception as error:
                        effect = script.throw(error)
                    else:
                        effect = script.send(Resume(answer, clocks()))
            except StopIteration as stop:
                result: T = stop.value
                return result

    def _perform(self, effect: Effect, deadline: float) -> Answer:
        answer: Answer = getattr(self, HANDLERS[type(effect)])(effect, deadline)
        return answer

    def _join(self, flight: Share, deadline: float) -> Led | ShareEnd:
        """Lead, or follow who leads. Followers are always released, even if the leader's thread dies."""
        now = time.monotonic()
        mine = _Aloft(flight.pool)
        try:  # entered before others can see the flight: a signal may raise anywhere
            aloft = self._board(flight, mine)
            if aloft is mine:
                return Led(self._drive(flight.script(), min(deadline, now + flight.budget)))
        finally:
            mine.landed = True
            mine.lock.release()
            self._clear(flight, mine)
        if isinstance(aloft, ShareEnd):
            return aloft
        acquired = None
        try:
            acquired = aloft.lock.acquire(timeout=max(0.0, min(deadline, now + flight.wait) - now))
        finally:
            if aloft.landed and acquired is not False:  # killed as we were let go, we cannot tell who has the lock
                with contextlib.suppress(RuntimeError):
                    aloft.lock.release()
            with self._lock:
                aloft.waiters -= 1
        return ShareEnd.DONE if aloft.landed else ShareEnd.TIMED_OUT

    def _board(self, flight: Share, mine: _Aloft) -> _Aloft | ShareEnd:
        """Return the one aloft, which is `mine` where there was none, or why it is not waited for."""
        with self._lock:
            aloft = self._flights.get(flight.key)
            if aloft is None or aloft.landed:
                self._flights[flight.key] = mine
                return mine
            if not flight.wait:
                return ShareEnd.TIMED_OUT
            waiting = sum(each.waiters for each in self._flights.values() if each.pool == flight.pool)
            if flight.max_waiters is not None and waiting >= flight.max_waiters:
                return ShareEnd.FULL
            aloft.waiters += 1
            return aloft

    def _clear(self, flight: Share, mine: _Aloft) -> None:
        with self._lock:
            if self._flights.get(flight.key) is mine:
                del self._flights[flight.key]

    def _send(self, call: Call, deadline: float) -> Reply | NoReply:
        left = deadline - time.monotonic()
        if left <= 0:
            return out_of_time()
        if network.transport_override is not None:
            return network.transport_override.send(call, left)
        attempt = Attempt(call, deadline)
        try:
            proxy = network.proxy_for(call.url) if self._proxied else None
            attempt.proxied = proxy is not None
            request = _prepared(call)
            proxies = {"http": proxy, "https": proxy} if proxy else {}
            timeout = cast("Any", Until(attempt))
            with self._pool().send(request, stream=True, timeout=timeout, proxies=proxies) as response:
                return _read(response, attempt)
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return attempt.failed(error)

    def _pool(self) -> Transport:
        with self._lock:
            if self._transport is None:
                self._transport = Transport(pool_connections=4, pool_maxsize=32)
            return self._transport


def _prepared(call: Call) -> requests.PreparedRequest:
    headers = {**network.REQUEST_HEADERS, **call.headers}
    return requests.Request(call.method, call.url, headers=headers, data=call.body or None).prepare()


def _read(response: requests.Response, attempt: Attempt) -> Reply | NoReply:
    if response.status_code < 200:  # http.client takes a 103 for the answer, and the answer for that of the next call
        return NoReply(NoReplyKind.BROKEN, f"an interim answer {response.status_code}, which threads cannot read")
    headers = {name.lower(): value for name, value in response.headers.items()}
    if network.is_encoded(headers):
        return ENCODED
    body = bytearray()
    for chunk in response.raw.stream(16384, decode_content=False):
        body += chunk
        if len(body) > attempt.call.max_bytes:
            return attempt.too_large()
    return Reply(response.status_code, headers, bytes(body))
