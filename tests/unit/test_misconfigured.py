"""Wrong settings of a middleware that is made within the first call of the app."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from stackauth_middleware import ConfigError, StackAuthASGIMiddleware, _misconfigured
from stackauth_middleware._core.rate_limited_log import RateLimitedLog
from stackauth_middleware._misconfigured import within_asgi_call

PROJECT = "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"project_id": PROJECT, "leeway": 400}, "leeway is 400; it must be from 0 to 300 seconds"),
    ({"project_id": PROJECT, "leway": 4}, "unknown setting 'leway'"),
    ({"config": "auth"}, "config is str; it must be a StackAuthConfig"),
    ({"project_id": PROJECT, "secret_server_key": "pck_canary"}, "secret_server_key is a key of another kind"),
]
LEEWAY = WRONG[0][0]
HTTP = {"type": "http", "method": "GET", "path": "/", "headers": []}


async def unreachable(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the app was called")


def call(scope: dict[str, Any], settings: dict[str, Any]) -> tuple[list[Any], str]:
    """Call an app that makes its middleware in each call. Return the messages that it sent, and the error."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": f"{scope['type']}.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    def build() -> Any:
        return StackAuthASGIMiddleware(unreachable, **settings)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await build()(scope, receive, send)

    with pytest.raises(ConfigError) as caught:
        asyncio.run(app(scope, receive, send))
    return sent, str(caught.value)


@pytest.mark.parametrize(("settings", "message"), WRONG, ids=["value", "name", "config", "secret"])
def test_lifespan_fails_with_the_error(settings: dict[str, Any], message: str) -> None:
    sent, error = call({"type": "lifespan"}, settings)
    assert sent == [{"type": "lifespan.startup.failed", "message": f"ConfigError: {error}"}]
    assert message in error
    assert "canary" not in error


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_request_is_answered_with_500_without_the_message(method: str) -> None:
    sent, error = call(HTTP | {"method": method}, LEEWAY)
    start, body = sent
    assert start["status"] == 500
    expected = {"error": "Authentication server error", "code": "auth_misconfigured"}
    assert dict(start["headers"]) == {
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(json.dumps(expected)),
    }
    assert body["body"] == (json.dumps(expected).encode() if method == "GET" else b"")
    assert "leeway" in error


def test_message_is_logged_once_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(_misconfigured, "_log", RateLimitedLog(logging.ERROR))
    for _ in range(3):
        call(HTTP, LEEWAY)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "answered with 500, since the settings of the middleware are wrong: leeway is 400" in record.getMessage()


def test_websocket_is_closed_and_other_calls_fail() -> None:
    sent, _ = call({"type": "websocket"}, LEEWAY)
    assert sent == [{"type": "websocket.close", "code": 1013}]
    assert call({"type": "other"}, LEEWAY)[0] == []


def test_every_call_raises_an_error_of_its_own() -> None:
    """The traceback of one that is raised again grows with each request."""

    async def app(scope: Any, errors: list[ConfigError]) -> None:
        async def send(_message: Any) -> None: ...

        middleware = StackAuthASGIMiddleware(unreachable, project_id=PROJECT, leeway=400)
        for _ in range(2):
            try:
                await middleware(scope, send, send)
            except ConfigError as error:
                errors.append(error)

    errors: list[ConfigError] = []
    asyncio.run(app(HTTP, errors))
    one, other = errors
    assert one is not other


@pytest.mark.parametrize("scope", [None, "text", {"no": "type"}])
def test_elsewhere_the_error_is_raised_where_the_settings_are_written(scope: Any) -> None:
    """Also while an event loop runs: uvicorn imports the app in one."""

    async def load(scope: Any) -> None:
        StackAuthASGIMiddleware(unreachable, project_id=PROJECT, leeway=400)

    def plain(scope: Any) -> None:
        StackAuthASGIMiddleware(unreachable, project_id=PROJECT, leeway=400)

    with pytest.raises(ConfigError, match="leeway is 400"):
        asyncio.run(load(scope))
    with pytest.raises(ConfigError, match="leeway is 400"):
        plain(HTTP)
    assert not within_asgi_call()
