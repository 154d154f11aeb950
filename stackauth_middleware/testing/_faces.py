"""The faces of the local Stack Auth: an ASGI app, a WSGI app, and the stand-in for the network."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from http.client import responses
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote, urlsplit

from .._core.upstream import Call, NoReply, NoReplyKind, Reply
from ._answers import Answer, bare_answer


class Outcome(NamedTuple):
    """What becomes of a request: its answer, or None for none at all, and how many seconds that takes."""

    seconds: float
    answer: Answer | None


Ask: TypeAlias = "Callable[[str, str, dict[str, str], bytes], Outcome]"
"""What is behind every face: of a method, target, headers and body."""


class AsgiFace:
    """An ASGI 3 app. While Stack Auth is down it answers 502, since an app cannot refuse a connection."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

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
        outcome = self._ask(scope["method"], target.decode("latin-1"), headers, body)
        await anyio.sleep(outcome.seconds)
        answer = outcome.answer or _bad_gateway()
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
        await send({"type": "http.response.body", "body": answer.body})


async def _lifespan(receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


class WsgiFace:
    """A WSGI app. While Stack Auth is down it answers 502, since an app cannot refuse a connection."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

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
        outcome = self._ask(environ["REQUEST_METHOD"], target, headers, body)
        time.sleep(outcome.seconds)
        answer = outcome.answer or _bad_gateway()
        start_response(f"{answer.status} {responses.get(answer.status, '')}", list(answer.headers))
        return [answer.body]


class InProcess:
    """The stand-in for the network: every address leads here, whatever its host."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def send(self, call: Call, seconds: float) -> Reply | NoReply:
        """Answer `call` within `seconds`, or say that there was no answer. Sleeps for a delay."""
        outcome = self._outcome(call)
        time.sleep(min(outcome.seconds, seconds))
        return _reply(outcome, call, seconds)

    async def asend(self, call: Call, seconds: float) -> Reply | NoReply:
        """Do as `send` does, without blocking the event loop."""
        import anyio

        outcome = self._outcome(call)
        await anyio.sleep(min(outcome.seconds, seconds))
        return _reply(outcome, call, seconds)

    def _outcome(self, call: Call) -> Outcome:
        """Ask, less the path of a base URL that has one."""
        parts = urlsplit(call.url)
        path = parts.path[max(parts.path.find("/api/"), 0) :]
        target = path + (f"?{parts.query}" if parts.query else "")
        headers = {name.lower(): value for name, value in call.headers.items()}
        return self._ask(call.method, target, {"host": parts.netloc, **headers}, call.body)


def _reply(outcome: Outcome, call: Call, seconds: float) -> Reply | NoReply:
    if outcome.seconds > seconds:
        return NoReply(NoReplyKind.TIMED_OUT, f"timeout after {seconds:.3g} s while waiting for the answer")
    if outcome.answer is None:
        return NoReply(NoReplyKind.UNSENT, "connection refused")
    if len(outcome.answer.body) > call.max_bytes:
        return NoReply(NoReplyKind.TOO_LARGE, f"the answer was over its limit of {call.max_bytes} bytes")
    return Reply(outcome.answer.status, dict(outcome.answer.headers), outcome.answer.body)


def _bad_gateway() -> Answer:
    return bare_answer(502, ("content-type", "text/plain; charset=utf-8"), body=b"The local Stack Auth is down.")
