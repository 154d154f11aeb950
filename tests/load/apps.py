"""The apps under load: one ASGI, one WSGI, each behind two middlewares.

The code outside the middlewares adds ``x-pid``, ``x-detail`` and ``x-stall`` to every response, and reports the
resources of the process at ``/debug``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

import httpcore
import urllib3

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware, get_user
from stackauth_middleware._core import cache
from stackauth_middleware.errors import Event

from .broken import BROKEN
from .settings import CACHE_SIZE, PROFILE_TTL, SECRET, STALL

if "SOAK_BROKEN" in os.environ:
    BROKEN[os.environ["SOAK_BROKEN"]]()

_detail: ContextVar[str] = ContextVar("detail", default="")
"""Why the middleware refused this request, from its event."""


def _report(event: Event) -> None:
    _detail.set(event.detail)


_settings: dict[str, Any] = {
    "observers": [_report],
    "secret_server_key": SECRET,
    "token_cache_size": CACHE_SIZE,
    "profile_cache_size": CACHE_SIZE,
    "profile_ttl": PROFILE_TTL,
}
_local = StackAuthConfig(
    rules=[
        Rule("/jwt/public", "public"),
        Rule("/jwt/open", "optional"),
        Rule("/jwt/any", allow_restricted=True, allow_anonymous=True),
        Rule("/jwt/profile", profile=True),
    ],
    **_settings,
)
_remote = StackAuthConfig(mode="rest", rules=[Rule("/rest/open", "optional")], **_settings)


class _Turns:
    """Notes when this process last was not scheduled for a while, since a delay then is no fault of the package."""

    def __init__(self) -> None:
        self.pid = 0
        self.last = (0.0, 0.0)

    def watch(self) -> None:
        """Start the thread, once in each process."""
        if self.pid != os.getpid():
            self.pid = os.getpid()
            threading.Thread(target=self._watch, name="turns", daemon=True).start()

    def _watch(self) -> None:
        while True:
            due = time.time() + 0.05
            time.sleep(0.05)
            now = time.time()
            if now - due > STALL:
                self.last = due, now


_turns = _Turns()


def _more() -> list[tuple[str, str]]:
    _turns.watch()
    began, ended = _turns.last
    return [("X-Pid", str(os.getpid())), ("X-Detail", _detail.get()), ("X-Stall", f"{began} {ended}")]


def _user_as_json(obj: Any) -> bytes:
    user = get_user(obj)
    return json.dumps({"id": user.id if user else None, "name": user.display_name if user else None}).encode()


def _debug(tasks: int) -> bytes:
    gc.collect()
    objects = gc.get_objects()
    sizes = [len(each) for each in objects if isinstance(each, cache.LRUCache)]
    held = {
        "pid": os.getpid(),
        "tasks": tasks,
        "threads": sum(not each.name.startswith("ThreadPoolExecutor") for each in threading.enumerate()),
        "objects": len(objects),
        "cache_sizes": sorted(sizes),
        "pooled": [os.fstat(each.fileno()).st_ino for each in _pooled(objects) if each.fileno() >= 0],
    }
    return json.dumps(held).encode()


def _pooled(objects: list[Any]) -> list[Any]:
    """Return the sockets that wait in the pools of both HTTP clients."""
    queues = [each.pool.queue for each in objects if isinstance(each, urllib3.HTTPConnectionPool) and each.pool]
    threaded = [each.sock for queue in queues for each in queue if each is not None and each.sock is not None]
    pools = [each for each in objects if isinstance(each, httpcore.AsyncConnectionPool)]
    idle = [each._connection for pool in pools for each in pool.connections if each.is_idle()]
    return threaded + [each._network_stream.get_extra_info("socket") for each in idle]


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await _answer(send, _user_as_json(scope), (b"x-app", b"asgi"))


async def _answer(send: Any, body: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *more]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_async_local = StackAuthASGIMiddleware(_app, _local)
_async_remote = StackAuthASGIMiddleware(_app, _remote)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Serve the app behind the middleware of the path."""
    path = scope.get("path", "")

    _detail.set("")

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            more = [(name.lower().encode(), value.encode()) for name, value in _more()]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    if path == "/debug":
        await _answer(sending, _debug(len(asyncio.all_tasks())))
    elif path.startswith("/rest/"):
        await _async_remote(scope, receive, sending)
    else:
        await _async_local(scope, receive, sending if scope["type"] == "http" else send)


def _wsgi_app(environ: Any, start_response: Any) -> Iterable[bytes]:
    return _wsgi_answer(start_response, _user_as_json(environ), ("X-App", "wsgi"))


def _wsgi_answer(start_response: Any, body: bytes, *more: tuple[str, str]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *more])
    return [body]


_wsgi_local = StackAuthWSGIMiddleware(_wsgi_app, _local)
_wsgi_remote = StackAuthWSGIMiddleware(_wsgi_app, _remote)


def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Serve the app behind the middleware of the path."""
    path = environ.get("PATH_INFO", "")

    _detail.set("")

    def starting(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, [*headers, *_more()], *rest)

    if path == "/debug":
        return _wsgi_answer(starting, _debug(0))
    return (_wsgi_remote if path.startswith("/rest/") else _wsgi_local)(environ, starting)
