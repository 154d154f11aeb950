from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from stackauth_middleware._core.upstream import Call, NoReply, NoReplyKind, Reply
from stackauth_middleware.testing._answers import Answer
from stackauth_middleware.testing._faces import AsgiFace, InProcess, Outcome, WsgiFace

ANSWER = Answer(418, (("x-a", "b"), ("content-length", "4")), b"tea!")
BAD_GATEWAY = b"The local Stack Auth is down."


class Behind:
    """What a face asks: notes what it is asked, and gives a fixed outcome."""

    def __init__(self, answer: Answer | None = ANSWER, seconds: float = 0.0) -> None:
        self.outcome = Outcome(seconds, answer)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    def __call__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Outcome:
        self.asked.append((method, target, headers, body))
        return self.outcome


def through_asgi(behind: Behind, scope: dict[str, Any], *messages: dict[str, Any]) -> list[Any]:
    sent: list[Any] = []
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(AsgiFace(behind)(scope, receive, send))
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


def test_asgi_asks_and_answers() -> None:
    behind = Behind()
    scope = http(query_string=b"x=1&y", headers=[(b"X-A", b"caf\xe9"), (b"b", b"")])
    parts: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"one ", "more_body": True},
        {"type": "http.request", "body": b"two"},
    ]
    sent = through_asgi(behind, scope, *parts)
    assert behind.asked == [("POST", "/a%20b?x=1&y", {"x-a": "café", "b": ""}, b"one two")]
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
def test_asgi_makes_the_target_of_what_it_has(members: dict[str, Any], target: str) -> None:
    behind = Behind()
    through_asgi(behind, http(**members), {"type": "http.disconnect"})
    assert behind.asked == [("POST", target, {}, b"")]


def test_asgi_answers_502_where_there_is_no_answer() -> None:
    sent = through_asgi(Behind(None), http(), {"type": "http.request"})
    assert sent[0]["status"] == 502
    assert sent[1]["body"] == BAD_GATEWAY


def test_asgi_answers_late_without_blocking() -> None:
    behind = Behind(seconds=0.05)
    order: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        order.append(message["type"])

    async def other() -> None:
        await asyncio.sleep(0.01)
        order.append("other")

    async def both() -> None:
        await asyncio.gather(AsgiFace(behind)(http(), receive, send), other())

    asyncio.run(both())
    assert order == ["other", "http.response.start", "http.response.body"]


def test_asgi_goes_through_the_lifespan() -> None:
    sent = through_asgi(Behind(), {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


def test_asgi_takes_no_websocket() -> None:
    assert through_asgi(Behind(), {"type": "websocket"}) == [{"type": "websocket.close", "code": 1000}]


def through_wsgi(behind: Behind, **environ: Any) -> tuple[str, list[tuple[str, str]], bytes]:
    started: list[Any] = []
    base = {"REQUEST_METHOD": "POST", "PATH_INFO": "/caf\xc3\xa9 x", "wsgi.input": io.BytesIO(b"one two")}
    body = WsgiFace(behind)({**base, **environ}, lambda *told: started.extend(told))
    return started[0], started[1], b"".join(body)


def test_wsgi_asks_and_answers() -> None:
    behind = Behind()
    got = through_wsgi(
        behind,
        QUERY_STRING="x=1",
        CONTENT_LENGTH="3",
        CONTENT_TYPE="text/plain",
        HTTP_X_STACK_AUTH="a",
        SERVER_NAME="s",
    )
    headers = {"x-stack-auth": "a", "content-type": "text/plain"}
    assert behind.asked == [("POST", "/caf%C3%A9%20x?x=1", headers, b"one")]
    assert got == ("418 I'm a Teapot", [("x-a", "b"), ("content-length", "4")], b"tea!")


def test_wsgi_does_without_what_is_not_there() -> None:
    behind = Behind()
    through_wsgi(behind, CONTENT_LENGTH="")
    assert behind.asked == [("POST", "/caf%C3%A9%20x", {"content-type": ""}, b"")]


def test_wsgi_answers_502_where_there_is_no_answer() -> None:
    status, _, body = through_wsgi(Behind(None, seconds=0.01))
    assert (status, body) == ("502 Bad Gateway", BAD_GATEWAY)


def test_wsgi_knows_statuses_without_a_name() -> None:
    assert through_wsgi(Behind(Answer(599, (), b"")))[0] == "599 "


CALL = Call("GET", "https://api.stack-auth.com/api/v1/users/me?x=1", {"X-Stack-Project-Id": "p"}, max_bytes=100)


def send(face: InProcess, call: Call, seconds: float, way: str) -> Reply | NoReply:
    return face.send(call, seconds) if way == "sync" else asyncio.run(face.asend(call, seconds))


def whole(reply: Reply | NoReply) -> object:
    return (reply.status, reply.headers, reply.body) if isinstance(reply, Reply) else reply.kind


@pytest.mark.parametrize("way", ["sync", "async"])
def test_in_process_every_address_leads_here(way: str) -> None:
    behind = Behind()
    reply = send(InProcess(behind), CALL, 1, way)
    headers = {"host": "api.stack-auth.com", "x-stack-project-id": "p"}
    assert behind.asked == [("GET", "/api/v1/users/me?x=1", headers, b"")]
    assert whole(reply) == (418, {"x-a": "b", "content-length": "4"}, b"tea!")


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://stack:8102/base/api/v1/users/me", "/api/v1/users/me"),
        ("http://stack:8102/elsewhere", "/elsewhere"),
        ("http://stack:8102", ""),
    ],
)
def test_in_process_the_path_of_a_base_is_dropped(url: str, target: str) -> None:
    behind = Behind()
    InProcess(behind).send(Call("GET", url, max_bytes=100), 1)
    assert behind.asked[0][1] == target


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(
    ("behind", "seconds", "reply"),
    [
        (Behind(None), 1, NoReplyKind.UNSENT),
        (Behind(seconds=30), 0.01, NoReplyKind.TIMED_OUT),
        (Behind(None, seconds=30), 0.01, NoReplyKind.TIMED_OUT),
        (Behind(Answer(200, (), b"x" * 101)), 1, NoReplyKind.TOO_LARGE),
        (Behind(Answer(200, (), b"x" * 100), seconds=0.01), 1, (200, {}, b"x" * 100)),
    ],
)
def test_in_process_there_may_be_no_answer(behind: Behind, seconds: float, reply: object, way: str) -> None:
    assert whole(send(InProcess(behind), CALL, seconds, way)) == reply


def test_in_process_waits_without_blocking() -> None:
    order: list[object] = []

    async def slow() -> None:
        order.append(await InProcess(Behind(seconds=5)).asend(CALL, 0.05))

    async def other() -> None:
        await asyncio.sleep(0.01)
        order.append("other")

    async def both() -> None:
        await asyncio.gather(slow(), other())

    asyncio.run(both())
    assert order[0] == "other"
    assert isinstance(order[1], NoReply)
    assert order[1].kind is NoReplyKind.TIMED_OUT


def test_in_process_runs_under_trio() -> None:
    trio = pytest.importorskip("trio")
    assert isinstance(trio.run(InProcess(Behind(seconds=0.01)).asend, CALL, 1.0), Reply)
