"""Threats H6, H7 and H9: failing apps, disconnecting clients, WebSockets, and the content of refusals."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from stackauth_middleware import (
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
)
from tests.unit.core.helpers import ANONYMOUS, NORMAL, PROJECT, RESTRICTED, SIGNERS, reply
from tests.unit.drive import asgi, environ_of, http_scope, wsgi

from ..security.corpus import cases, signed
from ..security.issuer import CountingIssuer

NAME = "x-stack-access-token"


async def ok(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


# -- apps and clients that fail -----------------------------------------------------------------------


class Gone(Exception):
    """The client has disconnected."""


@pytest.mark.parametrize("failure", [LookupError("of the app"), asyncio.CancelledError(), SystemExit(3), Gone()])
@pytest.mark.parametrize("when", ["before the answer", "in the answer"])
def test_h6_exception_of_an_asgi_app_propagates_and_nothing_is_sent(
    when: str, failure: BaseException, config: StackAuthConfig, issuer: CountingIssuer
) -> None:
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if when == "in the answer":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise failure

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def main() -> BaseException | None:
        middleware = StackAuthASGIMiddleware(app, config)
        try:
            await middleware(http_scope(headers=[(NAME.encode(), signed().encode())]), None, send)
        except BaseException as error:
            return error
        return None

    assert asyncio.run(main()) is failure
    assert sent == (["http.response.start"] if when == "in the answer" else [])


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("who", ["authenticated", "unauthenticated"])
def test_h6_no_second_response_after_a_disconnect(
    who: str, at: int, config: StackAuthConfig, issuer: CountingIssuer
) -> None:
    """An exception of `send` propagates, from the response of the app and from a refusal."""
    sent: list[str] = []
    gone = Gone()

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if len(sent) == at:
            raise gone

    headers = [(NAME.encode(), signed().encode())] if who == "authenticated" else []
    with pytest.raises(Gone) as raised:
        asyncio.run(StackAuthASGIMiddleware(ok, config)(http_scope(headers=headers), None, send))
    assert raised.value is gone
    assert sent == ["http.response.start", "http.response.body"][:at]


@pytest.mark.parametrize("when", ["before the answer", "after start_response", "in the body"])
def test_h6_exception_of_a_wsgi_app_propagates(when: str, config: StackAuthConfig, issuer: CountingIssuer) -> None:
    failure = LookupError("of the app")
    started: list[str] = []
    closed: list[bool] = []

    class Body:
        def __iter__(self) -> Any:
            yield b"half"
            raise failure

        def close(self) -> None:
            closed.append(True)

    def app(environ: Any, start_response: Any) -> Any:
        if when == "before the answer":
            raise failure
        start_response("200 OK", [])
        if when == "after start_response":
            raise failure
        return Body()

    def ask_once() -> None:
        middleware = StackAuthWSGIMiddleware(app, config)
        body: Any = middleware(environ_of(headers={NAME: signed()}), lambda status, headers: started.append(status))
        try:
            assert list(body)
        finally:
            body.close()

    with pytest.raises(LookupError) as raised:
        ask_once()
    assert raised.value is failure
    assert started == ([] if when == "before the answer" else ["200 OK"])
    assert closed == [True] * (when == "in the body")


# -- WebSockets ---------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[dict[str, Any], int, int]] = {
    "missing_token": ({}, 401, 3000),
    "invalid_request": ({"token": "a,b"}, 400, 3000),
    "invalid_token": ({"token": "undefined"}, 401, 3000),
    "anonymous_not_allowed": ({"kind": ANONYMOUS}, 401, 3000),
    "restricted_not_allowed": ({"kind": RESTRICTED}, 403, 3003),
    "auth_server_error": ({"kind": NORMAL, "down": reply(b"", 500)}, 503, 1013),
    "auth_misconfigured": ({"kind": NORMAL, "down": reply(b"", 404)}, 500, 1013),
}


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("how", ["close", "response", "accept"])
def test_h7_websocket_is_refused_with_exactly_one_message(how: str, code: str, issuer: CountingIssuer) -> None:
    """Before it is accepted, unless configured otherwise; with the full response if the server supports it."""
    case, status, close = REFUSALS[code]
    text = case.get("token") or (case and signed(case["kind"], signer=SIGNERS[case["kind"]][0]))
    issuer.down = case.get("down")
    sent: list[Any] = []
    received: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the app was reached")

    async def receive() -> Any:
        received.append(True)
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    refusal: Any = "accept" if how == "accept" else "close"
    middleware = StackAuthASGIMiddleware(app, project_id=PROJECT, websocket_refusal=refusal)
    headers = [(NAME.encode(), text.encode())] if text else []
    scope = {"type": "websocket", "path": "/", "headers": headers, "subprotocols": []}
    if how != "close":
        scope["extensions"] = {"websocket.http.response": {}}
    asyncio.run(middleware(scope, receive, send))
    assert received == [True]
    if how == "response":
        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == status
        assert json.loads(sent[1]["body"])["code"] == code
        assert (b"retry-after" in dict(sent[0]["headers"])) == (status == 503)
    else:
        accepted = [{"type": "websocket.accept", "subprotocol": None}] if how == "accept" else []
        assert sent == [*accepted, {"type": "websocket.close", "code": close}]


# -- refusals ------------------------------------------------------------------------------------------


def test_h9_refusals_do_not_reveal_the_reason(config: StackAuthConfig, issuer: CountingIssuer) -> None:
    """An unknown key id, a bad signature, bad claims and no token: the same response from both middlewares."""
    names = {
        "hdr-kid-unknown",
        "sig-stranger",
        "sub-missing",
        "sta-branch-other",
        "hdr-alg-none-nosig",
        "aud-suffix",
        "enc-parts-2",
        "tok-undefined",
    }
    chosen = {case.name: case.token for case in cases() if case.name in names}
    chosen["an unknown project"] = signed(aud="11111111-2222-4333-8444-555555555555")
    assert len(chosen) == 9
    answers = set()
    for text in chosen.values():
        for seen in (
            asgi(http_scope(headers=[(NAME.encode(), text.encode("latin-1"))]), config=config),
            wsgi(environ_of(headers={NAME: text}), config=config),
        ):
            assert seen.reached == []
            answers.add((seen.status, tuple(seen.headers.items()), seen.body))
    assert len(answers) == 1
    assert next(iter(answers))[2] == b'{"error": "Invalid or expired access token", "code": "invalid_token"}'
