"""Lifespans run by test clients: Falcon's hung when the middleware called ``receive`` too late."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig
from stackauth_middleware.testing import LocalStackAuth

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """Start, and wait for shutdown, past events that it does not know, as Falcon does."""
    assert scope["type"] == "lifespan"
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return


class Driver:
    """Driver of a lifespan. Its events are lost unless the app is waiting for one.

    Args:
        stay: awaited between start and shutdown.
    """

    def __init__(self, stay: Callable[[], Awaitable[None]]) -> None:
        self.stay = stay
        self.sent: list[str] = []
        self.listening = False

    async def __call__(self, app: Any) -> None:
        events = iter(["lifespan.startup", "lifespan.unknown"])
        over = anyio.Event()

        async def receive() -> Any:
            event = next(events, None)
            if event is None:
                self.listening = True
                await over.wait()
                event = "lifespan.shutdown"
            return {"type": event}

        async def send(message: Any) -> None:
            self.sent.append(message["type"])

        async with anyio.create_task_group() as group:
            group.start_soon(app, {"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
            while not self.sent:
                await anyio.lowlevel.checkpoint()
            assert self.listening, "the event for shutdown would be lost"
            await self.stay()
            over.set()


async def _keys_asked(stackauth: LocalStackAuth) -> None:
    with anyio.fail_after(5):
        while not stackauth.requests.count("jwks"):
            await anyio.sleep(0)


@BACKENDS
def test_app_waits_for_events_as_soon_as_it_has_started(
    auth: StackAuthConfig, stackauth: LocalStackAuth, backend: str
) -> None:
    """Falcon's client starts the app, sends a request, and sends the shutdown event once."""
    driver = Driver(anyio.lowlevel.checkpoint)
    anyio.run(driver, StackAuthASGIMiddleware(app, auth), backend=backend)
    assert driver.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_falcons_client_is_refused_by_its_first_request(auth: StackAuthConfig, stackauth: LocalStackAuth) -> None:
    import falcon.asgi
    from falcon.testing import TestClient

    client = TestClient(StackAuthASGIMiddleware(falcon.asgi.App(), auth))
    assert client.simulate_get("/me").status_code == 401
    assert client.simulate_get("/me", headers=stackauth.headers()).status_code == 404


@BACKENDS
def test_unknown_lifespan_event_does_not_stop_prefetch(
    auth: StackAuthConfig, stackauth: LocalStackAuth, backend: str
) -> None:
    """Only the shutdown event does."""
    anyio.run(Driver(lambda: _keys_asked(stackauth)), StackAuthASGIMiddleware(app, auth), backend=backend)
    assert stackauth.requests.count("jwks") == 1


@BACKENDS
def test_slow_key_fetch_does_not_delay_shutdown(auth: StackAuthConfig, stackauth: LocalStackAuth, backend: str) -> None:
    driver = Driver(lambda: _keys_asked(stackauth))
    began = time.monotonic()
    with stackauth.delay(4.5):
        anyio.run(driver, StackAuthASGIMiddleware(app, auth), backend=backend)
    assert time.monotonic() - began < 3
    assert driver.sent[-1] == "lifespan.shutdown.complete"


@BACKENDS
@pytest.mark.parametrize("at", ["lifespan.startup", "lifespan.shutdown"])
def test_exception_of_the_lifespan_is_raised_unchanged(
    at: str, auth: StackAuthConfig, stackauth: LocalStackAuth, backend: str
) -> None:
    """Servers detect an app without lifespan by it. An exception group would be another exception."""
    raised = LookupError(at)

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == at:
                raise raised
            await send({"type": f"{message['type']}.complete"})

    async def drive() -> None:
        events = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> Any:
            return {"type": next(events)}

        async def send(message: Any) -> None:
            await anyio.lowlevel.checkpoint()

        with pytest.raises(LookupError) as caught:
            await StackAuthASGIMiddleware(failing, auth)({"type": "lifespan"}, receive, send)
        assert caught.value is raised

    anyio.run(drive, backend=backend)
