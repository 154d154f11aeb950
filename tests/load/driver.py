"""Asks the servers over connections that are kept alive, at a limited rate, and has every answer judged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .model import OK, UNAUTHENTICATED, Answer, Model, Shot
from .settings import STALL
from .traffic import Traffic

LOST_AFTER = 30.0
"""Seconds without an answer after which a request is lost: six time budgets."""
CHALLENGES = {
    "missing_token": 'Bearer realm="stack-auth"',
    "invalid_request": 'Bearer realm="stack-auth", error="invalid_request"',
    "invalid_token": 'Bearer realm="stack-auth", error="invalid_token"',
    "expired_token": 'Bearer realm="stack-auth", error="invalid_token"',
    "anonymous_not_allowed": 'Bearer realm="stack-auth", error="invalid_token"',
    "restricted_not_allowed": 'Bearer realm="stack-auth", error="insufficient_scope"',
    "auth_server_error": None,
    "auth_misconfigured": None,
}


class MalformedAnswer(Exception):
    """An answer that is not of the form that was promised."""


class Connection:
    """A connection to a server that stays open between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.left = 0

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, path: str, headers: tuple[tuple[str, str], ...]) -> None:
        lines = [f"GET {path} HTTP/1.1", "Host: testserver", *(f"{name}: {value}" for name, value in headers), "", ""]
        self._writer.write("\r\n".join(lines).encode("latin-1"))

    async def read(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (names in lower case) and body of the next answer."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        self.left = 0 if headers.get("connection", "").lower() == "close" else self.left - 1
        return int(head[0].split()[1]), headers, body

    async def ask(self, path: str, headers: tuple[tuple[str, str], ...] = ()) -> tuple[int, dict[str, str], bytes]:
        self.send(path, headers)
        return await asyncio.wait_for(self.read(), LOST_AFTER)

    def reset(self) -> None:
        """Leave as one does whose cable was cut."""
        with contextlib.suppress(OSError, AttributeError):
            cancel_grace = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, cancel_grace)
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()


@dataclass
class Tally:
    """What came of the requests.

    Attributes:
        asking: how many, with those that were left, can have cost a call of users/me.
        worst: seconds, by what was asked and whether Stack Auth was failing.
    """

    sent: int = 0
    asking: int = 0
    answered: int = 0
    left: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    middlewares: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    stalls: Counter[str] = field(default_factory=Counter)
    longest_stall: float = 0.0

    def note(self, shot: Shot, answer: Answer, *, failing: bool) -> None:
        """Count an answer."""
        self.answered += 1
        self.outcomes[answer.outcome] += 1
        self.labels[shot.label] += 1
        self.middlewares[shot.middleware] += 1
        keys_only = shot.path.startswith("/jwt/") and shot.path != "/jwt/profile"
        times = "while failing" if failing else "while well"
        name = f"{shot.middleware}, {'local' if keys_only else 'asks users/me'}, {times}"
        self.worst[name] = max(self.worst.get(name, 0.0), answer.ended - answer.began)


class Driver:
    """Keeps some connections to each middleware busy.

    Args:
        ports: of the servers, by middleware.
        traffic: makes the requests.
        model: judges the answers.
        rate: requests a second, all middlewares together.
        connections: to each middleware.
    """

    def __init__(
        self, ports: Mapping[str, int], traffic: Traffic, model: Model, *, rate: float, connections: int, seed: int
    ) -> None:
        self._ports = ports
        self.traffic = traffic
        self._model = model
        self._connections = connections
        self._period = connections * len(ports) / rate
        self._draw = random.Random(seed)
        self.tally = Tally()
        self._stalled: dict[str, float] = {}

    async def run(self, until: float) -> None:
        """Ask until a moment of the wall clock, and then for every answer that is still to come."""
        watching = asyncio.create_task(self._watch_stalls())
        try:
            await asyncio.gather(
                *(self._client(middleware, until) for middleware in self._ports for _ in range(self._connections))
            )
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _client(self, middleware: str, until: float) -> None:
        connection: Connection | None = None
        await asyncio.sleep(self._period * self._draw.random())
        due = time.monotonic()
        while time.time() < until:
            shot = self.traffic.next(middleware)
            if connection is None or connection.left <= 0:
                if connection is not None:
                    connection.close()
                connection = await Connection.open(self._ports[middleware])
                connection.left = self._draw.randrange(30, 150)
            if self._draw.random() < 0.01:
                await self._abandon(connection, shot)
                connection = None
            elif not await self.fire(connection, shot):
                connection = None
            due = max(due + self._period * self._draw.uniform(0.5, 1.5), time.monotonic())
            await asyncio.sleep(due - time.monotonic())
        if connection is not None:
            connection.close()

    async def _abandon(self, connection: Connection, shot: Shot) -> None:
        """Ask, and be gone before the answer."""
        self.tally.left += 1
        self.tally.asking += self._model.may_ask(shot)
        connection.send(shot.path, shot.headers)
        await asyncio.sleep(self._draw.choice((0, 0.002, 0.05)))
        connection.reset()

    async def fire(self, connection: Connection, shot: Shot) -> bool:
        """Send a request and judge its answer; say whether the connection is still good."""
        began = time.time()
        self.tally.sent += 1
        self.tally.asking += self._model.may_ask(shot)
        try:
            status, headers, body = await connection.ask(shot.path, shot.headers)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, asyncio.TimeoutError) as error:
            connection.reset()
            self.tally.lost.append(
                f"{shot.middleware} {shot.path} {shot.label}: {error!r} after {time.time() - began:.2f} s"
            )
            return False
        try:
            answer = read(began, time.time(), status, headers, body)
        except (MalformedAnswer, ValueError, KeyError) as error:
            self.tally.wrong.append(
                f"{shot.middleware} {shot.path} {shot.label}: {error!r}, {status} {headers} {body[:200]!r}"
            )
            return True
        self._note_stall(f"{shot.middleware} {answer.pid}", *map(float, headers["x-stall"].split()))
        complaint = self._model.complaint(shot, answer)
        if complaint is not None:
            took = f"{answer.ended - began:.3f} s, process {answer.pid}, {headers.get('x-detail', '')!r}"
            why = "; ".join(self._model.circumstances(shot, answer))
            self.tally.wrong.append(f"{shot.middleware} {shot.path} {shot.label}: {complaint} ({took}; {why})")
        failing = any(each.kinds and each.began <= answer.ended and began <= each.ended for each in self._model.windows)
        self.tally.note(shot, answer, failing=failing)
        return True

    async def _watch_stalls(self) -> None:
        """Note when this process itself, which is Stack Auth too, is not scheduled; the workers report their own."""
        while True:
            before = time.time()
            await asyncio.sleep(0.05)
            self._note_stall("driver", before + 0.05, time.time())

    def _note_stall(self, who: str, began: float, ended: float) -> None:
        self.tally.longest_stall = max(self.tally.longest_stall, ended - began)
        if ended - began > STALL and self._stalled.get(who) != began:
            self._stalled[who] = began
            self.tally.stalls[who] += 1
            self._model.stalled(began, ended)


def read(began: float, ended: float, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Return an answer as the model takes it.

    Raises:
        MalformedAnswer: it is neither the app's nor a refusal in the form that is promised.
    """
    pid, document = int(headers["x-pid"]), json.loads(body)
    if "x-app" in headers:
        if status != 200 or "www-authenticate" in headers:
            raise MalformedAnswer("an answer of the app that was meddled with")
        return Answer(
            began, ended, pid, UNAUTHENTICATED if document["id"] is None else OK, document["id"], document["name"]
        )
    code = document["code"]
    if headers.get("www-authenticate") != CHALLENGES[code]:
        raise MalformedAnswer("a refusal with the wrong challenge")
    if headers.get("cache-control") != "no-store" or headers.get("content-type") != "application/json":
        raise MalformedAnswer("a refusal with the wrong headers")
    retry_after = headers.get("retry-after")
    if (status == 503) != (retry_after is not None) or (retry_after and not 1 <= int(retry_after) <= 60):
        raise MalformedAnswer("a refusal with the wrong Retry-After")
    if ("restricted_reason" in document) != (code == "restricted_not_allowed"):
        raise MalformedAnswer("a refusal with the wrong members")
    return Answer(began, ended, pid, f"{status} {code}")
