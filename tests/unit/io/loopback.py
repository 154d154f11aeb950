"""A scripted server on the loopback interface: slow, silent, or not speaking HTTP."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from stackauth_middleware import StackAuthConfig
from stackauth_middleware._core.records import Clocks
from stackauth_middleware._core.users import UserType
from tests.unit.core.helpers import API, DOCUMENTS, PROJECT, SIGNERS, Signer, document, token


class Gone(Exception):
    """Ends the handling of a connection."""


class Exchange:
    """A request, and the connection to answer on.

    Attributes:
        target: the request target as it stood on the wire.
        headers: names in lower case.
        connection: the number of its connection, from 1.
        number: the number of the request, from 1, over all connections.
    """

    def __init__(self, server: Loopback, sock: socket.socket, head: bytes, connection: int) -> None:
        line, *fields = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = line.split(" ", 2)
        pairs = (each.partition(":") for each in fields if each)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}
        self.connection = connection
        self.number = 0
        self.sock = sock
        self._server = server

    def send(self, *parts: bytes | str) -> None:
        try:
            self.sock.sendall(b"".join(part.encode("latin-1") if isinstance(part, str) else part for part in parts))
        except OSError:
            raise Gone from None

    def reply(self, body: Any = b"", status: int = 200, **headers: str) -> None:
        """Send a complete response. A body that is not bytes is sent as JSON; ``_`` in a header name means ``-``."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Length": str(len(data)), **{n.replace("_", "-"): v for n, v in headers.items()}}
        self.send(f"HTTP/1.1 {status} Said So\r\n", *(f"{n}: {v}\r\n" for n, v in fields.items()), "\r\n", data)

    def drip(self, text: str, every: float = 0.05) -> None:
        """Send `text` byte by byte, more slowly than any caller can wait."""
        for character in text:
            self.send(character)
            self.hold(every)

    def hold(self, seconds: float = 60) -> None:
        """Wait for `seconds`, or until the server is closed."""
        if self._server.closing.wait(seconds):
            raise Gone

    def close(self) -> None:
        raise Gone

    def reset(self) -> None:
        """Reset the connection."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone


class Loopback:
    """The server, in its own threads; a context manager.

    Attributes:
        requests: the exchanges so far.
        connections: how many connections were accepted.
        closing: set once the server closes.
    """

    def __init__(self, answer: Callable[[Exchange], None], tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.tls = tls
        self.requests: list[Exchange] = []
        self.connections = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def targets(self) -> list[str]:
        return [each.target for each in self.requests]

    def __enter__(self) -> Loopback:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.drop_connections()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a thread of the loopback server hangs"
        self._listener.close()

    def drop_connections(self) -> None:
        """Close all connections, as a server does after an idle timeout."""
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="loopback")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(sock)
                if self.closing.is_set():
                    sock.close()
                    return
            self._start(self._serve, sock, self.connections)

    def _serve(self, sock: socket.socket, connection: int) -> None:
        try:
            if self.tls is not None:
                sock = self._wrapped(sock, self.tls)
            while (head := _head(sock)) is not None:
                exchange = Exchange(self, sock, head, connection)
                with self._lock:
                    self.requests.append(exchange)
                    exchange.number = len(self.requests)
                self.answer(exchange)
        except (Gone, OSError):
            pass
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def _wrapped(self, sock: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        with self._lock:
            self._open.discard(sock)
            wrapped = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            self._open.add(wrapped)
        try:
            wrapped.do_handshake()
        except OSError:
            with self._lock:
                self._open.discard(wrapped)
            wrapped.close()
            raise
        return wrapped


def _head(sock: socket.socket) -> bytes | None:
    """Return the next request up to its empty line, or None at the end of the connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # requests have no body and are not pipelined
        data = sock.recv(65536)
        if not data:
            return None
        head += data
    return head[:-4]


class Issuer:
    """Answers like the JWKS endpoint of Stack Auth. For `answer` of a `Loopback`.

    Attributes:
        signers: the keys that are published.
        hold: seconds to wait before each answer.
        held: where set, answers wait for it.
        status: what to answer with instead, a number other than 200.
    """

    def __init__(self) -> None:
        self.signers: Mapping[UserType, tuple[Signer, ...]] = dict(SIGNERS)
        self.hold = 0.0
        self.held: threading.Event | None = None
        self.status = 200

    def __call__(self, exchange: Exchange) -> None:
        exchange.hold(self.hold)
        if self.held is not None:
            self.held.wait(30)
        if self.status != 200:
            exchange.reply(b"Project not found", self.status, Content_Type="text/plain")
        else:
            exchange.reply(self.document(exchange.target), Content_Type="application/json")

    def document(self, target: str) -> dict[str, Any]:
        """Return the key set for `target`, a URL or its end."""
        kinds = {"": "normal", "include_restricted=true": "restricted", "include_anonymous=true": "anonymous"}
        return document(*DOCUMENTS[UserType(kinds[target.partition("?")[2]])], signers=self.signers)


def config_for(url: str, **settings: Any) -> StackAuthConfig:
    """Return a config that calls `url` and accepts tokens of the hosted issuer, with a long timeout."""
    return StackAuthConfig(**{"project_id": PROJECT, "api_url": url, "issuer_url": API, "timeout": 30, **settings})


def live_token(kind: UserType = UserType.NORMAL, *, signer: Signer | None = None, **changes: Any) -> str:
    """Return a token that is valid for ten minutes."""
    now = int(time.time())
    return token(kind, signer=signer, **{"iat": now - 60, "exp": now + 600, "signed_up_at": now - 86_400, **changes})


@contextlib.contextmanager
def deaf_address(host: str = "127.0.0.1", port: int = 0) -> Any:
    """Yield the address of a socket that accepts no connection, since its backlog is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        time.sleep(0.02)
        yield listener.getsockname()


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Skew:
    """Replaces `clocks` in a module of the package by clocks that are `seconds` ahead."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> Clocks:
        return Clocks(time.time() + self.seconds, time.monotonic() + self.seconds)


Backend = Literal["asyncio", "trio"]
BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
