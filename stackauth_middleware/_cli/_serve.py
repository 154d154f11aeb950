"""Servers for the demo: an app on a free port of this machine, for as long as a ``with`` block lasts."""

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
"""Seconds in which a server has to be up: plenty, for a machine that is busy with other things."""


@contextlib.contextmanager
def serving_asgi(app: Callable[..., Any]) -> Iterator[str]:
    """Serve an ASGI app by uvicorn, in a thread, and yield its base URL.

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
    """Serve a WSGI app by the standard library's server, in threads, and yield its base URL."""
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
        """Pass over a client that went away."""


class _Handler(WSGIRequestHandler):
    timeout = 5  # a client that opens a connection and says nothing would keep its thread

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Leave the terminal to the demo."""


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"
