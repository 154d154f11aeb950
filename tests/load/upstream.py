"""A local Stack Auth over loopback that can also break below HTTP: refuse, reset, cut short, say nothing.

It runs in the driver's own event loop, so that what is done to it has happened when the next line runs.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

from stackauth_middleware.testing import LocalStackAuth

if sys.platform != "win32":
    import fcntl
    import termios

Meddling = Literal["reset", "truncated", "garbage", "empty", "hang", "drip", "closing"]
"""What becomes of an answer on its way: the last two but come late or end the connection."""

_GARBAGE = b"<html><body>It works!</body></html>"
_EMPTY = b'{"keys":[]}'
_MAX_AGE = b"public, max-age=60"
"""The shortest life of a key set that is taken at its word, so that stale ones are met all the time."""


class Upstream:
    """Serves `local` at `url`.

    Attributes:
        calls: how many requests came, by path and by what became of them.
        forbidden: tokens that may never be sent here, since they do not pass the local check.
        leaks: how often one of those was.
    """

    def __init__(self, local: LocalStackAuth) -> None:
        self.local = local
        self.calls: Counter[str] = Counter()
        self.forbidden: set[str] = set()
        self.leaks = 0
        self.connections = 0
        self._meddling: list[Meddling] = []
        self._calm = asyncio.Event()
        self._calm.set()
        self._idle: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        # Bound and never listening: no other process gets the port while connections are refused.
        self._holder = _reusable(0)
        self.port = self._holder.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """Take connections."""
        listener = _reusable(self.port)
        listener.listen(128)
        self._server = await asyncio.start_server(self._connected, sock=listener)

    def refuse(self) -> None:
        """Take no more connections, and reset those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop(self._open)

    def drop(self, which: set[asyncio.StreamWriter] | None = None) -> int:
        """Reset connections: those that wait for their next request, unless others are named.

        Of an answer that is still on its way a reset would cut off the end, which is another fault: ``truncated``.
        """
        doomed = [each for each in self._idle if not _on_its_way(each)] if which is None else list(which)
        for writer in doomed:
            _reset(writer)
        return len(doomed)

    @contextmanager
    def meddling(self, how: Meddling) -> Iterator[None]:
        """Break every answer in this way for the length of the context."""
        self._meddling.append(how)
        self._calm.clear()
        try:
            yield
        finally:
            self._meddling.remove(how)
            self._calm.set()

    async def close(self) -> None:
        """Be gone, with every connection and task."""
        self.refuse()
        self._calm.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._holder.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        self.connections += 1
        try:
            while True:
                self._idle.add(writer)
                head = await reader.readuntil(b"\r\n\r\n")
                self._idle.discard(writer)
                if not await self._exchange(head, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client, or a fault, has ended it
        finally:
            self._tasks.discard(task)
            self._open.discard(writer)
            self._idle.discard(writer)
            writer.close()

    async def _exchange(self, head: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; say whether there may be another."""
        lines = head.decode("latin-1").split("\r\n")
        target = lines[0].split()[1]
        headers = [tuple(line.split(": ", 1)) for line in lines[1:] if line]
        token = next((value for name, value in headers if name.lower() == "x-stack-access-token"), None)
        self.leaks += token is not None and token in self.forbidden
        kind = "users/me" if target.endswith("/users/me") else "jwks"
        how = self._meddling[-1] if self._meddling else None
        status, pairs, body = await self._asked(target, headers)
        self.calls[f"{kind} {how if how and how != 'closing' else status}"] += 1
        if how == "reset":
            _reset(writer)
            return False
        if how == "hang":
            await self._calm.wait()
            return False
        if how in ("garbage", "empty"):
            status, body = 200, _GARBAGE if how == "garbage" else _EMPTY
        writer.write(_head(status, pairs, body, last=how == "closing"))
        if how == "truncated":
            writer.write(body[: len(body) // 2])
        elif how == "drip":
            for number in range(len(body)):
                writer.write(body[number : number + 1])
                await writer.drain()
                await asyncio.sleep(0.05)
                if how not in self._meddling:
                    return False
        else:
            writer.write(body)
        await writer.drain()
        return how not in ("truncated", "closing")

    async def _asked(self, target: str, headers: list[Any]) -> tuple[int, list[Any], bytes]:
        path, _, query = target.partition("?")
        sent: list[Any] = []
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.local.asgi(scope, receive, send)
        return sent[0]["status"], sent[0]["headers"], b"".join(each.get("body", b"") for each in sent[1:])


@asynccontextmanager
async def serving(project_id: str) -> AsyncIterator[Upstream]:
    """Serve a local Stack Auth for the length of the context."""
    local = LocalStackAuth(project_id)
    upstream = Upstream(local)
    local.api_url = upstream.url
    await upstream.listen()
    try:
        yield upstream
    finally:
        await upstream.close()


def _head(status: int, pairs: list[Any], body: bytes, *, last: bool) -> bytes:
    kept = [(name, value) for name, value in pairs if name.lower() not in (b"content-length", b"cache-control")]
    kept += [(b"content-length", b"%d" % len(body)), (b"cache-control", _MAX_AGE)]
    kept += [(b"connection", b"close")] if last else []
    return b"HTTP/1.1 %d Whatever\r\n" % status + b"".join(b"%s: %s\r\n" % pair for pair in kept) + b"\r\n"


def _reusable(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _on_its_way(writer: asyncio.StreamWriter) -> int:
    """Return how many bytes the other side has not acknowledged: they may not be sent yet, for TCP keeps a pace."""
    if writer.transport.is_closing():
        return 0
    queued = array.array("i", [0])
    fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
    return queued[0] + writer.transport.get_write_buffer_size()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST."""
    with contextlib.suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
