"""Drives sites in process: makes the scope or environ of a request, sends it, and judges what came of it."""

from __future__ import annotations

import asyncio
import io
import json
import random
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import stackauth_middleware
from stackauth_middleware import ErrorCode

from . import requests, table
from .requests import Attack, Tokens
from .sites import Site, reached

PACKAGE = str(Path(stackauth_middleware.__file__).parent)
TIMEOUT = 10.0
"""Seconds after which a request counts as hanging."""


@dataclass
class Outcome:
    """What came of a request: its answer, or the exception that came out."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: BaseException | None = None
    complete: bool = False
    seconds: float = 0.0


@dataclass
class Tally:
    """Counts of a site."""

    requests: int = 0
    runs: int = 0
    refused: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    plain: list[float] = field(default_factory=list)


def _octets(text: str) -> bytes:
    return text.encode("latin-1")


def scope_of(attack: Attack, site: Site, tokens: Tokens) -> dict[str, Any]:
    """Return the scope that a server would make of `attack`."""
    target, _, query = (site.at + attack.target).partition("?")
    path, raw = unquote(target), _octets(target)
    root = site.root if attack.root is None else attack.root
    if site.below and attack.rooted:
        path, raw = site.below + path, _octets(site.below) + raw
    headers = [(_octets(name.lower()), _octets(tokens.filled(value))) for name, value in attack.headers]
    scope: dict[str, Any] = {
        "type": attack.kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http" if attack.kind == "http" else "ws",
        "path": path,
        "raw_path": raw,
        "query_string": _octets(query),
        "root_path": root,
        "headers": [(b"host", b"testserver"), *headers],
        "client": ("127.0.0.1", 1234),
        "server": ("testserver", 80),
        "state": {},
    }
    if attack.kind == "http":
        scope["method"] = attack.method
    else:
        scope["subprotocols"] = []
        scope["extensions"] = {"websocket.http.response": {}}
    if attack.raw_path == "absent":
        del scope["raw_path"]
    elif attack.raw_path == "other" and not (site.name.startswith("litestar/") and site.name.endswith("/inside")):
        # Inside Litestar, which has cut the path, raw_path is all that is left of it: docs/rules.md asks for both.
        scope["raw_path"] = b"/public/a"
    return scope


def environ_of(attack: Attack, site: Site, tokens: Tokens) -> dict[str, Any]:
    """Return the environ that a server would make of `attack`; a claimed root path is its ``SCRIPT_NAME``."""
    target, _, query = (site.at + attack.target).partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": attack.method,
        "SCRIPT_NAME": (attack.root or "") if site.script_name else "",
        "PATH_INFO": unquote_to_bytes(_octets(target)).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "testserver",
        "CONTENT_LENGTH": "0",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in attack.headers:
        key = f"HTTP_{name.upper().replace('-', '_')}"
        text = tokens.filled(value)
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


async def _send_asgi(app: Any, scope: dict[str, Any]) -> Outcome:
    outcome = Outcome()
    messages = [
        {"type": "websocket.connect"} if scope["type"] == "websocket" else {"type": "http.request", "body": b""}
    ]
    stays = asyncio.Event()

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await stays.wait()  # a client that stays
        raise AssertionError

    async def send(message: Any) -> None:
        kind = message["type"]
        if kind.endswith("response.start"):
            outcome.status = message["status"]
            outcome.headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in message.get("headers", ())}
        elif kind.endswith("response.body"):
            outcome.body += message.get("body", b"")
            outcome.complete = not message.get("more_body", False)
        elif kind == "websocket.close":
            outcome.complete = True

    start = time.perf_counter()
    try:
        await asyncio.wait_for(app(scope, receive, send), TIMEOUT)
    except Exception as error:
        outcome.error = error
    outcome.seconds = time.perf_counter() - start
    return outcome


def _send_wsgi(app: Any, environ: dict[str, Any]) -> Outcome:
    outcome = Outcome()

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        outcome.status = int(status.split(maxsplit=1)[0])
        outcome.headers = {name.lower(): value for name, value in headers}
        return lambda data: None

    start = time.perf_counter()
    try:
        chunks = app(environ, start_response)
        try:
            outcome.body = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        outcome.complete = True
    except Exception as error:
        outcome.error = error
    outcome.seconds = time.perf_counter() - start
    return outcome


class Driver:
    """Sends requests to one site, and keeps what it found.

    Attributes:
        findings: what was wrong, by kind of finding, each with the smallest request that showed it.
        last: what came of the last request, and which handlers ran.
    """

    def __init__(self, site: Site, tokens: Tokens) -> None:
        self.site, self.tokens = site, tokens
        self.tally = Tally()
        self.findings: dict[str, Attack] = {}
        self.last: tuple[Outcome, list[table.Run]] = (Outcome(), [])

    async def batch(self, rng: random.Random, count: int) -> None:
        """Send `count` random requests."""
        kinds = ("http", "websocket") if self._has_sockets() else ("http",)
        for _ in range(count):
            await self.send(requests.attack(rng, kinds))

    async def controls(self) -> None:
        """Send the plain request for every route by every caller: each handler runs for those who may, and no other."""
        for route in table.ROUTES:
            if route.kind == "websocket" and not self._has_sockets():
                continue
            for caller in table.CALLERS:
                attack = requests.honest(route, caller)
                ran = await self.send(attack)
                if caller in table.MET_BY[route.requires] and route.name not in ran and self._has(route):
                    self.findings.setdefault(f"control: caller {caller!r} did not reach {route.name!r}", attack)

    def _has_sockets(self) -> bool:
        # Sanic runs the handler of GET for a WebSocket, so there a rule for one of them is never for it alone.
        return self.site.asgi and not self.site.name.startswith(("django", "sanic"))

    def _has(self, route: table.Route) -> bool:
        if self.site.below and route.sample.startswith(self.site.below):
            return False  # a path that repeats the root path is not plain, and has to meet every rule
        if self.site.name.startswith("pyramid-traversal"):
            return "{" not in route.template and route.kind != "mount" and "POST" not in route.methods
        return True

    async def send(self, attack: Attack) -> list[str]:
        """Send one request, judge it, and return the routes whose handlers ran."""
        table.runs.clear()
        reached.clear()
        if self.site.asgi:
            outcome = await _send_asgi(self.site.app, scope_of(attack, self.site, self.tokens))
        else:
            outcome = _send_wsgi(self.site.app, environ_of(attack, self.site, self.tokens))
        ran = list(table.runs)
        self.last = (outcome, ran)
        self.tally.requests += 1
        self.tally.runs += len(ran)
        for problem in self._problems(attack, outcome, ran):
            known = self.findings.get(problem)
            if known is None or size(attack) < size(known):
                self.findings[problem] = attack
        if outcome.seconds > self.tally.slowest[0]:
            self.tally.slowest = (outcome.seconds, attack.line(self.site.name))
        return [run.route for run in ran]

    def _problems(self, attack: Attack, outcome: Outcome, ran: list[table.Run]) -> Iterator[str]:
        for run in ran:
            problem = table.trespass(run, attack.caller)
            if problem is not None and not self.site.forgives(attack.caller):
                yield problem
        if outcome.error is not None:
            self.tally.errors[type(outcome.error).__name__] += 1
            if isinstance(outcome.error, asyncio.TimeoutError):
                yield "no answer in time"
            elif traceback.extract_tb(outcome.error.__traceback__)[-1].filename.startswith(PACKAGE):
                yield f"exception out of the middleware: {outcome.error!r}"
        elif self.site.wraps and not reached:
            self.tally.refused += 1
            if attack.method == "GET" and not attack.target.strip("/a-z"):
                self.tally.plain.append(outcome.seconds)
            problem = unlike_the_error_table(attack, outcome)
            if problem:
                yield problem


def size(attack: Attack) -> tuple[int, ...]:
    """Return what the smaller of two requests is smaller by."""
    return (
        (attack.root is not None) + (attack.raw_path != "same"),
        len(attack.headers),
        len(attack.target),
        len(attack.method),
    )


def unlike_the_error_table(attack: Attack, outcome: Outcome) -> str | None:
    """Return in what the middleware's own answer differs from the documented table of errors, or None."""
    if not outcome.complete:
        return "the middleware left a request unanswered"
    if attack.kind == "websocket" and outcome.status == 0:
        return None  # closed before it was accepted
    if outcome.status == 204:
        origins = [value for name, value in attack.headers if name.lower() == "origin"]
        lawful = attack.method.upper() == "OPTIONS" and origins[:1] == [table.ALLOWED_ORIGIN] and not outcome.body
        return None if lawful else "the middleware answered 204 to what is no preflight of an allowed origin"
    if attack.method.upper() == "HEAD" and not outcome.body:
        return None
    try:
        code = ErrorCode(json.loads(outcome.body)["code"])
    except (ValueError, KeyError, TypeError):
        return f"the middleware answered {outcome.status} with a body that has no error code"
    if code.status != outcome.status or outcome.headers.get("cache-control") != "no-store":
        return f"the middleware answered {outcome.status} with code {code.value!r}"
    if outcome.status >= 500:
        return f"the middleware answered {outcome.status} though Stack Auth is up"
    return None


async def start(app: Any) -> asyncio.Task[Any]:
    """Run the startup of an ASGI app's lifespan, and return the task that still waits for its shutdown."""
    done = asyncio.Event()
    messages = [{"type": "lifespan.startup"}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        done.set()

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task: asyncio.Task[Any] = asyncio.ensure_future(app(scope, receive, send))
    task.add_done_callback(lambda _: done.set())
    await done.wait()
    return task


@contextmanager
def started(sites: list[Site], loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Keep the lifespan of every ASGI site open for the length of the context."""
    tasks = [loop.run_until_complete(start(site.app)) for site in sites if site.asgi]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
