"""The threaded edge: requests sends, threads share a flight, and the pump drives a script.

It works on requests' transport layer, so there is no session that could keep a cookie, follow a
redirect or read a netrc file.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import threading
import time
from collections.abc import Hashable
from functools import partial
from typing import Any, TypeVar, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from . import _edge
from ._config import StackAuthConfig
from ._edge import clocks
from ._memory import register
from ._wire import Answer, Call, Flight, FlightEnd, NoReply, Reply, Script, Tick
from .errors import forget_locals

T = TypeVar("T")


class _Aloft:
    """A flight that somebody carries. Made when it starts, so that no lock outlives its thread's world.

    A signal may raise anywhere, but not between the two steps of landing: an event would take several more.

    Attributes:
        landed: whether it is down, whatever became of its carrier.
        lock: held until then; from there on it goes from one who waits to the next.
        waiters: how many threads wait.
    """

    def __init__(self) -> None:
        self.landed = False
        self.lock = threading.Lock()
        self.lock.acquire()
        self.waiters = 0


class SyncEdge:
    """Drives the scripts of one config from any thread that runs no event loop."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._timeout = config.timeout
        self._proxied = config.trust_env_proxies
        _edge.check_environment(config)
        self.after_fork()
        register(self)

    def forget(self) -> None:
        """Nothing is remembered here."""

    def after_fork(self) -> None:
        """Leave locks, flights and sockets to the parent."""
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Aloft] = {}
        self._transport: HTTPAdapter | None = None

    def close(self) -> None:
        """Close the pooled connections. The next call opens new ones."""
        with self._lock:
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def run(self, script: Script[T]) -> T:
        """Return what `script` returns, all its work within one budget of time."""
        try:
            return self._drive(script, time.monotonic() + self._timeout)
        except BaseException as error:
            forget_locals(error)
            raise

    def _drive(self, script: Script[T], deadline: float) -> T:
        with contextlib.closing(script):
            try:
                effect = next(script)
                while True:
                    try:
                        answer = self._perform(effect, deadline)
                    except Exception as error:
                        effect = script.throw(error)
                    else:
                        effect = script.send(Tick(answer, clocks()))
            except StopIteration as stop:
                result: T = stop.value
                return result

    def _perform(self, effect: Call | Flight, deadline: float) -> Answer:
        return self._send(effect, deadline) if isinstance(effect, Call) else self._join(effect, deadline)

    def _join(self, flight: Flight, deadline: float) -> FlightEnd:
        """Carry `flight`, or wait for it. Whatever becomes of its carrier, those who wait are let go to look again."""
        now = time.monotonic()
        mine = _Aloft()
        try:  # entered before others can see the flight: a signal may raise anywhere
            aloft = self._board(flight, mine)
            if aloft is mine:
                self._drive(flight.script(), min(deadline, now + flight.carry))
                return FlightEnd.LANDED
        finally:
            mine.landed = True
            mine.lock.release()
            self._clear(flight, mine)
        if isinstance(aloft, FlightEnd):
            return aloft
        acquired = None
        try:
            acquired = aloft.lock.acquire(timeout=max(0.0, min(deadline, now + flight.wait) - now))
        finally:
            if aloft.landed and acquired is not False:  # killed as we were let go, we cannot tell who has the lock
                with contextlib.suppress(RuntimeError):
                    aloft.lock.release()
            with self._lock:
                aloft.waiters -= 1
        return FlightEnd.LANDED if aloft.landed else FlightEnd.TIMED_OUT

    def _board(self, flight: Flight, mine: _Aloft) -> _Aloft | FlightEnd:
        """Return the one aloft, which is `mine` where there was none, or why it is not waited for."""
        with self._lock:
            aloft = self._flights.get(flight.key)
            if aloft is None or aloft.landed:
                self._flights[flight.key] = mine
                return mine
            if not flight.wait:
                return FlightEnd.TIMED_OUT
            if flight.max_waiters is not None and aloft.waiters >= flight.max_waiters:
                return FlightEnd.FULL
            aloft.waiters += 1
            return aloft

    def _clear(self, flight: Flight, mine: _Aloft) -> None:
        with self._lock:
            if self._flights.get(flight.key) is mine:
                del self._flights[flight.key]

    def _send(self, call: Call, deadline: float) -> Reply | NoReply:
        left = deadline - time.monotonic()
        if left <= 0:
            return NoReply.TIMED_OUT
        if _edge.stand_in is not None:
            return _edge.stand_in.send(call, left)
        try:
            request = requests.Request("GET", call.url, headers={**_edge.REQUEST_HEADERS, **call.headers}).prepare()
            proxy = _edge.proxy_for(call.url) if self._proxied else None
            proxies = {"http": proxy, "https": proxy} if proxy else {}
            timeout = cast("Any", _Until(deadline))
            response = self._pool().send(request, stream=True, timeout=timeout, proxies=proxies)
        except requests.exceptions.Timeout:
            return NoReply.TIMED_OUT
        except requests.exceptions.SSLError:
            return NoReply.BROKEN
        except requests.exceptions.ConnectionError:
            return NoReply.UNSENT
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError):
            return NoReply.BROKEN
        with response:
            return _read(response, call.max_octets, deadline)

    def _pool(self) -> HTTPAdapter:
        with self._lock:
            if self._transport is None:
                self._transport = _Transport(pool_connections=4, pool_maxsize=32)
            return self._transport


def _read(response: requests.Response, max_octets: int, deadline: float) -> Reply | NoReply:
    if response.status_code < 200:
        return NoReply.BROKEN  # http.client takes a 103 for the answer, and the answer for that of the next call
    headers = {name.lower(): value for name, value in response.headers.items()}
    if _edge.is_encoded(headers):
        return NoReply.ENCODED
    body = bytearray()
    try:
        for chunk in response.raw.stream(16384, decode_content=False):
            body += chunk
            if len(body) > max_octets:
                return NoReply.TOO_LARGE
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        return NoReply.TIMED_OUT if time.monotonic() >= deadline else NoReply.BROKEN
    return Reply(response.status_code, headers, bytes(body))


class _Until(urllib3.Timeout):
    """Whatever is left until a deadline, asked at any time: urllib3's own counts a proxy's part for nothing."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def clone(self) -> _Until:
        return _Until(self._deadline)

    @property
    def connect_timeout(self) -> float:
        return max(_SHORTEST, self._deadline - time.monotonic())

    @property
    def read_timeout(self) -> float:
        return self.connect_timeout


_SHORTEST = 0.001
"""Seconds. To a socket 0 would mean not to wait, and less is an error."""
_MOST_OCTETS = 2 * 1024 * 1024
"""Of one answer as it comes over the wire, with what `_read` does not see: header, chunk sizes, trailer."""


class _TimedReader(io.RawIOBase):
    """Reads from a socket for as long as a deadline allows: the timeouts of requests hold for each read alone."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline
        self._octets = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
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
    def __init__(self, deadline: float, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_TimedReader(raw, sock, deadline))


_NotConnected = urllib3.exceptions.NewConnectionError


class _Timed:
    """Holds a urllib3 connection to one deadline for connecting, the header and the body."""

    timeout: Any
    response_class: Any
    _dns_host: str
    port: int

    def _new_conn(self) -> socket.socket:
        """Try each address of the host for its share of the time: urllib3 grants each the whole of it."""
        deadline = self._keep_to_deadline()  # a proxy's answer to CONNECT is read before `getresponse`
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
        self._keep_to_deadline()
        return super().getresponse()  # type: ignore[misc]

    def _keep_to_deadline(self) -> float:
        deadline = time.monotonic() + float(self.timeout)
        self.response_class = partial(_TimedResponse, deadline)
        return deadline


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


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls: Any = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls: Any = _HTTPSConnection


class _Transport(HTTPAdapter):
    """requests' transport over connections that keep to a deadline, with our own TLS context."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        self._tls = _edge.tls_context()
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._tls, proxy_ssl_context=self._tls, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager

    def cert_verify(self, conn: Any, *args: Any, **kwargs: Any) -> None:
        """Leave the context as it is: requests would add its own authorities to those that were named."""
