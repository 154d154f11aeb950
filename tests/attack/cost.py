"""Compares what small and large hostile inputs cost, by counting calls and by processor time at two sizes.

Both are independent of how busy the machine is: a count of Python and C calls does not depend on it at all,
and of the processor time of this thread the least of several runs is taken. Regular expressions and joins of
strings are single calls, so only time shows what they cost.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthWSGIMiddleware
from stackauth_middleware.testing import LocalStackAuth

from . import table
from .report import Checked

PIECES = (
    "/",
    "//",
    "/./",
    "/../",
    ";",
    "a;",
    "%",
    "%2f",
    "\\",
    "\0",
    "é",
    "/a",
    "A",
    ".",
    "//;",
    "\n",
    "?",
    "#",
    " ",
    "/r1",
)
GROWTH = 4
"""By how much the second input of a measurement is larger."""
MOST_CALLS, MOST_TIME = 1.5 * GROWTH, 2.5 * GROWTH
"""Growth above which work counts as superlinear. The square of `GROWTH` is 16."""
NEGLIGIBLE = 0.002
"""Seconds below which growth of time is not judged."""


def _paths() -> dict[str, Callable[[int], dict[str, Any]]]:
    made: dict[str, Callable[[int], dict[str, Any]]] = {}
    for piece in PIECES:
        for start in ("/", ""):
            made[f"path {start + piece!r}..."] = lambda size, piece=piece, start=start: {
                "path": start + piece * (size // len(piece))
            }
    return made


def _headers() -> dict[str, Callable[[int], dict[str, Any]]]:
    def repeated(name: bytes, value: bytes) -> Callable[[int], dict[str, Any]]:
        return lambda size: {"headers": [(name, value)] * size}

    made = {
        f"{name} repeated": repeated(name.encode(), b"x" * 100)
        for name in (
            "origin",
            "authorization",
            "x-stack-access-token",
            "x-hexclave-auth",
            "access-control-request-method",
        )
    }
    for what, value in {"dots": b".", "braces": b'{"a":', "commas": b",", "spaces": b" ", "base64": b"A"}.items():
        made[f"a token of {what}"] = lambda size, value=value: {"headers": [(b"x-stack-access-token", value * size)]}
    made["a method"] = lambda size: {"method": "X" * size}
    return made


async def _app(scope: Any, receive: Any, send: Any) -> None: ...


async def _send(message: Any) -> None: ...


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


class _Asgi:
    def __init__(self) -> None:
        self.app = StackAuthASGIMiddleware(_app, table.config_of("closed"))

    def request(self, more: dict[str, Any]) -> Callable[[], None]:
        path = more.get("path", "/")
        scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": [], **more}
        loop = asyncio.get_event_loop()
        return lambda: loop.run_until_complete(self.app(dict(scope), _receive, _send))


class _Wsgi:
    def __init__(self) -> None:
        self.app = StackAuthWSGIMiddleware(lambda environ, start_response: [], table.config_of("closed"))

    def request(self, more: dict[str, Any]) -> Callable[[], None]:
        environ = {"REQUEST_METHOD": more.get("method", "GET"), "PATH_INFO": more.get("path", "/")}
        environ["PATH_INFO"] = environ["PATH_INFO"].encode("utf-8").decode("latin-1")
        for name, value in more.get("headers", ()):
            key = f"HTTP_{name.decode().upper().replace('-', '_')}"
            environ[key] = value.decode("latin-1")
        return lambda: list(self.app(dict(environ), lambda *_: None)) and None


def _calls(request: Callable[[], None]) -> int:
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        request()
    finally:
        sys.setprofile(None)
    return count


def _seconds(request: Callable[[], None]) -> float:
    least = float("inf")
    for _ in range(3):
        start = time.thread_time()
        request()
        least = min(least, time.thread_time() - start)
        if least > 1:
            break
    return least


def measure(size: int = 1024) -> list[Checked]:
    """Measure every kind of input through both middlewares."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    checked = []
    with LocalStackAuth(table.PROJECT).in_process():
        for name, middleware in (("cost asgi", _Asgi()), ("cost wsgi", _Wsgi())):
            findings, measured, most = [], 0, 0.0
            for what, inputs in (_paths() | _headers()).items():
                small, large = middleware.request(inputs(size)), middleware.request(inputs(size * GROWTH))
                small()
                calls = _calls(small), _calls(large)
                seconds = _seconds(small), _seconds(large)
                measured += 1
                most = max(most, seconds[0])
                if calls[1] > MOST_CALLS * calls[0] or (
                    seconds[1] > NEGLIGIBLE and seconds[1] > MOST_TIME * max(seconds[0], NEGLIGIBLE / MOST_TIME)
                ):
                    findings.append(
                        f"{what}: of size {size} {calls[0]} calls and {seconds[0] * 1e3:.2f} ms, "
                        f"of {GROWTH} times that {calls[1]} calls and {seconds[1] * 1e3:.2f} ms"
                    )
            checked.append(Checked(name, 0, f"{measured} inputs of {size}, the slowest {most * 1e3:.2f} ms", findings))
    asyncio.set_event_loop(None)
    loop.close()
    return checked
