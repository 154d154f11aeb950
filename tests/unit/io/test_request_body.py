"""The body of a refused request is dropped where that takes little, and the client is not kept waiting for it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import anyio
import pytest

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig
from stackauth_middleware._io import request_body
from stackauth_middleware._io.request_body import MAX_BYTES, is_droppable
from tests.unit.core.helpers import PROJECT
from tests.unit.io.helpers import both
from tests.unit.io.loopback import Backend


async def app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the request is refused")


def refused(messages: Iterable[Any], headers: list[Any], backend: Backend = "asyncio", method: str = "POST") -> int:
    """Return how many messages the middleware receives of a request without a token, which it answers.

    After `messages` the client is silent.
    """
    sent: list[Any] = []
    received = 0
    left = iter(messages)

    async def receive() -> Any:
        nonlocal received
        assert not sent, "granian receives nothing after the response has begun"
        received += 1
        message = next(left, None)
        return message if message is not None else await anyio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/", "headers": headers}
    middleware = StackAuthASGIMiddleware(app, StackAuthConfig(project_id=PROJECT))
    anyio.run(middleware, scope, receive, send, backend=backend)
    assert sent[0]["status"] in (400, 401)
    assert len(sent) == 2
    return received


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@both
def test_short_body_is_received_before_the_response(backend: Backend) -> None:
    assert refused([part(b"a" * 500), part(b"a" * 500, more=False)], [(b"content-length", b"1000")], backend) == 2


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-length", b"0")],
        [(b"content-length", b"%d" % (MAX_BYTES + 1))],
        [(b"content-length", b"-1")],
        [(b"content-length", b"ten")],
        [(b"content-length", b"10"), (b"expect", b"100-continue")],
        [(b"transfer-encoding", b"chunked")],
        [b"content-length"],
    ],
    ids=["none", "empty", "long", "negative", "no number", "expecting", "chunked", "invalid scope"],
)
def test_other_bodies_are_not_received(headers: list[Any]) -> None:
    assert refused([], headers) == 0
    assert not is_droppable({"headers": headers})


def test_methods_without_a_body_are_not_searched_for_one() -> None:
    assert refused([], [(b"content-length", b"10")], method="GET") == 0


def test_disconnect_ends_the_body() -> None:
    assert refused([part(b"a"), {"type": "http.disconnect"}], [(b"content-length", b"10")]) == 2


@both
def test_slow_client_is_not_waited_for(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "MAX_SECONDS", 0.1)
    began = time.monotonic()
    assert refused([part(b"a")] * 3, [(b"content-length", b"10")], backend) == 4
    assert time.monotonic() - began < 5


def test_body_longer_than_announced_is_not_received_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "MAX_BYTES", 10)
    assert refused([part(b"a" * 6)] * 9, [(b"content-length", b"10")]) == 2
