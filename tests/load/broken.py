"""Ways to break the package on purpose: a soak that stays green over one of them proves nothing.

Each takes effect in the process that calls it, before the apps are made.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from stackauth_middleware import ErrorCode, RefusedError, StackAuthASGIMiddleware, StackAuthWSGIMiddleware
from stackauth_middleware._core import flow, key_sets, profiles
from stackauth_middleware._io import async_runner, sync_runner
from stackauth_middleware.errors import AuthServerError

_kept: list[Any] = []


def _exchange(owner: Any, name: str, new: Any) -> None:
    """Put something in the place of what is there: of a name that is gone nothing would be broken."""
    getattr(owner, name)
    setattr(owner, name, new)


def _expired_is_good() -> None:
    real = flow.user_of
    _exchange(flow, "user_of", lambda token, wall, leeway: real(token, wall, leeway + 3600))


def _signature_is_not_checked() -> None:
    _exchange(flow, "check_signature", lambda *_: None)


def _nobody_is_refused() -> None:
    _exchange(flow, "enforce", lambda *_: None)


def _outage_is_401() -> None:
    real = flow.Flow._refuse

    def refuse(self: Any, request: Any, error: Exception) -> Any:
        cannot_tell = isinstance(error, AuthServerError)
        return real(self, request, RefusedError(ErrorCode.INVALID_TOKEN, "") if cannot_tell else error)

    _exchange(flow.Flow, "_refuse", refuse)


def _bad_token_is_503() -> None:
    real = flow.Flow._refuse

    def refuse(self: Any, request: Any, error: Exception) -> Any:
        unlucky = isinstance(error, RefusedError) and random.random() < 0.01
        return real(self, request, AuthServerError(ErrorCode.SERVER_ERROR, 1, "") if unlucky else error)

    _exchange(flow.Flow, "_refuse", refuse)


def _profile_of_another() -> None:
    real = profiles.ProfileLookup._known

    def known(self: Any, *arguments: Any, **more: Any) -> Any:
        kept = next(iter(self._kept._values.values()), None) if random.random() < 0.01 else None
        return kept.profile if kept and kept.profile else real(self, *arguments, **more)

    _exchange(profiles.ProfileLookup, "_known", known)


def _profile_lasts_for_ever() -> None:
    _exchange(profiles.ProfileLookup, "_lasts", lambda *_: True)


def _withdrawn_key_stays() -> None:
    real = key_sets.Document.keys
    _exchange(key_sets.Document, "keys", lambda self, known: {**known, **real(self, known)})


def _keys_are_asked_for_at_once() -> None:
    _exchange(key_sets.KeySet, "may_refresh", lambda self, now: now.mono - self.asked_at.mono >= 0.1)


def _pool_for_each_call() -> None:
    def transport(self: Any, url: str) -> Any:
        _kept.append(async_runner.httpx.AsyncHTTPTransport(trust_env=False))
        return _kept[-1]

    def pool(self: Any) -> Any:
        _kept.append(sync_runner.Transport(pool_connections=4, pool_maxsize=32))
        return _kept[-1]

    _exchange(async_runner.AsyncRunner, "_transport", transport)
    _exchange(sync_runner.SyncRunner, "_pool", pool)


def _of_each(what: Callable[[Any], None], *, task: Callable[[], Any] | None = None, chance: float = 1.0) -> None:
    """Have doors do `what` with what a server hands them, or a coroutine function `task`, for some requests."""
    asgi, wsgi = StackAuthASGIMiddleware.__call__, StackAuthWSGIMiddleware.__call__

    async def called(self: Any, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and random.random() < chance:
            await task() if task else what(scope)
        await asgi(self, scope, receive, send)

    def called_by_thread(self: Any, environ: Any, start_response: Any) -> Any:
        if random.random() < chance:
            what(environ)
        return wsgi(self, environ, start_response)

    _exchange(StackAuthASGIMiddleware, "__call__", called)
    _exchange(StackAuthWSGIMiddleware, "__call__", called_by_thread)


def _one_in_a_thousand_is_lost() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    _of_each(lambda environ: environ["gunicorn.socket"].shutdown(socket.SHUT_RDWR), task=never, chance=0.001)


def _objects_leak() -> None:
    _of_each(lambda _: _kept.append([[] for _ in range(50)]))


def _sockets_leak() -> None:
    _of_each(lambda _: _kept.append(socket.socket()), chance=0.01)


def _threads_and_tasks_leak() -> None:
    async def start_task() -> None:
        _kept.append(asyncio.create_task(asyncio.Event().wait()))

    def start_thread(_: Any) -> None:
        threading.Thread(target=threading.Event().wait, daemon=True).start()

    _of_each(start_thread, task=start_task, chance=0.01)


BROKEN: Mapping[str, Callable[[], None]] = {
    "expired is good": _expired_is_good,
    "signature is not checked": _signature_is_not_checked,
    "nobody is refused": _nobody_is_refused,
    "outage is 401": _outage_is_401,
    "1 bad token of 100 is 503": _bad_token_is_503,
    "profile of another, 1 of 100": _profile_of_another,
    "profile lasts for ever": _profile_lasts_for_ever,
    "withdrawn key stays": _withdrawn_key_stays,
    "keys are asked for 10 times a second": _keys_are_asked_for_at_once,
    "pool for each call": _pool_for_each_call,
    "1 of 1000 is lost": _one_in_a_thousand_is_lost,
    "objects leak": _objects_leak,
    "sockets leak": _sockets_leak,
    "threads and tasks leak": _threads_and_tasks_leak,
}
