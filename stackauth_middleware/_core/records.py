"""Records that a middleware passes to the core and back: `Clocks`, `RequestRecord` and `Response`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple


class Clocks(NamedTuple):
    """Readings of both clocks in seconds: `wall` since the epoch, `mono` on the monotonic clock."""

    wall: float
    mono: float


class RequestRecord:
    """A request as an adapter reads it from a scope, an environ or plain headers. Immutable.

    It is not a mapping, sequence or dataclass, and its repr shows only the names of the headers, because error
    trackers write out the variables of frames.

    Args:
        method: the method as the client sent it, or ``"WEBSOCKET"``.
        path: the percent-decoded path, with or without `root_path` before it.
        root_path: the mount point, or ""; None if it or the path cannot be trusted.
        headers: names in lower case, repeated values joined by a comma. They hold credentials.
        websocket: whether this is a WebSocket, and not a request with a method of that name.
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

    def __getstate__(self) -> None:
        """Return no state: jsonpickle and similar tools would write the headers, which are in a slot."""

    def __reduce__(self) -> tuple[Any, ...]:
        return RequestRecord, (self.method, self.path, self.root_path, {})

    def __repr__(self) -> str:
        return f"RequestRecord({self.method!r}, {self.path!r}, {self.root_path!r}, {sorted(self.headers)!r})"


class Response(NamedTuple):
    """A response of the middleware itself, in the forms of ASGI and WSGI."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status_line: str
    """The status with its reason phrase, as WSGI takes it."""
    raw_headers: tuple[tuple[bytes, bytes], ...]
    """The headers as ASGI takes them."""

    @staticmethod
    def of(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Response:
        """Return the response with the given status, headers and body."""
        headers = tuple(headers)
        raw = tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers)
        return Response(status, headers, body, f"{status} {HTTPStatus(status).phrase}", raw)
