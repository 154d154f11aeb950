"""Records that cross a middleware: both clocks, an `RequestRecord` request, a `Response` that refuses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Clocks(NamedTuple):
    """The two times, both in seconds: `wall` since the epoch for claims, `mono` for ages."""

    wall: float
    mono: float


class RequestRecord:
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
        return f"RequestRecord({self.method!r}, {self.path!r}, {self.root_path!r}, {sorted(self.headers)!r})"


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
