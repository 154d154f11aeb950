"""Send a request through either middleware, and return the response and the scopes or environs the app received."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware

PROJECT = "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063"


@dataclass
class Seen:
    """The response to a request, and the calls of the app.

    Attributes:
        status: of the response.
        headers: of the response, by name in lower case.
        body: of the response.
        reached: the scopes or environs that the app was called with.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reached: list[Any] = field(default_factory=list)

    @property
    def code(self) -> str:
        """The error code of a refusal, or "" where the app was called."""
        return "" if self.reached else str(json.loads(self.body)["code"])

    def same(self) -> tuple[int, dict[str, str], bytes, int]:
        """Return what both middlewares must agree on: the response, and how often the app was called."""
        return self.status, self.headers, self.body, len(self.reached)


def settings_of(settings: dict[str, Any]) -> StackAuthConfig:
    """Return ``settings["config"]``, or a config of the other settings."""
    config = settings.pop("config", None)
    return config or StackAuthConfig(**{"project_id": PROJECT, **settings})


def http_scope(path: str = "/", headers: Iterable[tuple[bytes, bytes]] = (), **more: Any) -> dict[str, Any]:
    """Return the scope of a GET request."""
    return {"type": "http", "method": "GET", "path": path, "headers": list(headers), **more}


def asgi(
    scope: dict[str, Any], app: Callable[..., Any] | None = None, *, sent: list[Any] | None = None, **settings: Any
) -> Seen:
    """Send `scope` through `StackAuthASGIMiddleware`; each message to the client is appended to `sent`."""
    seen = Seen()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.reached.append(scope)
        if app is not None:
            return await app(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"app"})
        return None

    async def send(message: Any) -> None:
        if sent is not None:
            sent.append(message)
        if message["type"] == "http.response.start":
            seen.status = message["status"]
            seen.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        elif message["type"] == "http.response.body":
            seen.body += message.get("body", b"")

    async def receive() -> Any:
        raise AssertionError("the middleware reads no body")

    asyncio.run(StackAuthASGIMiddleware(inner, settings_of(settings))(scope, receive, send))
    return seen


def environ_of(path: str = "/", headers: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """Return the environ of a GET request; `path` is percent-decoded, in latin-1."""
    sent = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in (headers or {}).items()}
    return {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.input": io.BytesIO(b"unread"), **sent, **more}


def wsgi(environ: dict[str, Any], app: Callable[..., Any] | None = None, **settings: Any) -> Seen:
    """Send `environ` through `StackAuthWSGIMiddleware`."""
    seen = Seen()

    def inner(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.reached.append(environ)
        if app is not None:
            chunks: Iterable[bytes] = app(environ, start_response)
            return chunks
        start_response("200 OK", [])
        return [b"app"]

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        seen.status = int(status[:3])
        seen.headers = {name.lower(): value for name, value in headers}

    seen.body = b"".join(StackAuthWSGIMiddleware(inner, settings_of(settings))(environ, start_response))
    if environ.get("wsgi.input") is not None:
        assert environ["wsgi.input"].tell() == 0, "the middleware reads no body"
    return seen
