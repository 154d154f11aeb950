"""The apps under load: one ASGI, one WSGI, each behind two doors, and what tells which process answered.

What is outside the doors adds ``x-pid`` to every answer, and tells at ``/debug`` what the process holds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import Iterable
from typing import Any

from stackauth_middleware import (
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    _memory,
    get_user,
)

from .settings import MEMORY, PROFILE_TTL, SECRET

_settings: dict[str, Any] = {
    "secret_server_key": SECRET,
    "token_memory": MEMORY,
    "profile_memory": MEMORY,
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


def _told(obj: Any) -> bytes:
    user = get_user(obj)
    return json.dumps({"id": user.id if user else None, "name": user.display_name if user else None}).encode()


def _debug(tasks: int) -> bytes:
    gc.collect()
    objects = gc.get_objects()
    memories = [len(each) for each in objects if isinstance(each, _memory.Memory)]
    held = {"pid": os.getpid(), "tasks": tasks, "objects": len(objects), "memories": sorted(memories)}
    return json.dumps(held).encode()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await _answer(send, _told(scope), (b"x-app", b"asgi"))


async def _answer(send: Any, body: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *more]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_async_local = StackAuthASGIMiddleware(_app, _local)
_async_remote = StackAuthASGIMiddleware(_app, _remote)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Serve the app behind the door that the path names."""
    path = scope.get("path", "")

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"x-pid", b"%d" % os.getpid())]}
        await send(message)

    if path == "/debug":
        await _answer(sending, _debug(len(asyncio.all_tasks())))
    elif path.startswith("/rest/"):
        await _async_remote(scope, receive, sending)
    else:
        await _async_local(scope, receive, sending if scope["type"] == "http" else send)


def _wsgi_app(environ: Any, start_response: Any) -> Iterable[bytes]:
    return _wsgi_answer(start_response, _told(environ), ("X-App", "wsgi"))


def _wsgi_answer(start_response: Any, body: bytes, *more: tuple[str, str]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *more])
    return [body]


_wsgi_local = StackAuthWSGIMiddleware(_wsgi_app, _local)
_wsgi_remote = StackAuthWSGIMiddleware(_wsgi_app, _remote)


def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Serve the app behind the door that the path names."""
    path = environ.get("PATH_INFO", "")

    def starting(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, [*headers, ("X-Pid", str(os.getpid()))], *rest)

    if path == "/debug":
        return _wsgi_answer(starting, _debug(0))
    return (_wsgi_remote if path.startswith("/rest/") else _wsgi_local)(environ, starting)
