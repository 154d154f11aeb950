"""Injected faults, which nest, and the log of requests."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from ._responses import NO_STORE, Response, bare_response, error_response, server_fault

Kind: TypeAlias = Literal[
    "jwks", "users/me", "users", "refresh", "sign-out", "sessions", "teams", "permissions", "api-keys", "other"
]
"""Kind of a request, by its endpoint."""

_LOGGED = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """An injected fault.

    Attributes:
        only: the kind of requests that it affects; None for all.
        seconds: delay of the response.
        down: whether the connection is refused.
        database_down: whether the server runs without its database.
        response: the response to send; None for the regular one.
    """

    only: Kind | None = None
    seconds: float = 0.0
    down: bool = False
    database_down: bool = False
    response: Response | None = None


class ActiveFaults(NamedTuple):
    """All faults that affect one request, combined."""

    seconds: float
    down: bool
    database_down: bool
    response: Response | None


class Faults:
    """The active faults. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: tuple[Fault, ...] = ()

    @contextmanager
    def during(self, fault: Fault) -> Iterator[None]:
        """Activate `fault` within the context, in addition to those that are active."""
        with self._lock:
            self._faults = (*self._faults, fault)
        try:
            yield
        finally:
            with self._lock:
                self._faults = tuple(each for each in self._faults if each is not fault)

    def active_for(self, kind: Kind) -> ActiveFaults:
        """Return the faults that affect a request of this kind. Delays add up; the newest of several responses wins."""
        faults = [each for each in self._faults if each.only in (None, kind)]
        responses = [each.response for each in faults if each.response is not None]
        return ActiveFaults(
            seconds=sum(each.seconds for each in faults),
            down=any(each.down for each in faults),
            database_down=any(each.database_down for each in faults),
            response=responses[-1] if responses else None,
        )


def throttled(retry_after: str | None) -> Response:
    """Return the 429 of the rate limiter in front of the server (docs/stack-auth.md section 7)."""
    headers = [("content-type", "application/json")]
    if retry_after is not None:
        headers.append(("retry-after", retry_after))
    body = b'{"message":"Artificial development rate limit triggered. Wait before retrying."}'
    return bare_response(429, *headers, body=body)


def failed(status: int) -> Response:
    """Return a 500 as the server sends it in production; any other status as a proxy would send it."""
    if status == 500:
        return error_response(server_fault())
    headers = (("content-type", "text/plain; charset=utf-8"), ("cache-control", NO_STORE))
    return bare_response(status, *headers, body=b"The local Stack Auth was made to fail.")


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A received request. Header names are in lower case."""

    kind: Kind
    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)


class RequestLog:
    """The last 10,000 requests, oldest first, including those that failed. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[LoggedRequest] = deque(maxlen=_LOGGED)
        self._counts: Counter[Kind] = Counter()

    def add(self, request: LoggedRequest) -> None:
        """Add a request."""
        with self._lock:
            self._requests.append(request)
            self._counts[request.kind] += 1

    def count(self, kind: Kind | None = None) -> int:
        """Return the number of requests since the start or `clear`, of one kind or of all."""
        with self._lock:
            return sum(self._counts.values()) if kind is None else self._counts[kind]

    def clear(self) -> None:
        """Remove all requests and set the counts to 0."""
        with self._lock:
            self._requests.clear()
            self._counts.clear()

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[LoggedRequest]:
        with self._lock:
            return iter(list(self._requests))

    def __getitem__(self, index: int) -> LoggedRequest:
        with self._lock:
            return self._requests[index]
