"""Requests byte for byte, and their responses."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .processes import STARTUP

Header = tuple[str, "str | bytes"]


class Answer(NamedTuple):
    """A response. Header names in lower case, repeated headers joined by a comma."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The error code of a refusal; None for other responses."""
        is_json = self.headers.get("content-type", "").startswith("application/json")
        told = self.json if is_json and self.body else None
        return told.get("code") if isinstance(told, dict) else None

    @property
    def reached_the_app(self) -> bool:
        return "x-app" in self.headers


class Connection:
    """A connection that stays open between requests, if the server allows it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), STARTUP)

    def ask(
        self, target: str | bytes, headers: Iterable[Header] = (), *, method: str = "GET", body: bytes = b""
    ) -> Answer:
        """Send a request unchanged, with host and length, and read the response."""
        lines = [b" ".join((method.encode(), _octets(target), b"HTTP/1.1")), b"Host: testserver"]
        lines += [name.encode() + b": " + _octets(value) for name, value in headers]
        if body:
            lines.append(b"Content-Length: %d" % len(body))
        self._socket.sendall(b"\r\n".join([*lines, b"", b""]) + body)
        return self.read(method)

    def send(self, octets: bytes, patience: float = STARTUP) -> None:
        """Send `octets`; a TimeoutError if the server takes nothing for `patience` seconds."""
        self._socket.settimeout(patience)
        try:
            self._socket.sendall(octets)
        finally:
            self._socket.settimeout(STARTUP)

    def read(self, method: str = "GET") -> Answer:
        response = http.client.HTTPResponse(self._socket, method=method)
        response.begin()
        joined: dict[str, str] = {}
        for name, value in response.getheaders():
            key = name.lower()
            joined[key] = f"{joined[key]}, {value}" if key in joined else value
        return Answer(response.status, joined, response.read())

    def close(self) -> None:
        self._socket.close()


def _octets(value: str | bytes) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else value


@contextmanager
def connection(port: int) -> Iterator[Connection]:
    """Open a connection within the context."""
    opened = Connection(port)
    try:
        yield opened
    finally:
        opened.close()


def ask(port: int, target: str | bytes, headers: Iterable[Header] = (), **more: Any) -> Answer:
    """Send a request on a new connection."""
    with connection(port) as opened:
        return opened.ask(target, headers, **more)
