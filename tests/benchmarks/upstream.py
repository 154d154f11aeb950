"""A Stack Auth on the loopback in its own process: fixed replies, after a configurable delay."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOKEN = b"x-stack-access-token: "


class Upstream:
    """The process and a hand on it; a context manager.

    Attributes:
        url: its base URL.
    """

    def __init__(self) -> None:
        arguments = [sys.executable, "-m", "tests.benchmarks.upstream"]
        self._process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def answer(self, target: str, body: Any, token: str = "") -> None:
        """Have `body`, as JSON, be the answer to a GET of `target`, by whoever sends `token`."""
        self._tell({"target": target, "token": token, "body": body})

    def delay(self, seconds: float) -> None:
        """Answer that much later from now on."""
        self._tell({"delay": seconds})

    def count(self) -> int:
        """Return how many requests came in since the last time."""
        counted: int = self._tell({})["count"]
        return counted

    def _tell(self, order: dict[str, Any]) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        encoded = base64.urlsafe_b64encode(json.dumps(order).encode()).decode()
        connection.request("GET", f"/-/{encoded}")
        try:
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class _Server(asyncio.Protocol):
    answers: dict[tuple[bytes, bytes], bytes] = {}
    delay = 0.0
    count = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            self._request(head)

    def _request(self, head: bytes) -> None:
        target = head.split(b" ", 2)[1]
        if target.startswith(b"/-/"):
            self._reply(self._ordered(json.loads(base64.urlsafe_b64decode(target[3:]))))
            return
        _Server.count += 1
        at = head.lower().find(TOKEN)
        token = head[at + len(TOKEN) :].split(b"\r\n", 1)[0].strip() if at >= 0 else b""
        body = _Server.answers.get((target, token)) or _Server.answers.get((target, b""))
        if _Server.delay:
            asyncio.get_running_loop().call_later(_Server.delay, self._reply, body)
        else:
            self._reply(body)

    def _ordered(self, order: dict[str, Any]) -> bytes:
        if "target" in order:
            _Server.answers[order["target"].encode(), order["token"].encode()] = json.dumps(order["body"]).encode()
        _Server.delay = order.get("delay", _Server.delay)
        counted, _Server.count = _Server.count, 0
        return json.dumps({"count": counted}).encode()

    def _reply(self, body: bytes | None) -> None:
        status, body = (b"200 OK", body) if body is not None else (b"404 Not Found", b"{}")
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (status, len(body))
        self.transport.write(head + b"Cache-Control: public, max-age=3600\r\n\r\n" + body)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
