"""What goes wrong on request: faults that nest, and a log of what was asked."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from ._answers import NO_STORE, Answer, bare_answer, error_answer, server_fault

Kind: TypeAlias = Literal["jwks", "users/me", "users", "refresh", "sign-out", "other"]
"""What a request is for."""

_LOGGED = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """One thing that is wrong.

    Attributes:
        only: the kind of requests that suffer from it; None for all.
        seconds: how much later they are answered.
        down: whether they are not answered at all.
        database_down: whether the server lives, and answers as far as it gets without its database.
        answer: what they get for an answer.
    """

    only: Kind | None = None
    seconds: float = 0.0
    down: bool = False
    database_down: bool = False
    answer: Answer | None = None


class Trouble(NamedTuple):
    """Every fault that meets one request, taken together."""

    seconds: float
    down: bool
    database_down: bool
    answer: Answer | None


class Faults:
    """Hold the faults that are in force. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: tuple[Fault, ...] = ()

    @contextmanager
    def during(self, fault: Fault) -> Iterator[None]:
        """Have `fault` in force for the length of the context, beside those that already are."""
        with self._lock:
            self._faults = (*self._faults, fault)
        try:
            yield
        finally:
            with self._lock:
                self._faults = tuple(each for each in self._faults if each is not fault)

    def meeting(self, kind: Kind) -> Trouble:
        """Return what a request of this kind meets: delays add up, and of several answers the newest_config holds."""
        faults = [each for each in self._faults if each.only in (None, kind)]
        answers = [each.answer for each in faults if each.answer is not None]
        return Trouble(
            seconds=sum(each.seconds for each in faults),
            down=any(each.down for each in faults),
            database_down=any(each.database_down for each in faults),
            answer=answers[-1] if answers else None,
        )


def throttled(retry_after: str | None) -> Answer:
    """Return the 429 of what stands in front of the server (contract.md section 3)."""
    headers = [("content-type", "application/json")]
    if retry_after is not None:
        headers.append(("retry-after", retry_after))
    body = b'{"message":"Artificial development rate limit triggered. Wait before retrying."}'
    return bare_answer(429, *headers, body=body)


def failed(status: int) -> Answer:
    """Return a 500 as the server sends it in production; any other status as a proxy would, with a short text."""
    if status == 500:
        return error_answer(server_fault())
    headers = (("content-type", "text/plain; charset=utf-8"), ("cache-control", NO_STORE))
    return bare_answer(status, *headers, body=b"The local Stack Auth was told to fail.")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came in. Header names in lower case."""

    kind: Kind
    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)


class RequestLog:
    """Hold the last 10,000 requests, those that met a fault included, oldest first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: deque[Asked] = deque(maxlen=_LOGGED)
        self._counts: Counter[Kind] = Counter()

    def add(self, asked: Asked) -> None:
        """Note a request."""
        with self._lock:
            self._asked.append(asked)
            self._counts[asked.kind] += 1

    def count(self, kind: Kind | None = None) -> int:
        """Return how many there were since the start or `clear`: of one kind, or in all."""
        with self._lock:
            return sum(self._counts.values()) if kind is None else self._counts[kind]

    def clear(self) -> None:
        """Forget them, and count from nought."""
        with self._lock:
            self._asked.clear()
            self._counts.clear()

    def __len__(self) -> int:
        return len(self._asked)

    def __iter__(self) -> Iterator[Asked]:
        with self._lock:
            return iter(list(self._asked))

    def __getitem__(self, index: int) -> Asked:
        with self._lock:
            return self._asked[index]
