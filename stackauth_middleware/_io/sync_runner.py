"""Runner for threads: drives scripts, and lets concurrent threads share one fetch."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from .._core.cache import register
from .._core.config import StackAuthConfig
from .._core.upstream import Answer, Call, Effect, Led, NoReply, Reply, Resume, Script, Share, ShareEnd
from ..errors import clear_frame_locals
from . import network
from .attempt import out_of_time
from .http_requests import RequestsClient
from .network import clocks, monotonic

T = TypeVar("T")


class _InFlight:
    """One fetch in progress, and the lock that its followers block on.

    A plain lock and not a `threading.Event`: a signal handler may raise between any two steps, and setting an event
    takes several. Created when the fetch starts, so a forked child never inherits a lock that no thread will release.

    Attributes:
        done: whether the leader has finished, successfully or not.
        lock: held by the leader until then; afterwards each follower acquires it and passes it on.
        waiters: the number of threads that follow.
        pool: the `pool` of the `Share`.
    """

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.done = False
        self.lock = threading.Lock()
        self.lock.acquire()
        self.waiters = 0


class SyncRunner:
    """Runs the scripts of one config, from any thread that runs no event loop.

    Args:
        config: its time budget and proxy setting are used.

    Raises:
        ConfigError: a proxy or certificate variable of the environment is unusable.
    """

    def __init__(self, config: StackAuthConfig) -> None:
        self._timeout = config.timeout
        self._proxied = config.trust_env_proxies
        network.check_environment(config)
        self.after_fork()
        register(self)

    def reset(self) -> None:
        """Do nothing: a runner caches no answers."""

    def after_fork(self) -> None:
        """Replace locks, fetches in flight and connections, which belong to the parent process."""
        self._lock = threading.Lock()
        self._in_flight: dict[Hashable, _InFlight] = {}
        self._http = RequestsClient(trust_env_proxies=self._proxied)

    def close(self) -> None:
        """Close the pooled connections. The next call opens new ones."""
        self._http.close()

    def run(self, script: Script[T]) -> T:
        """Return the result of `script`. All of its effects share one time budget, the setting `timeout`.

        Raises:
            Exception: what the script raises. Local variables are removed from the frames of its traceback.
        """
        try:
            return self._drive(script, monotonic() + self._timeout)
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
        return _HANDLERS[type(effect)](self, effect, deadline)

    def _send(self, call: Call, deadline: float) -> Reply | NoReply:
        seconds = deadline - monotonic()
        if seconds <= 0:
            return out_of_time()
        if network.transport_override is not None:
            return network.transport_override.send(call, seconds)
        return self._http.send(call, deadline)

    def _share(self, share: Share, deadline: float) -> Led | ShareEnd:
        """Lead the fetch of `share.key`, or follow the thread that leads it.

        Exactly one of these cases applies:

        1. No fetch of this key is in flight: this thread leads. It runs the script and gets the result.
        2. One is in flight: this thread follows, until the leader is done or its own time is up.
        3. One is in flight, but this thread must not wait (`share.wait` is 0), or the pool has as many followers
           as `share.max_waiters` allows: it returns at once.
        4. One is in the table but done: its leader was killed before it could remove it. This thread leads.

        A follower gets no result, and its script looks at the cache again: the leader may have failed or been
        killed, or may have asked for a credential or key id other than the follower's. It then leads, if need be.
        Followers are released even if the leader's thread is killed.
        """
        now = monotonic()
        mine = _InFlight(share.pool)
        try:  # entered before other threads can see `mine`, since a signal handler may raise at any point
            fetch = self._leader_of(share, mine)
            if fetch is mine:
                return Led(self._drive(share.script(), min(deadline, now + share.budget)))
        finally:  # has no effect for a follower, whose `mine` is in no table
            mine.done = True
            mine.lock.release()
            self._remove(share, mine)
        if isinstance(fetch, ShareEnd):
            return fetch
        acquired = None
        try:
            acquired = fetch.lock.acquire(timeout=max(0.0, min(deadline, now + share.wait) - now))
        finally:
            if fetch.done and acquired is not False:  # None: killed within `acquire`, perhaps with the lock held
                with contextlib.suppress(RuntimeError):
                    fetch.lock.release()
            with self._lock:
                fetch.waiters -= 1
        return ShareEnd.DONE if fetch.done else ShareEnd.TIMED_OUT

    def _leader_of(self, share: Share, mine: _InFlight) -> _InFlight | ShareEnd:
        """Return the fetch in flight (`mine` if there was none), or the reason for not waiting for it."""
        with self._lock:
            fetch = self._in_flight.get(share.key)
            if fetch is None or fetch.done:
                self._in_flight[share.key] = mine
                return mine
            if not share.wait:
                return ShareEnd.TIMED_OUT
            waiting = sum(each.waiters for each in self._in_flight.values() if each.pool == share.pool)
            if share.max_waiters is not None and waiting >= share.max_waiters:
                return ShareEnd.FULL
            fetch.waiters += 1
            return fetch

    def _remove(self, share: Share, mine: _InFlight) -> None:
        with self._lock:
            if self._in_flight.get(share.key) is mine:
                del self._in_flight[share.key]


_HANDLERS: Mapping[type, Callable[[SyncRunner, Any, float], Answer]] = {
    Call: SyncRunner._send,
    Share: SyncRunner._share,
}
"""The method that performs an effect, by the type of the effect."""
