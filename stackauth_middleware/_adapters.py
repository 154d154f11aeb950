"""Adapters: turn an ASGI scope, a WSGI environ or plain headers into a `RequestRecord`, and publish the outcome."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from operator import length_hint
from typing import Any, TypeAlias

from ._core.cors import HEADERS as CORS_HEADERS
from ._core.credentials import HEADERS, MAX_HEADERS, UNSEARCHED
from ._core.outcome import Outcome
from ._core.paths import of_environ, of_scope
from ._core.records import RequestRecord
from ._core.rules import WEBSOCKET

Headers: TypeAlias = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str, str] | tuple[bytes, bytes]]
"""Headers as `Verifier.authenticate` takes them."""

USER = "stackauth.user"
"""Key of the verified user, or None, in a scope or environ."""
ERROR = "stackauth.error"
"""Key of the error code of a token that could not be verified on an optional route, or None."""
OUTCOME = "stackauth.outcome"
"""Key of the `Outcome`, by which functions for handlers find the config and the token."""

HEADER_NAMES = HEADERS - {"sec-websocket-protocol"} | CORS_HEADERS
"""The headers that are read from a request, in lower case."""
_SCOPE_NAMES = {name.encode("ascii"): name for name in HEADER_NAMES}
_ENVIRON_KEYS = tuple((f"HTTP_{name.upper().replace('-', '_')}", name) for name in sorted(HEADER_NAMES))


def request_from_scope(scope: Any, setting: str, stated: str) -> RequestRecord:
    """Return the record of an ASGI request or WebSocket.

    Args:
        scope: the ASGI scope. Headers that can be iterated once only are replaced by a list of them.
        setting: ``root_path`` of the config.
        stated: the root path that the wrapped app states, or "".

    Raises:
        Exception: of any type, since what is no scope can fail in any way.
    """
    headers: dict[str, str] = {}
    pairs = scope.get("headers")
    if type(pairs) is not list and isinstance(pairs, Iterator):
        pairs = scope["headers"] = [tuple(pair) for pair in pairs]  # can be read once, and the app is to
    if length_hint(pairs or ()) > MAX_HEADERS:
        pairs, headers = (), dict(UNSEARCHED)
    repeated: set[str] = set()
    for name, value in pairs or ():
        wanted = _SCOPE_NAMES.get(name)
        if wanted is not None:
            if wanted in headers:
                repeated.add(wanted)
            else:
                headers[wanted] = value.decode("latin-1")
    for wanted in repeated:
        headers[wanted] += ","
    websocket = scope["type"] == "websocket"
    if websocket and scope.get("subprotocols"):
        headers["sec-websocket-protocol"] = ",".join(scope["subprotocols"])
    method = WEBSOCKET if websocket else scope.get("method") or "GET"
    if not isinstance(method, str):
        raise TypeError("a method that is no text")
    path, root_path = of_scope(scope, setting, stated)
    return RequestRecord(method, path, root_path, headers, websocket=websocket)


def request_from_environ(environ: Any, setting: str) -> RequestRecord:
    """Return the record of a WSGI request.

    Args:
        environ: the WSGI environ.
        setting: ``root_path`` of the config.

    Raises:
        Exception: of any type, since what is no environ can fail in any way.
    """
    headers: dict[str, str] = {}
    for key, name in _ENVIRON_KEYS:
        if key in environ:
            headers[name] = value = environ[key]
            if not isinstance(value, str):
                raise TypeError("a header that is no text")
    method, path = environ.get("REQUEST_METHOD") or "GET", environ.get("PATH_INFO") or "/"
    if not (isinstance(method, str) and isinstance(path, str)):
        raise TypeError("a method or path that is no text")
    if not path.isascii():
        path = path.encode("latin-1", "replace").decode("utf-8", "replace")
    return RequestRecord(method, path, of_environ(environ.get("SCRIPT_NAME") or "", setting), headers)


def request_from_headers(headers: Headers) -> RequestRecord:
    """Return `headers` as a middleware would pass them on: of a repeated one the first value and a comma."""
    items = getattr(headers, "items", None)  # of mappings, and of email's headers, which are none
    pairs: Any = items() if items else headers
    joined: dict[str, str] = {}
    protocols: list[str] = []
    repeated: set[str] = set()
    for name, value in pairs:
        key = _text(name).lower()
        if key == "sec-websocket-protocol":
            protocols.append(_text(value))
        elif key in joined:
            repeated.add(key)
        else:
            joined[key] = _text(value)
    for key in repeated:
        joined[key] += ","
    if protocols:
        joined["sec-websocket-protocol"] = ",".join(protocols)  # a list: it may be there more than once (RFC 6455)
    return RequestRecord("GET", "/", "", joined)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def publish(mapping: MutableMapping[str, Any], outcome: Outcome) -> None:
    """Write `outcome` into a scope or environ, where `get_user` and its like find it."""
    mapping[USER] = outcome.user
    mapping[ERROR] = outcome.error
    mapping[OUTCOME] = outcome
