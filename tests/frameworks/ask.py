"""Clients for apps in this process, with the scope or environ that a real server makes of a request target."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_to_bytes


class Answer(NamedTuple):
    """A response. Header names in lower case, repeated headers joined by a comma."""

    status: int
    headers: dict[str, str]
    body: bytes


class Ask(NamedTuple):
    """A request as sent on the wire.

    Attributes:
        target: the request target without its query, still percent-encoded.
        root_path: mount point in the configuration of the server.
        prefixed: whether the server puts `root_path` before the target (uvicorn ``--root-path``) or takes the
            target to hold it already (hypercorn ``--root-path``).
    """

    target: str
    method: str = "GET"
    headers: Mapping[str, str] = {}
    root_path: str = ""
    prefixed: bool = True


def scope_of(ask: Ask) -> dict[str, Any]:
    """Return the scope that uvicorn, or hypercorn, makes of `ask`."""
    raw = ask.target.encode("latin-1")
    path = unquote(ask.target)
    if ask.prefixed:
        path, raw = ask.root_path + path, ask.root_path.encode() + raw
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": ask.method,
        "scheme": "http",
        "path": path,
        "raw_path": raw,
        "query_string": b"",
        "root_path": ask.root_path,
        "headers": [
            (b"host", b"testserver"),
            *((k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in ask.headers.items()),
        ],
        "client": ("127.0.0.1", 1234),
        "server": ("testserver", 80),
        "state": {},
    }


async def _ask_asgi(app: Callable[..., Any], scope: dict[str, Any]) -> Answer:
    sent: list[Any] = []
    asked = False
    complete = asyncio.Event()

    async def receive() -> Any:
        nonlocal asked
        if asked:
            await complete.wait()  # the client stays connected for the whole response
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            complete.set()

    await app(scope, receive, send)
    head = next(m for m in sent if m["type"] == "http.response.start")
    headers = _joined((k.decode("latin-1"), v.decode("latin-1")) for k, v in head.get("headers", ()))
    body = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
    return Answer(head["status"], headers, body)


class Loop:
    """An event loop for several requests."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def ask(self, app: Callable[..., Any], ask: Ask) -> Answer:
        return self._loop.run_until_complete(_ask_asgi(app, scope_of(ask)))

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def environ_of(ask: Ask) -> dict[str, Any]:
    """Return the environ that a WSGI server makes of `ask`; `root_path` becomes ``SCRIPT_NAME``."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": ask.method,
        "SCRIPT_NAME": ask.root_path,
        "PATH_INFO": unquote_to_bytes(ask.target).decode("latin-1"),
        "QUERY_STRING": "",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "testserver",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    environ.update({f"HTTP_{k.upper().replace('-', '_')}": v for k, v in ask.headers.items()})
    return environ


def ask_wsgi(app: Callable[..., Iterable[bytes]], ask: Ask) -> Answer:
    """Send a request to a WSGI app."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], None]:
        started.append((status, headers))
        return lambda data: None

    chunks = app(environ_of(ask), start_response)
    try:
        body = b"".join(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    status, headers = started[-1]
    return Answer(int(status.split()[0]), _joined(headers), body)


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined
