"""Drop the body of a refused ASGI request, so that its client sees the refusal.

Servers close or reset a connection whose request was answered before its body was read: hypercorn does so even if
other HTTP/2 requests use the connection. A browser that is still sending then reports a network error, and not the 401.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

MAX_BYTES = 1024 * 1024
"""Longest announced body that is dropped. A longer one costs more than a new connection."""
MAX_SECONDS = 1.0
"""Seconds that a client has to send it; a client that sends slowly must not keep the request open."""


def is_droppable(scope: Mapping[str, Any]) -> bool:
    """Return whether the request announces a short body that the client sends without being asked to."""
    if scope.get("method") in ("GET", "HEAD", "OPTIONS"):  # these rarely have a body: do not search the headers
        return False
    try:
        headers = dict(scope.get("headers") or ())
        length = int(headers.get(b"content-length", 0))
    except Exception:  # of any type: the scope is invalid, and refused as such
        return False
    return 0 < length <= MAX_BYTES and b"expect" not in headers  # with Expect, the client waits for 100 first


async def drop(receive: Callable[[], Awaitable[Any]]) -> None:
    """Receive the body, within `MAX_BYTES` and `MAX_SECONDS`.

    To be called before the response is sent: some servers, such as granian, stop receiving then.
    """
    import anyio

    received = 0
    with anyio.move_on_after(MAX_SECONDS):
        while received <= MAX_BYTES:
            message = await receive()
            received += len(message.get("body", b""))
            if not message.get("more_body"):  # the last part, or "http.disconnect"
                return
