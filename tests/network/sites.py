"""One small app behind either middleware, called in process, by one client or many at once."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import anyio
import pytest

from stackauth_middleware import (
    AsyncVerifier,
    AuthServerError,
    RefusedError,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    Verifier,
    aload_profile,
    get_user,
    load_profile,
)

Kind = Literal["wsgi", "asyncio", "trio"]
KINDS: tuple[Kind, ...] = ("wsgi", "asyncio", "trio")
both_middlewares = pytest.mark.parametrize("kind", ["wsgi", "asyncio"])
every_runner = pytest.mark.parametrize("kind", KINDS)


class Answer(NamedTuple):
    """A response. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The error code of the refusal; None if the app responded."""
        code: str | None = self.json.get("code")
        return code

    @property
    def user(self) -> dict[str, Any]:
        """The user that the app saw."""
        assert self.status == 200, self
        user: dict[str, Any] = self.json["user"]
        return user


class Ask(NamedTuple):
    """A request. At ``/load`` the app loads the profile, at ``/fresh`` a fresh one."""

    token: str | None = None
    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [*self.headers, *([("x-stack-access-token", self.token)] if self.token else [])]


def _seen(written: Any) -> dict[str, Any]:
    user, error = get_user(written), written["stackauth.error"]
    return {"user": user and user.to_dict(server_only=True), "error": error and error.value}


def _failed(error: RefusedError | AuthServerError) -> dict[str, Any]:
    return {"failed": error.code.value, "retry_after": getattr(error, "retry_after", None)}


def _sync_app(environ: Any, start_response: Any) -> list[bytes]:
    told = _seen(environ)
    if environ["PATH_INFO"] in ("/load", "/fresh"):
        try:
            told["profile"] = load_profile(environ, fresh=environ["PATH_INFO"] == "/fresh").to_dict(server_only=True)
        except (RefusedError, AuthServerError) as error:
            told |= _failed(error)
    start_response("200 OK", [("content-type", "application/json")])
    return [json.dumps(told).encode()]


async def _async_app(scope: Any, receive: Any, send: Any) -> None:
    told = _seen(scope)
    if scope["path"] in ("/load", "/fresh"):
        try:
            told["profile"] = (await aload_profile(scope, fresh=scope["path"] == "/fresh")).to_dict(server_only=True)
        except (RefusedError, AuthServerError) as error:
            told |= _failed(error)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


class Site:
    """The app behind a middleware; a context manager.

    Args:
        kind: ``"wsgi"``, or the event loop of the ASGI middleware.
        config: the settings.

    Attributes:
        reached: the environs or scopes that the app was called with.
    """

    def __init__(self, kind: Kind, config: StackAuthConfig) -> None:
        self.config = config
        self.reached: list[Any] = []
        self._kind = kind

        def sync_app(environ: Any, start_response: Any) -> list[bytes]:
            self.reached.append(environ)
            return _sync_app(environ, start_response)

        async def async_app(scope: Any, receive: Any, send: Any) -> None:
            self.reached.append(scope)
            await _async_app(scope, receive, send)

        if kind == "wsgi":
            self._wsgi = StackAuthWSGIMiddleware(sync_app, config=config)
        else:
            self._asgi = StackAuthASGIMiddleware(async_app, config=config)
        self._loop = asyncio.new_event_loop() if kind == "asyncio" else None

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        if self._kind == "wsgi":
            Verifier(self.config).close()
        if self._loop is not None:
            self._loop.run_until_complete(AsyncVerifier(self.config).aclose())
            self._loop.close()

    def ask(self, token: str | None = None, path: str = "/", method: str = "GET", **headers: str) -> Answer:
        """Send one request. ``_`` in a header name stands for ``-``."""
        pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        return self.ask_all([Ask(token, path, method, pairs)], at_once=1)[0]

    def ask_all(self, asks: Sequence[Ask], *, at_once: int) -> list[Answer]:
        """Send the requests from `at_once` threads or tasks. Return the responses in the order of the requests."""
        if self._kind == "wsgi":
            if at_once == 1:
                return [self._ask_wsgi(ask) for ask in asks]
            with ThreadPoolExecutor(at_once) as pool:
                return list(pool.map(self._ask_wsgi, asks))
        if self._loop is not None:
            return self._loop.run_until_complete(self._all_on_tasks(asks, at_once))

        async def main() -> list[Answer]:
            answers = await self._all_on_tasks(asks, at_once)
            await AsyncVerifier(self.config).aclose()
            return answers

        return anyio.run(main, backend="trio")

    async def _all_on_tasks(self, asks: Sequence[Ask], at_once: int) -> list[Answer]:
        if at_once == 1:
            return [await self._ask_asgi(ask) for ask in asks]
        answers: dict[int, Answer] = {}
        numbered = iter(enumerate(asks))

        async def work() -> None:
            for number, ask in numbered:
                answers[number] = await self._ask_asgi(ask)

        async with anyio.create_task_group() as group:
            for _ in range(at_once):
                group.start_soon(work)
        return [answers[number] for number in range(len(asks))]

    def _ask_wsgi(self, ask: Ask) -> Answer:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": ask.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": ask.path,
            "wsgi.input": io.BytesIO(),
            **{"HTTP_" + name.upper().replace("-", "_"): value for name, value in ask.pairs},
        }
        started: list[Any] = []
        body = b"".join(self._wsgi(environ, lambda status, headers: started.extend((status, headers))))
        return Answer(int(started[0].split()[0]), {name.lower(): value for name, value in started[1]}, body)

    async def _ask_asgi(self, ask: Ask) -> Answer:
        scope = {
            "type": "http",
            "method": ask.method,
            "path": ask.path,
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in ask.pairs],
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._asgi(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], headers, sent[1]["body"])
