"""The local Stack Auth behind real sockets, with a relay in front that can lose what passes it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stackauth_middleware import StackAuthConfig
from stackauth_middleware.testing import LocalStackAuth
from tests.unit.core.helpers import PROJECT

KEY = "ssk_" + "s" * 45


class Served:
    """A local Stack Auth, and what reached it.

    Attributes:
        local: the local Stack Auth.
        url: its address.
        seen: the methods and paths of the requests that it carried out.
        hold: seconds to wait before each answer.
    """

    def __init__(self) -> None:
        self.local = LocalStackAuth(PROJECT, secret_server_key=KEY)
        self.url = ""
        self.seen: list[tuple[str, str]] = []
        self.hold = 0.0

    def config(self, url: str = "", **settings: Any) -> StackAuthConfig:
        given = {"project_id": PROJECT, "api_url": url or self.url, "secret_server_key": KEY, "timeout": 20, **settings}
        return StackAuthConfig(**given)


@contextmanager
def served() -> Iterator[Served]:
    """Serve a local Stack Auth over HTTP/1.1 with connections that stay open."""
    stack_auth = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            stack_auth.seen.append((self.command, self.path))
            headers = {name.lower(): value for name, value in self.headers.items()}
            response = stack_auth.local.answer(self.command, self.path, headers, body)
            time.sleep(stack_auth.hold)
            self.send_response(response.status)
            for name, value in response.headers:
                if name.lower() != "content-length":
                    self.send_header(name, value)
            self.send_header("content-length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Print nothing: clients and the relay end connections."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        stack_auth.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield stack_auth
        finally:
            server.shutdown()
            thread.join()


class Relay:
    """Passes bytes on to a server. A connection is dead from its second request on, in one of two ways.

    Args:
        target: port of the server.
        loses: ``"request"`` if the server never sees the request, ``"answer"`` if it does, and its answer is lost.
    """

    def __init__(self, target: int, loses: str) -> None:
        self._target = target
        self._loses = loses
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            if self._exchange(client, server, client.sendall):
                lost: Callable[[bytes], object] = lambda _: None  # noqa: E731
                if self._loses == "answer":
                    self._exchange(client, server, lost)
                else:
                    client.recv(65536)

    def _exchange(self, client: socket.socket, server: socket.socket, deliver: Callable[[bytes], object]) -> bool:
        """Pass on one request and its answer; return whether there was a request."""
        if not _message(client, server.sendall):
            return False
        _message(server, deliver)
        return True


def _message(source: socket.socket, deliver: Callable[[bytes], object]) -> bool:
    """Deliver one HTTP message with a Content-Length, or without a body; return whether there was one."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = source.recv(65536)
        if not more:
            return False
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = int(lengths[0]) - len(body) if lengths else 0
    while missing > 0:
        more = source.recv(missing)
        data, missing = data + more, missing - len(more)
    deliver(data)
    return True


@contextmanager
def relayed(stack_auth: Served, loses: str) -> Iterator[Relay]:
    relay = Relay(int(stack_auth.url.rpartition(":")[2]), loses)
    try:
        yield relay
    finally:
        relay.close()
