"""`Request`: a call of the server API and the reader of its answer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")


class Request(Generic[T]):
    """A call of the server API, whose parts have been checked. Its repr shows no body, which may hold a password.

    Args:
        method: in capitals.
        path: below ``/api/v1``, with the leading slash.
        read: takes the JSON of a successful answer, None if it has no body. Raises ValueError, TypeError or
            LookupError if it cannot be read. The text of an `UnreadableError` is logged.
        params: of the query; any text.
        body: JSON value to send; None for no body.
    """

    __slots__ = ("body", "method", "params", "path", "read")

    def __init__(
        self,
        method: str,
        path: str,
        read: Callable[[Any], T],
        params: Mapping[str, str] = MappingProxyType({}),
        body: Any = None,
    ) -> None:
        self.method = method
        self.path = path
        self.read = read
        self.params = params
        self.body = body

    def __repr__(self) -> str:
        return f"Request({self.method!r}, {self.path!r})"


Steps: TypeAlias = Generator[Request[Any], Any, T]
"""Several requests, each sent in a time budget of its own and resumed with the result or the `ApiError`."""


class UnreadableError(ValueError):
    """An answer cannot be read. The text is one of a fixed set of sentences and holds nothing of the answer."""


def ignore(_body: Any) -> None:
    """Ignore the body of an answer of which only the status matters."""
