"""A loopback server of key sets, and clients that present tokens to both middlewares and both verifiers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, Literal, NamedTuple

import pytest

from stackauth_middleware import AsyncVerifier, AuthServerError, RefusedError, StackAuthConfig, Verifier
from stackauth_middleware.errors import ErrorCode
from tests.network.sites import Answer, Ask, Site
from tests.unit.core.helpers import WALL, Signer, claims
from tests.unit.io.loopback import Exchange, Issuer, Loopback, config_for

Way = Literal["wsgi", "asyncio", "verifier", "async verifier"]
WAYS: tuple[Way, ...] = ("wsgi", "asyncio", "verifier", "async verifier")
both_middlewares = pytest.mark.parametrize("way", ["wsgi", "asyncio"])
every_way = pytest.mark.parametrize("way", WAYS)


LASTING = {"exp": WALL + 10 * 86_400}
"""Claims of a token that outlives the keys."""


class Result(NamedTuple):
    """The result for a token: status, error code and Retry-After."""

    status: int
    code: str | None = None
    retry_after: int | None = None


LET_IN = Result(200)
INVALID = Result(401, "invalid_token")
EXPIRED = Result(401, "expired_token")
OURS = Result(500, "auth_misconfigured")


def down(retry_after: int = 10) -> Result:
    return Result(503, "auth_server_error", retry_after)


def result_of(answer: Answer) -> Result:
    """Return the result in `answer`; a refusal must be exactly the documented response."""
    if answer.status == 200:
        return LET_IN
    code = ErrorCode(answer.code)
    assert answer.status == code.status
    body = answer.json
    body.pop("restricted_reason", None)
    assert body == {"error": code.message, "code": code.value}
    headers = dict(answer.headers)
    retry_after = headers.pop("retry-after", None)
    assert (retry_after is not None) == (code is ErrorCode.SERVER_ERROR)
    challenge = f', error="{code.challenge}"' if code.challenge else ""
    authenticate = {} if code.challenge is None else {"www-authenticate": f'Bearer realm="stack-auth"{challenge}'}
    whole = {"content-type": "application/json", "cache-control": "no-store"}
    assert headers == {**whole, "content-length": str(len(answer.body)), **authenticate}
    return Result(answer.status, code.value, int(retry_after) if retry_after else None)


class Asker:
    """Presents tokens to a middleware or verifier in this process; a context manager.

    Attributes:
        passed: how many tokens were accepted: calls of the app, or users returned.
    """

    def __init__(self, way: Way, config: StackAuthConfig) -> None:
        self._stack = ExitStack()
        self._site = Site(way, config) if way in ("wsgi", "asyncio") else None
        self._verifier = Verifier(config) if way == "verifier" else None
        self._async_verifier = AsyncVerifier(config) if way == "async verifier" else None
        self._loop = asyncio.new_event_loop() if way == "async verifier" else None
        self._users = 0

    @property
    def passed(self) -> int:
        return len(self._site.reached) if self._site else self._users

    def __enter__(self) -> Asker:
        self._stack.enter_context(self._site or self._verifier or self._looping())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def _looping(self) -> Iterator[None]:
        assert self._loop is not None
        assert self._async_verifier is not None
        yield
        self._loop.run_until_complete(self._async_verifier.aclose())
        self._loop.close()

    def ask(self, token: str) -> Result:
        if self._site is not None:
            return result_of(self._site.ask(token))
        try:
            self._verify(token)
        except (RefusedError, AuthServerError) as error:
            return Result(error.code.status, error.code.value, getattr(error, "retry_after", None))
        self._users += 1
        return LET_IN

    def _verify(self, token: str) -> None:
        if self._verifier is not None:
            self._verifier.verify(token)
        else:
            assert self._loop is not None
            assert self._async_verifier is not None
            self._loop.run_until_complete(self._async_verifier.verify(token))

    def ask_all(self, tokens: Sequence[str], *, at_once: int) -> list[Result]:
        """Present `tokens` to a middleware on `at_once` threads or tasks; return the results in their order."""
        assert self._site is not None
        return [result_of(answer) for answer in self._site.ask_all([Ask(token) for token in tokens], at_once=at_once)]


class Published:
    """The server of the key sets.

    Attributes:
        issuer: the default behaviour, that of Stack Auth.
        conduct: replaces it, if set.
    """

    def __init__(self) -> None:
        self.issuer = Issuer()
        self.conduct: Callable[[Exchange], None] | None = None
        self.server = Loopback(self._answer)

    def _answer(self, exchange: Exchange) -> None:
        (self.conduct or self.issuer)(exchange)

    @property
    def calls(self) -> int:
        """The number of requests so far."""
        return len(self.server.requests)

    def asker(self, way: Way, **settings: Any) -> Asker:
        """Return a client of this server, with a config of its own."""
        return Asker(way, config_for(self.server.url, **settings))

    def publish(self, *jwks: Any, **headers: str) -> None:
        """Publish exactly these JWKs."""
        self.conduct = lambda exchange: exchange.reply({"keys": list(jwks)}, **headers)


@contextmanager
def published() -> Iterator[Published]:
    keys = Published()
    with keys.server:
        yield keys


@cache
def junk(number: int, **changes: Any) -> str:
    """Return a token whose only fault is its key, which is not published."""
    return Signer(4242, f"junk-{number}").token(claims(**changes))


def answering(status: int, body: Any = b"", **headers: str) -> Callable[[Exchange], None]:
    """Return a conduct that sends this response."""
    return lambda exchange: exchange.reply(body, status, **headers)
