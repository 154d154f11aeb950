from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from stackauth_middleware._core.upstream import Call, NoReply, NoReplyKind, Reply
from stackauth_middleware.testing._apps import AsgiApp, DelayedResponse, TransportOverride, WsgiApp
from stackauth_middleware.testing._responses import Response

TEA = Response(418, (("x-a", "b"), ("content-length", "4")), b"tea!")
BAD_GATEWAY = b"The local Stack Auth is down."


class FixedHandler:
    """A handler that records its calls and returns a fixed response."""

    def __init__(self, response: Response | None = TEA, seconds: float = 0.0) -> None:
        self.result = DelayedResponse(seconds, response)
        self.calls: list[tuple[str, str, dict[str, str], bytes]] = []

    def __call__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> DelayedResponse:
        self.calls.append((method, target, headers, body))
        return self.result


def through_asgi(handler: FixedHandler, scope: dict[str, Any], *messages: dict[str, Any]) -> list[Any]:
    sent: list[Any] = []
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(AsgiApp(handler)(scope, receive, send))
    return sent


def http(**members: Any) -> dict[str, Any]:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"",
        "headers": [],
    }
    return {**scope, **members}


def test_asgi_app_passes_the_request_and_returns_the_response() -> None:
    handler = FixedHandler()
    scope = http(query_string=b"x=1&y", headers=[(b"X-A", b"caf\xe9"), (b"b", b"")])
    parts: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"one ", "more_body": True},
        {"type": "http.request", "body": b"two"},
    ]
    sent = through_asgi(handler, scope, *parts)
    assert handler.calls == [("POST", "/a%20b?x=1&y", {"x-a": "café", "b": ""}, b"one two")]
    assert sent == [
        {"type": "http.response.start", "status": 418, "headers": [(b"x-a", b"b"), (b"content-length", b"4")]},
        {"type": "http.response.body", "body": b"tea!"},
    ]


@pytest.mark.parametrize(
    ("members", "target"),
    [
        ({"raw_path": None}, "/a%20b"),
        ({"raw_path": None, "query_string": b"q"}, "/a%20b?q"),
        ({"raw_path": b"/x?old", "query_string": b"new"}, "/x?new"),
    ],
)
def test_asgi_app_builds_the_target(members: dict[str, Any], target: str) -> None:
    handler = FixedHandler()
    through_asgi(handler, http(**members), {"type": "http.disconnect"})
    assert handler.calls == [("POST", target, {}, b"")]


def test_asgi_app_responds_502_when_down() -> None:
    sent = through_asgi(FixedHandler(None), http(), {"type": "http.request"})
    assert sent[0]["status"] == 502
    assert sent[1]["body"] == BAD_GATEWAY


def test_asgi_app_delays_without_blocking_the_loop() -> None:
    handler = FixedHandler(seconds=0.05)
    order: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        order.append(message["type"])

    async def other() -> None:
        await asyncio.sleep(0.01)
        order.append("other")

    async def both() -> None:
        await asyncio.gather(AsgiApp(handler)(http(), receive, send), other())

    asyncio.run(both())
    assert order == ["other", "http.response.start", "http.response.body"]


def test_asgi_app_completes_the_lifespan() -> None:
    sent = through_asgi(
        FixedHandler(), {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
    )
    assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


def test_asgi_app_closes_websockets() -> None:
    assert through_asgi(FixedHandler(), {"type": "websocket"}) == [{"type": "websocket.close", "code": 1000}]


def through_wsgi(handler: FixedHandler, **environ: Any) -> tuple[str, list[tuple[str, str]], bytes]:
    started: list[Any] = []
    base = {"REQUEST_METHOD": "POST", "PATH_INFO": "/caf\xc3\xa9 x", "wsgi.input": io.BytesIO(b"one two")}
    body = WsgiApp(handler)({**base, **environ}, lambda *started_with: started.extend(started_with))
    return started[0], started[1], b"".join(body)


def test_wsgi_app_passes_the_request_and_returns_the_response() -> None:
    handler = FixedHandler()
    got = through_wsgi(
        handler,
        QUERY_STRING="x=1",
        CONTENT_LENGTH="3",
        CONTENT_TYPE="text/plain",
        HTTP_X_STACK_AUTH="a",
        SERVER_NAME="s",
    )
    headers = {"x-stack-auth": "a", "content-type": "text/plain"}
    assert handler.calls == [("POST", "/caf%C3%A9%20x?x=1", headers, b"one")]
    assert got == ("418 I'm a Teapot", [("x-a", "b"), ("content-length", "4")], b"tea!")


def test_wsgi_app_accepts_a_minimal_environ() -> None:
    handler = FixedHandler()
    through_wsgi(handler, CONTENT_LENGTH="")
    assert handler.calls == [("POST", "/caf%C3%A9%20x", {"content-type": ""}, b"")]


def test_wsgi_app_responds_502_when_down() -> None:
    status, _, body = through_wsgi(FixedHandler(None, seconds=0.01))
    assert (status, body) == ("502 Bad Gateway", BAD_GATEWAY)


def test_wsgi_app_accepts_a_status_without_a_reason_phrase() -> None:
    assert through_wsgi(FixedHandler(Response(599, (), b"")))[0] == "599 "


CALL = Call("GET", "https://api.stack-auth.com/api/v1/users/me?x=1", {"X-Stack-Project-Id": "p"}, max_bytes=100)


def send(override: TransportOverride, call: Call, seconds: float, way: str) -> Reply | NoReply:
    return override.send(call, seconds) if way == "sync" else asyncio.run(override.asend(call, seconds))


def whole(reply: Reply | NoReply) -> object:
    return (reply.status, reply.headers, reply.body) if isinstance(reply, Reply) else reply.kind


@pytest.mark.parametrize("way", ["sync", "async"])
def test_override_handles_calls_to_any_host(way: str) -> None:
    handler = FixedHandler()
    reply = send(TransportOverride(handler), CALL, 1, way)
    headers = {"host": "api.stack-auth.com", "x-stack-project-id": "p"}
    assert handler.calls == [("GET", "/api/v1/users/me?x=1", headers, b"")]
    assert whole(reply) == (418, {"x-a": "b", "content-length": "4"}, b"tea!")


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://stack:8102/base/api/v1/users/me", "/api/v1/users/me"),
        ("http://stack:8102/elsewhere", "/elsewhere"),
        ("http://stack:8102", ""),
    ],
)
def test_override_drops_the_path_of_the_base_url(url: str, target: str) -> None:
    handler = FixedHandler()
    TransportOverride(handler).send(Call("GET", url, max_bytes=100), 1)
    assert handler.calls[0][1] == target


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(
    ("handler", "seconds", "reply"),
    [
        (FixedHandler(None), 1, NoReplyKind.UNSENT),
        (FixedHandler(seconds=30), 0.01, NoReplyKind.TIMED_OUT),
        (FixedHandler(None, seconds=30), 0.01, NoReplyKind.TIMED_OUT),
        (FixedHandler(Response(200, (), b"x" * 101)), 1, NoReplyKind.TOO_LARGE),
        (FixedHandler(Response(200, (), b"x" * 100), seconds=0.01), 1, (200, {}, b"x" * 100)),
    ],
)
def test_override_reports_why_there_is_no_reply(handler: FixedHandler, seconds: float, reply: object, way: str) -> None:
    assert whole(send(TransportOverride(handler), CALL, seconds, way)) == reply


def test_override_delays_without_blocking_the_loop() -> None:
    order: list[object] = []

    async def slow() -> None:
        order.append(await TransportOverride(FixedHandler(seconds=5)).asend(CALL, 0.05))

    async def other() -> None:
        await asyncio.sleep(0.01)
        order.append("other")

    async def both() -> None:
        await asyncio.gather(slow(), other())

    asyncio.run(both())
    assert order[0] == "other"
    assert isinstance(order[1], NoReply)
    assert order[1].kind is NoReplyKind.TIMED_OUT


def test_override_runs_under_trio() -> None:
    trio = pytest.importorskip("trio")
    assert isinstance(trio.run(TransportOverride(FixedHandler(seconds=0.01)).asend, CALL, 1.0), Reply)
