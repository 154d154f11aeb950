"""Adapters: read an ASGI scope, a WSGI environ or plain headers into a `RequestRecord`, and publish the outcome."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from operator import length_hint
from typing import Any, TypeAlias

from ._core.cors import HEADERS as CORS_HEADERS
from ._core.credentials import HEADERS, MAX_HEADERS, UNSEARCHED
from ._core.outcome import Outcome
from ._core.paths import of_environ, of_scope, stated_root_path
from ._core.records import RequestRecord
from ._core.rules import WEBSOCKET
from ._core.users import GUEST, Permissions

Headers: TypeAlias = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str, str] | tuple[bytes, bytes]]
"""Argument type of `Verifier.authenticate`: a mapping or pairs, as text or bytes."""

USER = "stackauth.user"
"""Key in a scope or environ for the verified user, or None."""
ERROR = "stackauth.error"
"""Key in a scope or environ for the error code of a token that could not be judged on an optional route, or None."""
OUTCOME = "stackauth.outcome"
"""Key in a scope or environ for the `Outcome`, in which `_handler_api` finds the config and the token."""

HEADER_NAMES = HEADERS - {"sec-websocket-protocol"} | CORS_HEADERS
"""Names of the headers that are read from a request, in lower case."""
_SCOPE_NAMES = {name.encode("ascii"): name for name in HEADER_NAMES}
_ENVIRON_KEYS = tuple((f"HTTP_{name.upper().replace('-', '_')}", name) for name in sorted(HEADER_NAMES))


def shown(app: object) -> str:
    """Return how an error message describes `app`, which is not an app.

    A server that is given the middleware class as its app calls the class with a scope or environ. Those hold
    credentials, so they are not shown.
    """
    if isinstance(app, Mapping):
        return "a scope or environ, as if the class of the middleware were the app"
    return repr(app)


def accepts(app: Any, count: int) -> bool:
    """Return whether `app` can be called with `count` positional arguments.

    Only its own parameters count: `functools.wraps` can give it the signature of another function.
    """
    try:
        signature = inspect.signature(app, follow_wrapped=False)
    except Exception:  # written in C, or a proxy without an object yet
        return callable(app)
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def is_async(app: object) -> bool:
    """Return whether a call of `app` returns a coroutine."""
    call = getattr(type(app), "__call__", None)  # noqa: B004 - not a test of callability
    try:
        return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call)
    except Exception:  # a proxy without an object yet
        return False


def request_from_scope(scope: Any, setting: str, stated: str) -> RequestRecord:
    """Return the record of an ASGI request or WebSocket.

    Args:
        scope: the ASGI scope. Headers or pairs that can be read only once are replaced in place.
        setting: ``root_path`` of the config.
        stated: the ``root_path`` that the wrapped app declares, or "".

    Raises:
        Exception: of any type; `scope` is invalid.
    """
    headers: dict[str, str] = {}
    pairs = scope.get("headers") or ()
    if type(pairs) is not list and isinstance(pairs, Iterator):
        pairs = scope["headers"] = list(pairs)
    if length_hint(pairs) > MAX_HEADERS:
        pairs, headers = (), dict(UNSEARCHED)
    repeated: set[str] = set()
    try:
        for pair in pairs:
            if pair[0] in _SCOPE_NAMES:
                name, value = pair
                key = _SCOPE_NAMES[name]
                if key in headers:
                    repeated.add(key)
                else:
                    headers[key] = value.decode("latin-1")
    except TypeError:
        if not any(isinstance(pair, Iterator) for pair in pairs):
            raise
        scope["headers"] = [tuple(pair) if isinstance(pair, Iterator) else pair for pair in pairs]
        return request_from_scope(scope, setting, stated)
    for key in repeated:
        headers[key] += ","
    websocket = scope["type"] == "websocket"
    if websocket and scope.get("subprotocols"):
        headers["sec-websocket-protocol"] = ",".join(scope["subprotocols"])
    method = WEBSOCKET if websocket else scope.get("method") or "GET"
    if not isinstance(method, str):
        raise TypeError("the method is not a string")
    path, root_path = scope.get("path") or "/", scope.get("root_path") or ""
    # Fast path: `of_scope` would return the same if raw_path equals path and only the setting states a root_path.
    if not (
        path.isascii()
        and scope.get("raw_path") == path.encode()
        and "%" not in path
        and "?" not in path
        and root_path == setting
        and "app_root_path" not in scope
        and "litestar_app" not in scope
        and not (stated or ("app" in scope and stated_root_path(scope["app"])))
    ):
        path, root_path = of_scope(scope, setting, stated)
    return RequestRecord(method, path, root_path, headers, websocket=websocket)


def request_from_environ(environ: Any, setting: str, *, script_name_is_routed: bool = False) -> RequestRecord:
    """Return the record of a WSGI request.

    Args:
        environ: the WSGI environ.
        setting: ``root_path`` of the config.
        script_name_is_routed: whether the app routes on ``SCRIPT_NAME`` too.

    Raises:
        Exception: of any type; `environ` is invalid.
    """
    headers: dict[str, str] = {}
    for key, name in _ENVIRON_KEYS:
        if key in environ:
            headers[name] = value = environ[key]
            if not isinstance(value, str):
                raise TypeError("a header is not a string")
    method, path = environ.get("REQUEST_METHOD") or "GET", environ.get("PATH_INFO") or "/"
    if not (isinstance(method, str) and isinstance(path, str)):
        raise TypeError("the method or path is not a string")
    if not path.isascii():
        path = path.encode("latin-1", "replace").decode("utf-8", "replace")
    root_path = of_environ(environ.get("SCRIPT_NAME") or "", setting, is_routed=script_name_is_routed)
    return RequestRecord(method, path, root_path, headers)


def request_from_headers(headers: Headers) -> RequestRecord:
    """Return the record of a request without method and path.

    Args:
        headers: as `Verifier.authenticate` takes them. The value of a repeated header is its first value and a
            comma, as for a scope, which makes a repeated credential malformed.
    """
    items = getattr(headers, "items", None)  # a mapping, or email.message.Message, which is not a Mapping
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
        joined["sec-websocket-protocol"] = ",".join(protocols)  # may be repeated, as a list (RFC 6455 section 11.3.4)
    return RequestRecord("GET", "/", "", joined)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def publish(mapping: MutableMapping[str, Any], outcome: Outcome) -> None:
    """Write `outcome` into a scope or environ, for `get_user` and other functions of `_handler_api`."""
    mapping[USER] = outcome.user
    mapping[ERROR] = outcome.error
    mapping[OUTCOME] = outcome


def publish_in_scope(scope: MutableMapping[str, Any], outcome: Outcome) -> None:
    """Do the same as `publish`, and write the user where Starlette and other frameworks read it.

    The scope is changed in place, since outer layers may hold a reference to it.
    """
    user, config = outcome.user, outcome.config
    scope[USER] = user
    scope[ERROR] = outcome.error
    scope[OUTCOME] = outcome
    key = config.state_key
    if key is not None:
        state = scope.get("state")
        if state is None:
            scope["state"] = {key: user}
        elif isinstance(state, MutableMapping):
            if key in state:  # some servers share one dict between requests: keep the user of the other
                state = scope["state"] = {**state}
            state[key] = user
    if config.request_user:
        scope["user"] = GUEST if user is None else user
        scope["auth"] = Permissions([] if user is None else ["authenticated"])
