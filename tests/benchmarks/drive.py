"""Apps, scopes and environs, and the least that drives them: no server, no event loop."""

from __future__ import annotations

import asyncio
from typing import Any

HEADER = "x-stack-access-token"
OK = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    await send(OK)
    await send(BODY)


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


class Asgi:
    """Drives ASGI apps by hand, with requests of so many headers, the token's among them.

    Attributes:
        statuses: of the answers so far.
        app: an app that answers at once.
    """

    def __init__(self, headers: int) -> None:
        self._count = headers
        self.statuses: set[int] = set()
        self.app = asgi_app

    def scope(self, token: str | None, path: str = "/items/42") -> dict[str, Any]:
        pairs = [(f"x-header-{number}".encode(), b"some value") for number in range(self._count - (token is not None))]
        if token is not None:
            pairs.append((HEADER.encode(), token.encode()))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": pairs,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }

    def call(self, app: Any, scope: dict[str, Any]) -> None:
        """Hand `app` a copy of `scope`, with a state of its own as servers make it."""
        request = app({**scope, "state": {}}, _receive, self._send)
        try:
            request.send(None)
        except StopIteration:
            return
        raise AssertionError("the app waits")

    def fetch_keys(self, app: Any, token: str) -> None:
        """Send a first request in an event loop, since it may fetch keys."""

        async def request() -> None:
            await app({**self.scope(token), "state": {}}, _receive, self._send)

        asyncio.run(request())

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.statuses.add(message["status"])


class Wsgi:
    """The same for WSGI apps."""

    def __init__(self, headers: int) -> None:
        self._count = headers
        self.statuses: set[str] = set()
        self.app = wsgi_app

    def environ(self, token: str | None, path: str = "/items/42") -> dict[str, Any]:
        made = {f"HTTP_X_HEADER_{number}": "some value" for number in range(self._count - (token is not None))}
        if token is not None:
            made["HTTP_X_STACK_ACCESS_TOKEN"] = token
        return {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            **made,
        }

    def call(self, app: Any, environ: dict[str, Any]) -> None:
        body = app({**environ}, self._start_response)
        for _ in body:
            pass
        close = getattr(body, "close", None)
        if close is not None:
            close()

    def _start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        self.statuses.add(status)


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}
