"""Benchmark l: a request through real frameworks, with and without the middleware, and beside their own JWT tools."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Callable
from typing import Any

from .drive import Wsgi
from .framework_apps import BARE, OURS, django_apps, fastapi_apps, flask_apps, litestar_apps
from .material import Site, site
from .timing import Benchmark, Contender, Pace, interleaved, ratio

FRAMEWORKS: dict[str, tuple[Callable[[Site], dict[str, Any]], bool]] = {
    "FastAPI": (fastapi_apps, True),
    "Litestar": (litestar_apps, True),
    "Flask": (flask_apps, False),
    "Django": (django_apps, False),
}
"""For each framework what makes its apps, and whether they are ASGI apps."""


def frameworks(pace: Pace) -> Benchmark:
    benchmark = Benchmark("l", "A request through a framework, in process")
    with site() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (make, is_asgi) in FRAMEWORKS.items():
            try:
                apps = make(stack)
            except ImportError as error:
                benchmark.notes.append(f"{name} is left out: {error.name} is not installed here.")
                continue
            _measure(benchmark, name, apps, AsgiLoop(stack) if is_asgi else WsgiCalls(stack), pace)
    benchmark.notes.append(
        "A cached token in Authorization: Bearer; the handler answers with the id of the user as JSON."
    )
    benchmark.notes.append(
        "The tools of the frameworks verify the signature of every request, and no issuer by default."
    )
    return benchmark


def _measure(benchmark: Benchmark, name: str, apps: dict[str, Any], drive: AsgiLoop | WsgiCalls, pace: Pace) -> None:
    for kind, app in apps.items():
        refused = 200 if "without" in kind else 401
        assert (drive.status(app), drive.status(app, "garbage")) in {(200, refused), (200, 422)}, f"{name}, {kind}"
    contenders = [Contender(kind, drive.run(app), kind == OURS) for kind, app in apps.items()]
    benchmark.figures += interleaved(name, contenders, pace)
    bare, ours = benchmark.figure(name, BARE), benchmark.figure(name, OURS)
    benchmark.at_least(f"{name}: at least 0.93 of the rate without", 1 / ratio(ours, bare), 0.93, "x")


class AsgiLoop:
    """Sends requests to ASGI apps in one event loop."""

    def __init__(self, stack: Site) -> None:
        self._loop = asyncio.new_event_loop()
        self._token = stack.token()

    def status(self, app: Any, token: str | None = None) -> int:
        found: list[int] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                found.append(message["status"])

        self._loop.run_until_complete(app(self._scope(token or self._token), _receive, send))
        return found[0]

    def run(self, app: Any) -> Callable[[int], float]:
        scope = self._scope(self._token)

        async def requests(loops: int) -> float:
            start = time.thread_time()
            for _ in range(loops):
                await app({**scope, "state": {}}, _receive, _ignore)
            return time.thread_time() - start

        return lambda loops: self._loop.run_until_complete(requests(loops))

    def _scope(self, token: str) -> dict[str, Any]:
        from .drive import Asgi

        scope = Asgi(19).scope(None)
        scope["headers"].append((b"authorization", b"Bearer " + token.encode()))
        return scope


class WsgiCalls:
    """Sends requests to WSGI apps."""

    def __init__(self, stack: Site) -> None:
        self._wsgi = Wsgi(19)
        self._token = stack.token()

    def status(self, app: Any, token: str | None = None) -> int:
        self._wsgi.statuses.clear()
        self._wsgi.call(app, self._environ(token or self._token))
        return int(self._wsgi.statuses.pop()[:3])

    def run(self, app: Any) -> Callable[[int], float]:
        environ = self._environ(self._token)

        def run(loops: int) -> float:
            start = time.thread_time()
            for _ in range(loops):
                self._wsgi.call(app, environ)
            return time.thread_time() - start

        return run

    def _environ(self, token: str) -> dict[str, Any]:
        from io import BytesIO

        return {**self._wsgi.environ(None), "HTTP_AUTHORIZATION": f"Bearer {token}", "wsgi.input": BytesIO()}


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _ignore(message: Any) -> None: ...


BENCHMARKS: dict[str, Callable[[Pace], Benchmark]] = {"l": frameworks}
