"""requests' transport over connections that keep to a deadline.

The timeouts of requests and urllib3 hold for each read, each address and each part of a proxy's work
alone; here one point in time holds for connecting, the TLS handshake, the header and the body.
"""

from __future__ import annotations

import http.client
import io
import math
import queue
import socket
import time
from base64 import b64encode
from functools import partial
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from . import network
from .attempt import MAX_IDLE, Attempt, Stage


class Until(urllib3.Timeout):
    """Whatever is left of an attempt, asked at any time: urllib3's own counts a proxy's part for nothing."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__()
        self.attempt = attempt

    def clone(self) -> Until:
        return self

    @property
    def connect_timeout(self) -> float:
        return max(_SHORTEST, self.attempt.due - time.monotonic())

    @property
    def read_timeout(self) -> float:
        return self.connect_timeout


_SHORTEST = 0.001
"""Seconds. To a socket 0 would mean not to wait, and less is an error."""
_MOST_OCTETS = 2 * 1024 * 1024
"""Of one answer as it comes over the wire, with what `_read` does not see: header, chunk sizes, trailer."""


class _TimedReader(io.RawIOBase):
    """Reads from a socket for as long as an attempt may last: the timeouts of requests hold for each read alone."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, attempt: Attempt) -> None:
        self._raw = raw
        self._sock = sock
        self._attempt = attempt
        self._octets = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._attempt.due - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time budget was spent")
        if self._octets > _MOST_OCTETS:
            raise OSError("the answer has no end")
        self._sock.settimeout(left)
        count = self._raw.readinto(buffer)
        self._octets += count or 0
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
    """Holds a urllib3 connection to the one deadline of an attempt for connecting, the header and the body.

    Attributes:
        attempt: the one that it is used for.
        idle_since: when it was last given back to its pool (monotonic seconds).
    """

    attempt: Attempt
    idle_since = -math.inf
    response_class: Any
    _dns_host: str
    port: int

    def _new_conn(self) -> socket.socket:
        """Try each address of the host for its share of the time: urllib3 grants each the whole of it."""
        deadline = self.attempt.deadline
        self.response_class = partial(_TimedResponse, self.attempt)  # for a proxy's answer to CONNECT
        addresses = socket.getaddrinfo(self._dns_host, self.port, 0, socket.SOCK_STREAM)
        failure = OSError("the host has no address")
        for to_go, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                sock = _connected(address, max(_SHORTEST, deadline - time.monotonic()) / to_go)
            except OSError as error:
                failure = error
            else:
                sock.settimeout(max(_SHORTEST, deadline - time.monotonic()))  # for the TLS handshake
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
    family, kind, protocol, _, place = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(seconds)
        sock.connect(place)
    except BaseException:
        sock.close()
        raise
    return sock


class _HTTPConnection(_Timed, HTTPConnection):
    pass


class _HTTPSConnection(_Timed, HTTPSConnection):
    pass


class _IdleConnections(queue.LifoQueue[Any]):
    """The idle connections of one host. urllib3 would keep each until it is used again, however old."""

    def _put(self, item: Any) -> None:
        if item is not None:
            item.idle_since = time.monotonic()
        super()._put(item)

    def _get(self) -> Any:
        self.close_since(time.monotonic() - MAX_IDLE)
        return super()._get()

    def close_since(self, time_used: float) -> None:
        """Close what was used last before `time_used`, with `mutex` held.

        A closed connection stays, and connects again when it is used.
        """
        for each in self.queue:
            if each is not None and each.idle_since < time_used:
                each.close()


class _Pool:
    """The part of both pools that binds a connection to the attempt that it is used for."""

    QueueCls: Any = _IdleConnections
    pool: Any

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["pool_timeout"] = kwargs["timeout"]  # all that `_get_conn` is told; a pool that never blocks ignores it
        return super().urlopen(*args, **kwargs)  # type: ignore[misc]

    def _get_conn(self, timeout: Any = None) -> Any:
        connection = super()._get_conn()  # type: ignore[misc]
        attempt = connection.attempt = timeout.attempt
        if attempt.call.fresh:  # a pooled connection failed: the others are as old
            connection.close()
            with self.pool.mutex:
                self.pool.close_since(math.inf)
        attempt.reused = not connection.is_closed
        return connection


class _HTTPPool(_Pool, urllib3.HTTPConnectionPool):
    ConnectionCls: Any = _HTTPConnection


class _HTTPSPool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls: Any = _HTTPSConnection


class Transport(HTTPAdapter):
    """requests' transport over connections that keep to a deadline, with our own TLS context."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        self._tls = network.tls_context()
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._tls, proxy_ssl_context=self._tls, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Return the credentials that `proxy` holds, in UTF-8 as httpx sends them: requests knows Latin-1 alone."""
        parts = urlsplit(proxy)
        if not (parts.username or parts.password):
            return {}
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}

    def cert_verify(self, conn: Any, *args: Any, **kwargs: Any) -> None:
        """Leave the context as it is: requests would add its own authorities to those that were named."""
