"""Ways to break the package on purpose: a soak that passes with one of them proves nothing.

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
from stackauth_middleware._core import flow, key_sets, lookup, reporting
from stackauth_middleware._core.upstream import Refusal
from stackauth_middleware._io import http_httpx, http_requests
from stackauth_middleware.errors import AuthServerError

_kept: list[Any] = []


def _replace(owner: Any, name: str, new: Any) -> None:
    """Replace an attribute. One that does not exist raises AttributeError, since replacing it would break nothing."""
    getattr(owner, name)
    setattr(owner, name, new)


def _expired_is_good() -> None:
    real = flow.user_of
    _replace(flow, "user_of", lambda token, wall, leeway: real(token, wall, leeway + 3600))


def _signature_is_not_checked() -> None:
    _replace(flow, "check_signature", lambda *_: None)


def _no_user_is_refused() -> None:
    _replace(flow, "enforce", lambda *_: None)


def _outage_is_401() -> None:
    real = reporting.Reporter.refuse

    def refuse(self: Any, request: Any, error: Exception) -> Any:
        is_outage = isinstance(error, AuthServerError)
        return real(self, request, RefusedError(ErrorCode.INVALID_TOKEN, "") if is_outage else error)

    _replace(reporting.Reporter, "refuse", refuse)


def _bad_token_is_503() -> None:
    real = reporting.Reporter.refuse

    def refuse(self: Any, request: Any, error: Exception) -> Any:
        is_hit = isinstance(error, RefusedError) and random.random() < 0.01
        return real(self, request, AuthServerError(ErrorCode.SERVER_ERROR, 1, "") if is_hit else error)

    _replace(reporting.Reporter, "refuse", refuse)


def _profile_of_another() -> None:
    real = lookup.Lookup._look

    def look(self: Any, *arguments: Any, **more: Any) -> Any:
        cached = next(iter(self._kept._values.values()), None) if random.random() < 0.01 else None
        is_profile = cached is not None and not isinstance(cached.reading, Refusal)
        return cached.reading if is_profile else real(self, *arguments, **more)

    _replace(lookup.Lookup, "_look", look)


def _profile_lasts_for_ever() -> None:
    _replace(lookup.Lookup, "_is_fresh", lambda *_: True)


def _withdrawn_key_stays() -> None:
    real = key_sets.Document.keys
    _replace(key_sets.Document, "keys", lambda self, held: {**held, **real(self, held)})


def _keys_are_fetched_at_once() -> None:
    _replace(key_sets.KeySet, "may_refresh", lambda self, now: now.mono - self.asked_at.mono >= 0.1)


def _pool_for_each_call() -> None:
    real = http_httpx.HttpxClient.send

    async def send(self: Any, call: Any, deadline: float) -> Any:
        _kept.append(http_httpx.HttpxClient(self._tls, trust_env_proxies=self._proxied))
        return await real(_kept[-1], call, deadline)

    def pooled(self: Any) -> Any:
        _kept.append(http_requests.DeadlineAdapter(pool_connections=4, pool_maxsize=32))
        return _kept[-1]

    _replace(http_httpx.HttpxClient, "send", send)
    _replace(http_requests.RequestsClient, "_pooled", pooled)


def _for_each_request(
    what: Callable[[Any], None], *, task: Callable[[], Any] | None = None, chance: float = 1.0
) -> None:
    """Make both middlewares call `what` with the scope or environ of some requests, or await `task` instead."""
    asgi, wsgi = StackAuthASGIMiddleware.__call__, StackAuthWSGIMiddleware.__call__

    async def called(self: Any, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and random.random() < chance:
            await task() if task else what(scope)
        await asgi(self, scope, receive, send)

    def called_by_thread(self: Any, environ: Any, start_response: Any) -> Any:
        if random.random() < chance:
            what(environ)
        return wsgi(self, environ, start_response)

    _replace(StackAuthASGIMiddleware, "__call__", called)
    _replace(StackAuthWSGIMiddleware, "__call__", called_by_thread)


def _one_in_a_thousand_is_lost() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    _for_each_request(lambda environ: environ["gunicorn.socket"].shutdown(socket.SHUT_RDWR), task=never, chance=0.001)


def _objects_leak() -> None:
    _for_each_request(lambda _: _kept.append([[] for _ in range(50)]))


def _sockets_leak() -> None:
    _for_each_request(lambda _: _kept.append(socket.socket()), chance=0.01)


def _threads_and_tasks_leak() -> None:
    async def start_task() -> None:
        _kept.append(asyncio.create_task(asyncio.Event().wait()))

    def start_thread(_: Any) -> None:
        threading.Thread(target=threading.Event().wait, daemon=True).start()

    _for_each_request(start_thread, task=start_task, chance=0.01)


BROKEN: Mapping[str, Callable[[], None]] = {
    "expired is good": _expired_is_good,
    "signature is not checked": _signature_is_not_checked,
    "no user is refused": _no_user_is_refused,
    "outage is 401": _outage_is_401,
    "1 bad token of 100 is 503": _bad_token_is_503,
    "profile of another, 1 of 100": _profile_of_another,
    "profile lasts for ever": _profile_lasts_for_ever,
    "withdrawn key stays": _withdrawn_key_stays,
    "keys are fetched 10 times a second": _keys_are_fetched_at_once,
    "pool for each call": _pool_for_each_call,
    "1 of 1000 is lost": _one_in_a_thousand_is_lost,
    "objects leak": _objects_leak,
    "sockets leak": _sockets_leak,
    "threads and tasks leak": _threads_and_tasks_leak,
}
