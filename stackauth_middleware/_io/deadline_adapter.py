"""Transport adapter for requests that observes one deadline per attempt.

The timeouts of requests and urllib3 apply to each read, each address and each step of a proxy connection
separately. Here one deadline covers connecting, the TLS handshake, the response header and the body.
"""

from __future__ import annotations

import http.client
import io
import math
import queue
import socket
from base64 import b64encode
from functools import partial
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from . import network
from .attempt import MAX_IDLE, Attempt, Stage
from .network import monotonic


class AttemptTimeout(urllib3.Timeout):
    """Timeout that is always the time that an attempt has left. That of urllib3 ignores the time spent on a proxy."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__()
        self.attempt = attempt

    def clone(self) -> AttemptTimeout:
        return self

    @property
    def connect_timeout(self) -> float:
        return max(_MIN_TIMEOUT, self.attempt.due - monotonic())

    @property
    def read_timeout(self) -> float:
        return self.connect_timeout


_MIN_TIMEOUT = 0.001
"""Seconds. A socket timeout of 0 would mean non-blocking, and a negative one is an error."""
_MAX_WIRE_BYTES = 2 * 1024 * 1024
"""Bytes of one response on the wire, including what the client does not count: header, chunk sizes, trailer."""


class _TimedReader(io.RawIOBase):
    """Reads from a socket until the attempt is due. A timeout of requests would apply to each read separately."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, attempt: Attempt) -> None:
        self._raw = raw
        self._sock = sock
        self._attempt = attempt
        self._bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._attempt.due - monotonic()
        if left <= 0:
            raise TimeoutError("the time budget was spent")
        if self._bytes_read > _MAX_WIRE_BYTES:
            raise OSError("the answer has no end")
        self._sock.settimeout(left)
        count = self._raw.readinto(buffer)
        self._bytes_read += count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, attempt: Attempt, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_TimedReader(raw, sock, attempt))


_NotConnected = urllib3.exceptions.NewConnectionError


class _Timed:
    """Mixin that makes a urllib3 connection observe the deadline of an attempt.

    Attributes:
        attempt: the attempt that uses the connection.
        idle_since: when the connection was last returned to its pool (monotonic seconds).
    """

    attempt: Attempt
    idle_since = -math.inf
    response_class: Any
    _dns_host: str
    port: int

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers. Divides the time between them; urllib3 gives all of it to each."""
        deadline = self.attempt.deadline
        self.response_class = partial(_TimedResponse, self.attempt)  # for the response of a proxy to CONNECT
        addresses = socket.getaddrinfo(self._dns_host, self.port, 0, socket.SOCK_STREAM)
        failure = OSError("the host has no address")
        for remaining, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                sock = _connected(address, max(_MIN_TIMEOUT, deadline - monotonic()) / remaining)
            except OSError as error:
                failure = error
            else:
                sock.settimeout(max(_MIN_TIMEOUT, deadline - monotonic()))  # for the TLS handshake
                return sock
        kind = urllib3.exceptions.ConnectTimeoutError if isinstance(failure, TimeoutError) else _NotConnected
        raise kind(cast("Any", self), "no address of the host answered") from failure

    def getresponse(self) -> Any:
        self.response_class = partial(_TimedResponse, self.attempt)
        self.attempt.stage = Stage.WAITING
        response = super().getresponse()  # type: ignore[misc]
        self.attempt.stage = Stage.READING
        return response


def _connected(address: Any, seconds: float) -> socket.socket:
    family, kind, protocol, _, host_and_port = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(seconds)
        sock.connect(host_and_port)
    except BaseException:
        sock.close()
        raise
    return sock


class _HTTPConnection(_Timed, HTTPConnection):
    pass


class _HTTPSConnection(_Timed, HTTPSConnection):
    pass


class _IdleConnections(queue.LifoQueue[Any]):
    """The idle connections of one host. Closes old ones; urllib3 would keep each until its next use."""

    def _put(self, item: Any) -> None:
        if item is not None:
            item.idle_since = monotonic()
        super()._put(item)

    def _get(self) -> Any:
        self.close_idle_since(monotonic() - MAX_IDLE)
        return super()._get()

    def close_idle_since(self, moment: float) -> None:
        """Close the connections last used before `moment` (monotonic seconds). The caller holds `mutex`.

        A closed connection stays in the queue, and reconnects when it is used.
        """
        for each in self.queue:
            if each is not None and each.idle_since < moment:
                each.close()


class _Pool:
    """Mixin for both pools that assigns the current attempt to a connection."""

    QueueCls: Any = _IdleConnections
    pool: Any

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["pool_timeout"] = kwargs["timeout"]  # the only argument that reaches `_get_conn`
        return super().urlopen(*args, **kwargs)  # type: ignore[misc]

    def _get_conn(self, timeout: Any = None) -> Any:
        connection = super()._get_conn()  # type: ignore[misc]
        attempt = connection.attempt = timeout.attempt
        if attempt.call.fresh:  # a pooled connection failed, and the others are as old
            connection.close()
            with self.pool.mutex:
                self.pool.close_idle_since(math.inf)
        attempt.reused = not connection.is_closed
        return connection


class _HTTPPool(_Pool, urllib3.HTTPConnectionPool):
    ConnectionCls: Any = _HTTPConnection


class _HTTPSPool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls: Any = _HTTPSConnection


class DeadlineAdapter(HTTPAdapter):
    """Transport adapter of requests whose connections observe a deadline and use our own TLS context."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools with our connection classes and TLS context."""
        self._tls = network.tls_context()
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        """Return the pools for `proxy`, with our connection classes and TLS context."""
        manager = super().proxy_manager_for(proxy, ssl_context=self._tls, proxy_ssl_context=self._tls, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Return the header with the credentials in `proxy`, in UTF-8 as httpx sends them: requests uses Latin-1."""
        parts = urlsplit(proxy)
        if not (parts.username or parts.password):
            return {}
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}

    def cert_verify(self, conn: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: requests would add its own certificate authorities to the configured ones."""
