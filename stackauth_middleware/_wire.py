"""Records that cross a door or an edge. Nothing here knows what a token is.

A door hands an `Inbound` in and may get a `Response` out. A script yields a `Call` to be sent or a
`Flight` to be joined, and is resumed with a `Tick`: the answer, and both clocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")


class Clocks(NamedTuple):
    """The two times, both in seconds: `wall` since the epoch for claims, `mono` for ages."""

    wall: float
    mono: float


class Inbound:
    """A request as the middleware reads it from a scope, an environ or plain headers. Never changed.

    It is no mapping, sequence or dataclass: error trackers that write out the variables of frames find no
    header in it, but for the names in its repr.

    Args:
        method: of the request, as the client wrote it, or ``"WEBSOCKET"``.
        path: the path below `root_path` or with it, unescaped.
        root_path: the mount point, or ""; None where it or the path cannot be trusted.
        headers: names in lower case, repeated values joined by a comma. They hold credentials.
        websocket: tells a WebSocket from a request with a method of that name.
    """

    __slots__ = ("headers", "method", "path", "root_path", "websocket")

    def __init__(
        self, method: str, path: str, root_path: str | None, headers: Mapping[str, str], *, websocket: bool = False
    ) -> None:
        self.method = method
        self.websocket = websocket
        self.path = path
        self.root_path = root_path
        self.headers = headers

    def __repr__(self) -> str:
        return f"Inbound({self.method!r}, {self.path!r}, {self.root_path!r}, {sorted(self.headers)!r})"


class Response(NamedTuple):
    """A refusal, ready for either door to send."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status_line: str
    """The status as WSGI wants it."""
    raw_headers: tuple[tuple[bytes, bytes], ...]
    """The headers as ASGI wants them."""

    @staticmethod
    def of(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Response:
        """Return the response in the forms of both doors."""
        headers = tuple(headers)
        raw = tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers)
        return Response(status, headers, body, f"{status} {HTTPStatus(status).phrase}", raw)


class Call:
    """A GET for a runner to send: no redirect, no cookie, the body at most `max_octets` long.

    Where `fresh` is true it goes out on a new connection, never on a pooled one.

    Like `Reply` it is no mapping, sequence or dataclass and shows no more than its repr: error trackers
    write out the variables of frames, and the members of what they find there. Neither is ever changed.
    """

    __slots__ = ("fresh", "headers", "max_octets", "url")

    def __init__(
        self, url: str, max_octets: int, headers: Mapping[str, str] = MappingProxyType({}), *, fresh: bool = False
    ) -> None:
        self.url = url
        self.max_octets = max_octets
        self.headers = headers
        self.fresh = fresh

    def __repr__(self) -> str:  # the headers hold credentials
        return f"Call({self.url!r}, {self.max_octets})"


class Reply:
    """An answer read to its end. Header names in lower case."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:  # the body is somebody's profile
        return f"Reply({self.status})"

    @property
    def meant_status(self) -> int:
        """The status that Stack Auth means: it can hide a 4xx behind a 200 (contract.md section 3)."""
        for name in ("x-stack-actual-status", "x-hexclave-actual-status"):
            hidden = self.headers.get(name, "")
            if hidden not in ("", "200") and self.status < 400:
                return int(hidden) if hidden.isdecimal() and hidden.isascii() and len(hidden) == 3 else 502
        return self.status

    def retry_after(self, wall: float) -> int | None:
        """Return the seconds that ``Retry-After`` asks for, kept within 1 to 60; None where it says nothing."""
        value = self.headers.get("retry-after", "").strip()
        if value.isdecimal() and value.isascii():
            return max(1, min(60, int(value[:6])))
        try:
            return max(1, min(60, math.ceil(parsedate_to_datetime(value).timestamp() - wall)))
        except (ValueError, OverflowError):
            return None


class NoReplyKind(Enum):
    """What became of a call that was not answered."""

    UNSENT = "no connection, or it failed before an answer began"
    TIMED_OUT = "the time budget was spent"
    BROKEN = "the answer broke off"
    TOO_LARGE = "the answer was over its size limit"
    ENCODED = "the answer had a Content-Encoding that was not asked for"


class NoReply(NamedTuple):
    """Why there is no answer.

    Attributes:
        kind: what became of the call.
        reason: what failed, in the words of the layer that failed; for logs. It holds no credential.
        inconclusive: whether this says nothing of the server: the call failed on a pooled connection, which
            may have been dead for long, or there was no time left to send it.
    """

    kind: NoReplyKind
    reason: str
    inconclusive: bool = False

    def __str__(self) -> str:
        return self.reason


class FlightEnd(Enum):
    """How joining a flight ended. After `LANDED` look again: whoever carried it has left its result."""

    LANDED = 1
    TIMED_OUT = 2
    FULL = 3


Answer: TypeAlias = "Reply | NoReply | FlightEnd"


class Tick(NamedTuple):
    """What resumes a script."""

    answer: Answer
    clocks: Clocks


class Flight(NamedTuple):
    """Work that equal askers share: one carries `script`, the others wait for it to land.

    Attributes:
        key: askers with an equal key share the flight.
        script: makes the work; run by the carrier, once, within the carrier's own budget.
        carry: seconds that the asker can spend at most as the carrier.
        wait: seconds that it can spend at most as a waiter; 0 to go on at once.
        max_waiters: how many threads may wait for it, and for others of its pool, at once; None for any
            number. Tasks are not limited, since a task that waits holds up no other.
        linger: seconds for which a task that is cancelled goes on as the carrier, so that who asks and leaves
            does not have Stack Auth asked once more by the next.
        pool: whose flights share `max_waiters`.
    """

    key: Hashable
    script: Callable[[], Script[None]]
    carry: float = math.inf
    wait: float = math.inf
    max_waiters: int | None = None
    linger: float = 0.0
    pool: str = ""


Effect: TypeAlias = "Call | Flight"
Script: TypeAlias = Generator[Effect, Tick, T]
