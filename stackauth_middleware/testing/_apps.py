"""The local Stack Auth as an ASGI app, as a WSGI app, and as a transport override."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from http.client import responses as reason_phrases
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote, urlsplit

from .._core.upstream import Call, NoReply, NoReplyKind, Reply
from ._responses import Response, bare_response


class DelayedResponse(NamedTuple):
    """A response, or None for a refused connection, and the delay before it in seconds."""

    seconds: float
    response: Response | None


Handler: TypeAlias = "Callable[[str, str, dict[str, str], bytes], DelayedResponse]"
"""Handles a method, target, headers and body."""


class AsgiApp:
    """An ASGI 3 app. It responds 502 while Stack Auth is down, since an app cannot refuse a connection."""

    def __init__(self, handler: Handler) -> None:
        self._handle = handler

    async def __call__(
        self,
        scope: Any,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        import anyio

        body = b""
        message: Any = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        target = scope.get("raw_path") or quote(scope["path"]).encode()
        if scope["query_string"]:
            target = target.partition(b"?")[0] + b"?" + scope["query_string"]
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        result = self._handle(scope["method"], target.decode("latin-1"), headers, body)
        await anyio.sleep(result.seconds)
        response = result.response or _bad_gateway()
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        await send({"type": "http.response.start", "status": response.status, "headers": pairs})
        await send({"type": "http.response.body", "body": response.body})


async def _lifespan(receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


class WsgiApp:
    """A WSGI app. It responds 502 while Stack Auth is down, since an app cannot refuse a connection."""

    def __init__(self, handler: Handler) -> None:
        self._handle = handler

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        target = quote(environ.get("PATH_INFO", ""), encoding="latin-1")
        if environ.get("QUERY_STRING"):
            target += "?" + environ["QUERY_STRING"]
        headers = {
            name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        headers["content-type"] = environ.get("CONTENT_TYPE") or ""
        length = environ.get("CONTENT_LENGTH")
        body = environ["wsgi.input"].read(int(length)) if length else b""
        result = self._handle(environ["REQUEST_METHOD"], target, headers, body)
        time.sleep(result.seconds)
        response = result.response or _bad_gateway()
        start_response(f"{response.status} {reason_phrases.get(response.status, '')}", list(response.headers))
        return [response.body]


class TransportOverride:
    """A transport override: sends the calls for every host to the local Stack Auth."""

    def __init__(self, handler: Handler) -> None:
        self._handle = handler

    def send(self, call: Call, seconds: float) -> Reply | NoReply:
        """Return the reply to `call`, or why there is none within `seconds`. A delay blocks the thread."""
        result = self._result(call)
        time.sleep(min(result.seconds, seconds))
        return _reply(result, call, seconds)

    async def asend(self, call: Call, seconds: float) -> Reply | NoReply:
        """Same as `send`, but async."""
        import anyio

        result = self._result(call)
        await anyio.sleep(min(result.seconds, seconds))
        return _reply(result, call, seconds)

    def _result(self, call: Call) -> DelayedResponse:
        """Handle `call`. The path of a base URL before ``/api/`` is removed."""
        parts = urlsplit(call.url)
        path = parts.path[max(parts.path.find("/api/"), 0) :]
        target = path + (f"?{parts.query}" if parts.query else "")
        headers = {name.lower(): value for name, value in call.headers.items()}
        return self._handle(call.method, target, {"host": parts.netloc, **headers}, call.body)


def _reply(result: DelayedResponse, call: Call, seconds: float) -> Reply | NoReply:
    if result.seconds > seconds:
        return NoReply(NoReplyKind.TIMED_OUT, f"timeout after {seconds:.3g} s while waiting for the answer")
    if result.response is None:
        return NoReply(NoReplyKind.UNSENT, "connection refused")
    if len(result.response.body) > call.max_bytes:
        return NoReply(NoReplyKind.TOO_LARGE, f"the answer was over its limit of {call.max_bytes} bytes")
    return Reply(result.response.status, dict(result.response.headers), result.response.body)


def _bad_gateway() -> Response:
    return bare_response(502, ("content-type", "text/plain; charset=utf-8"), body=b"The local Stack Auth is down.")
