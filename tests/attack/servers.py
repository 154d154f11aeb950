"""Attacks sites behind real servers on loopback, by raw octets on sockets."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO

from tests.servers.processes import PROJECT, Served, served_stack_auth, serving, settings_for

from . import requests, table
from .report import Checked
from .requests import Attack, Tokens

assert PROJECT == table.PROJECT

SERVERS: Mapping[str, str] = {
    "uvicorn-h11": "asgi",
    "uvicorn-httptools": "asgi",
    "hypercorn": "asgi",
    "granian": "asgi",
    "daphne": "asgi",
    "gunicorn": "wsgi",
    "waitress": "wsgi",
    "cheroot": "wsgi",
    "granian-wsgi": "wsgi",
}
"""The servers, and the interface of each."""
FRAMEWORKS: Mapping[str, tuple[str, ...]] = {
    "asgi": ("starlette", "fastapi", "litestar", "quart", "falcon-asgi", "django-asgi", "sanic", "blacksheep"),
    "wsgi": ("flask", "bottle", "falcon-wsgi", "django-wsgi", "pyramid", "cherrypy"),
}
ROOT_HEADERS = {"daphne": "Daphne-Root-Path", "gunicorn": "SCRIPT_NAME"}
"""The header by which a client may tell a server its root path; others get one that they should ignore."""
WEBSOCKET = (
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
)
TIMEOUT = 20.0
"""Seconds for an answer; the first one waits for the server to start and to import a framework."""
TURN = 20
"""Requests that a server gets before the next one has its turn."""
PATIENCE = 15
"""Turns after which a server gets the sites of another framework, which take a second to import."""


@dataclass
class Client:
    """Sends requests to one server and reads which handlers ran.

    Attributes:
        log: the file that the handlers write to.
        callers: who sent each request, by its id.
        unanswered: requests that got no answer that could be read.
    """

    served: Served
    log: IO[bytes]
    tokens: Tokens
    sent: int = 0
    runs: int = 0
    refused: int = 0
    unanswered: int = 0
    findings: dict[str, str] = field(default_factory=dict)
    _socket: socket.socket | None = None
    _read: int = 0
    _attacks: dict[str, tuple[str, Attack]] = field(default_factory=dict)

    def send(self, site: str, attack: Attack) -> list[table.Run]:
        """Send one request, judge it, and return the handlers that ran."""
        self.sent += 1
        number = str(self.sent)
        self._attacks[number] = (site, attack)
        status = self._exchange(self._octets(site, attack, number), attack.method)
        self.unanswered += status == 0
        self.refused += status in (400, 401, 403)
        ran = self._ran()
        self.runs += len(ran)
        for run in ran:
            self._verify_locally(run)
        return ran

    def _octets(self, site: str, attack: Attack, number: str) -> bytes:
        headers = [("Host", "testserver"), (table.SITE_HEADER, site), (table.ID_HEADER, number)]
        headers += [(name, self.tokens.filled(value)) for name, value in attack.headers]
        if attack.root and not site.startswith("cherrypy"):  # which routes on SCRIPT_NAME, so there nothing holds
            headers.append((ROOT_HEADERS.get(self.served.name, "X-Script-Name"), attack.root))
        if attack.kind == "websocket":
            headers += WEBSOCKET
        elif attack.method in ("POST", "PUT", "PATCH"):
            headers.append(("Content-Length", "0"))
        lines = [f"{attack.method} {attack.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _exchange(self, octets: bytes, method: str) -> int:
        """Return the status of the answer, or 0 where none could be read."""
        for attempt in (0, 1):
            fresh = self._socket is None
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self.served.port), TIMEOUT)
            response = http.client.HTTPResponse(self._socket, method=method)
            try:
                self._socket.sendall(octets)
                response.begin()
                response.read()
            except (OSError, http.client.HTTPException, ValueError):
                self.close()
                if fresh or attempt:
                    return 0
                continue  # the server had closed it after the last answer
            if response.will_close or response.status == 101 or b"websocket" in octets:
                self.close()
            return response.status
        return 0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ran(self) -> list[table.Run]:
        octets = os.pread(self.log.fileno(), 1 << 24, self._read)
        octets = octets[: octets.rfind(b"\n") + 1]
        self._read += len(octets)
        return [table.Run(*json.loads(line)) for line in octets.splitlines()]

    def _verify_locally(self, run: table.Run) -> None:
        """Judge a handler by the caller of the request that it names; an unknown request has no caller."""
        site, attack = self._attacks.get(run.request, ("?", Attack("?")))
        problem = table.trespass(run, attack.caller)
        if problem is not None:
            self.findings.setdefault(f"{site}: {problem}", attack.line(f"server {self.served.name} {site}"))


def attack(covers: Callable[[str], bool], seconds: float, seed: str) -> list[Checked]:
    """Send random requests to every server in turn for `seconds`; each gets one turn at least."""
    until = time.monotonic() + seconds
    names = [name for name in SERVERS if covers(name)]
    with ExitStack() as stack:
        clients = _clients(stack, names)
        turn = 0
        while clients and (turn == 0 or time.monotonic() < until):
            for place, client in enumerate(clients):
                rng = random.Random(f"{seed} {client.served.name} {turn}")
                interface = SERVERS[client.served.name]
                choice = FRAMEWORKS[interface]
                site = f"{choice[(place + turn // PATIENCE) % len(choice)]}/{rng.choice(('closed', 'open'))}"
                for _ in range(TURN):
                    kinds = ("http", "websocket") if interface == "asgi" and "django" not in site else ("http",)
                    client.send(site, requests.attack(rng, kinds))
                member = client.send(site, requests.honest(table.BY_NAME["me"], "member"))
                if [run.route for run in member] != ["me"]:
                    client.findings.setdefault(f"{site}: a member did not reach 'me'", "")
                if turn and time.monotonic() > until:
                    break
            turn += 1
        for client in clients:
            client.close()
    return [
        Checked(
            f"server {client.served.name}",
            client.sent,
            f"{client.sent} requests, {client.runs} handler runs, {client.refused} refusals, "
            f"{client.unanswered} unanswered",
            [f"{problem}: --replay '{line}'" for problem, line in client.findings.items()],
        )
        for client in clients
    ]


def _clients(stack: ExitStack, names: list[str]) -> list[Client]:
    local = stack.enter_context(served_stack_auth())
    tokens = Tokens(local)
    clients = []
    for name in names:
        log = stack.enter_context(tempfile.NamedTemporaryFile())  # noqa: SIM115 - the stack closes it
        environ = {**settings_for(local), table.LOG: log.name}
        served = stack.enter_context(serving(name, f"tests.attack.served:{SERVERS[name]}", environ))
        clients.append(Client(served, log, tokens))
    return clients


def replay(site: str, attack: Attack) -> int:
    """Send the request of a finding once more, and say what came of it."""
    _, server, name = site.split(" ", 2)
    with ExitStack() as stack:
        client = _clients(stack, [server])[0]
        print(client.send(name, attack))
        print(*client.findings or ["no finding"], sep="\n")
        client.close()
    return 1 if client.findings else 0
