"""The local Stack Auth behind a real socket, with replaceable responses for users/me."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stackauth_middleware import StackAuthConfig
from stackauth_middleware.testing import LocalStackAuth
from tests.unit.core.helpers import PROJECT
from tests.unit.io.loopback import Exchange, Loopback

SECRET = "ssk_" + "s" * 45
PUBLISHABLE = "pck_" + "p" * 45
USERS_ME = "/api/v1/users/me"


class Upstream:
    """The server and its requests.

    Attributes:
        local: the local Stack Auth.
        me: responds to users/me instead, if set.
        ahead: seconds by which its clock is ahead of ours.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self.local = LocalStackAuth(
            PROJECT,
            secret_server_key=SECRET,
            publishable_client_key=PUBLISHABLE,
            clock=lambda: time.time() + self.ahead,
        )
        self.me: Callable[[Exchange], None] | None = None
        self.server = Loopback(self._answer)
        self.local.api_url = self.server.url

    @property
    def calls(self) -> list[Exchange]:
        """The requests to users/me so far, including each retry."""
        return [each for each in self.server.requests if each.target == USERS_ME]

    @property
    def connections(self) -> int:
        """The number of connections that the calls used."""
        return len({each.connection for each in self.calls})

    def config(self, **settings: Any) -> StackAuthConfig:
        """Return a config with the secret key and ``rest`` mode by default."""
        keys = {} if {"secret_server_key", "publishable_client_key"} & set(settings) else {"secret_server_key": SECRET}
        given = {"project_id": PROJECT, "api_url": self.server.url, "mode": "rest", **keys, **settings}
        return StackAuthConfig(**given)

    def token(self, user: Any = None, **claims: Any) -> str:
        """Return a token. Takes the arguments of `LocalStackAuth.token`."""
        return self.local.token(user, **claims)

    def tokens(self, count: int) -> list[str]:
        """Return a token of each of `count` users with an account."""
        return [self.token(self.local.users.create(display_name=f"user {number}")) for number in range(count)]

    def slowly(self, seconds: float = 0.05) -> Callable[[Exchange], None]:
        """Return a function that sends the right response to users/me after a delay."""

        def me(exchange: Exchange) -> None:
            answer = self.local.answer("GET", USERS_ME, exchange.headers)
            exchange.hold(seconds)
            raw(exchange, answer.status, answer.headers, answer.body)

        return me

    def _answer(self, exchange: Exchange) -> None:
        if self.me is not None and exchange.target == USERS_ME:
            self.me(exchange)
            return
        answer = self.local.answer(exchange.method, exchange.target, exchange.headers)
        raw(exchange, answer.status, answer.headers, answer.body)


def raw(exchange: Exchange, status: int, headers: Any, body: bytes) -> None:
    """Send a response byte for byte. A Content-Length is added if it is missing."""
    pairs = [*headers]
    if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in pairs):
        pairs.append(("content-length", str(len(body))))
    exchange.send(f"HTTP/1.1 {status} Whatever\r\n", *(f"{name}: {value}\r\n" for name, value in pairs), "\r\n", body)


@contextmanager
def upstream_serving() -> Iterator[Upstream]:
    upstream = Upstream()
    with upstream.server:
        yield upstream
