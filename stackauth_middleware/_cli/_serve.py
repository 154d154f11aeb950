"""Servers for the demo: context managers that serve an app on a free port of this machine."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ._report import CommandError

HOST = "127.0.0.1"
_START_WITHIN = 60.0
"""Seconds until a server must be up; a busy machine needs several."""


@contextlib.contextmanager
def serving_asgi(app: Callable[..., Any]) -> Iterator[str]:
    """Serve an ASGI app with uvicorn in a thread. Yield its base URL.

    Raises:
        CommandError: the server did not start.
    """
    import uvicorn

    with socket.create_server((HOST, 0)) as listening:
        config = uvicorn.Config(app, log_config=None, ws="none", loop="asyncio", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            _wait_for(server, thread)
            yield _url(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


def _wait_for(server: Any, thread: threading.Thread) -> None:
    until = time.monotonic() + _START_WITHIN
    while not server.started:
        if not thread.is_alive() or time.monotonic() > until:
            raise CommandError("a server did not start")
        time.sleep(0.01)


@contextlib.contextmanager
def serving_wsgi(app: Callable[..., Any]) -> Iterator[str]:
    """Serve a WSGI app with the server of the standard library, in threads. Yield its base URL."""
    with make_server(HOST, 0, app, server_class=_Server, handler_class=_Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield _url(server.server_port)
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnected."""


class _Handler(WSGIRequestHandler):
    timeout = 5  # an idle client must not keep its thread

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Log nothing: the terminal is for the demo."""


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"
