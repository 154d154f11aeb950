"""Threats H2, H4, H5 and H8: event loops, cold starts, blocking calls, and leaks."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stackauth_middleware import AsyncVerifier, StackAuthASGIMiddleware
from stackauth_middleware._core import cache
from tests.network.conftest import Attempts
from tests.unit.core.helpers import ANONYMOUS, NORMAL, RESTRICTED, Clock, token
from tests.unit.drive import http_scope
from tests.unit.io import hostile
from tests.unit.io.loopback import Exchange, Issuer, Loopback, config_for, live_token

from ..security.published import LET_IN, Published, Way, both_middlewares, down

NAME = "x-stack-access-token"
KINDS = (NORMAL, RESTRICTED, ANONYMOUS)


async def ok(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def ask(middleware: Any, text: str) -> int:
    """Send one request through the ASGI middleware, and return the status."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await middleware(http_scope(headers=[(NAME.encode(), text.encode())]), None, send)
    status: int = sent[0]["status"]
    return status


# -- event loops --------------------------------------------------------------------------------------------


def test_h2_consecutive_event_loops(network: None) -> None:
    """With one middleware: each loop has its own connections, and all share the keys."""
    with Loopback(Issuer()) as server:
        config = config_for(server.url)
        middleware = StackAuthASGIMiddleware(ok, config)

        async def main() -> list[int]:
            statuses = await asyncio.gather(*(ask(middleware, live_token(name=f"{at}")) for at in range(10)))
            await AsyncVerifier(config).aclose()
            return list(statuses)

        for _ in range(3):
            cache.reset_all()
            assert asyncio.run(main()) == [200] * 10
        assert asyncio.run(main()) == [200] * 10
        assert (len(server.requests), server.connections) == (3, 3)


def test_h2_event_loops_in_threads(network: None) -> None:
    """Five concurrent cold starts: none waits for an object of another event loop."""
    barrier = threading.Barrier(5)
    with Loopback(Issuer()) as server:
        config = config_for(server.url)
        middleware = StackAuthASGIMiddleware(ok, config)

        async def main(number: int) -> list[int]:
            await asyncio.to_thread(barrier.wait, 10)
            statuses = await asyncio.gather(*(ask(middleware, live_token(name=f"{number} {at}")) for at in range(10)))
            await AsyncVerifier(config).aclose()
            return list(statuses)

        with ThreadPoolExecutor(5) as pool:
            assert list(pool.map(lambda number: asyncio.run(main(number)), range(5))) == [[200] * 10] * 5
        assert 1 <= len(server.requests) <= 5
        assert server.connections == len(server.requests)


# -- cold starts ----------------------------------------------------------------------------------


@both_middlewares
def test_h4_cold_start_of_fifty_requests_is_one_call(way: Way, keys: Published, clock: Clock) -> None:
    keys.issuer.hold = 0.05
    with keys.asker(way) as asker:
        tokens = [token(name=f"{at}") for at in range(50)]
        assert asker.ask_all(tokens, at_once=50) == [LET_IN] * 50
        assert asker.passed == 50
    assert keys.calls == 1


@both_middlewares
def test_h4_cold_start_of_all_user_types_is_one_call_per_document(way: Way, keys: Published, clock: Clock) -> None:
    keys.issuer.hold = 0.05
    with keys.asker(way, allow_anonymous=True) as asker:
        tokens = [token(KINDS[at % 3], name=f"{at}") for at in range(51)]
        responses = asker.ask_all(tokens, at_once=51)
        # Once one key set has arrived, at most four threads wait for the others.
        assert set(responses) <= ({LET_IN, down(1)} if way == "wsgi" else {LET_IN})
    assert keys.calls == 5


@both_middlewares
def test_h4_concurrent_requests_share_one_timeout(way: Way, keys: Published, clock: Clock, looks: Attempts) -> None:
    """With PyJWKClient, ten threads wait ten timeouts for a hanging server."""
    keys.conduct = hostile.silence
    with keys.asker(way, timeout=0.3) as asker:
        tokens = [token(name=f"{at}") for at in range(50)]
        began = time.monotonic()
        answers = asker.ask_all(tokens, at_once=50)
        assert time.monotonic() - began < 3
        assert set(answers) <= {down(10), down(1)}
        assert asker.passed == 0
    assert looks.count == 1


# -- blocking calls -----------------------------------------------------------------------------------


def test_h5_event_loop_runs_during_a_fetch(network: None) -> None:
    """The server replies only after the loop has run a counter: a blocking call would wait for itself."""
    turns = 0
    issuer = Issuer()

    def conduct(exchange: Exchange) -> None:
        seen, end = turns, time.monotonic() + 20
        while turns < seen + 20:
            assert time.monotonic() < end, "the event loop is blocked"
            exchange.hold(0.002)
        exchange.send(hostile.OK, f"Content-Length: {len(body)}\r\n\r\n", body[:50])
        seen = turns
        while turns < seen + 20:
            assert time.monotonic() < end, "the event loop is blocked while the body is read"
            exchange.hold(0.002)
        exchange.send(body[50:])

    body = json.dumps(issuer.document("")).encode()
    with Loopback(conduct) as server:
        config = config_for(server.url)
        middleware = StackAuthASGIMiddleware(ok, config)

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.001)
                turns += 1

        async def main() -> int:
            counter = asyncio.create_task(count())
            status = await ask(middleware, live_token())
            counter.cancel()
            await AsyncVerifier(config).aclose()
            return status

        assert asyncio.run(main()) == 200
        assert turns >= 40
        assert len(server.requests) == 1


# -- leaks ------------------------------------------------------------------------------------------

_LIFE = """
import asyncio, gc, json, sys, threading
from stackauth_middleware import AsyncVerifier, StackAuthASGIMiddleware, StackAuthWSGIMiddleware, Verifier
from tests.unit.drive import environ_of, http_scope
from tests.unit.io.loopback import Issuer, Loopback, config_for, live_token

raised = []
sys.unraisablehook = lambda each: raised.append(repr(each.exc_value))
threading.excepthook = lambda each: raised.append(repr(each.exc_value))
before = set(threading.enumerate())
messages, statuses, tasks, calls = [], [], [], []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for word in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{word}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def ask(middleware):
    sent = []
    async def send(message):
        sent.append(message)
    await middleware(http_scope(headers=[(b"x-stack-access-token", live_token().encode())]), None, send)
    statuses.append(sent[0]["status"])

async def main(server):
    config = config_for(server.url, timeout=5)
    middleware = StackAuthASGIMiddleware(app, config)
    to_app = asyncio.Queue()
    async def send(message):
        messages.append(message["type"])
    lifespan = asyncio.create_task(middleware({"type": "lifespan", "state": {}}, to_app.get, send))
    await to_app.put({"type": "lifespan.startup"})
    while not server.requests:
        await asyncio.sleep(0.005)
    await ask(middleware)
    await to_app.put({"type": "lifespan.shutdown"})
    await lifespan
    tasks.extend(str(each) for each in asyncio.all_tasks() - {asyncio.current_task()})
    end = asyncio.get_running_loop().time() + 10
    while server._open and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.005)
    raised.extend(f"still open: {each}" for each in server._open)
    await ask(middleware)  # after the shutdown
    await AsyncVerifier(config).aclose()
    await AsyncVerifier(config).aclose()
    await ask(middleware)
    await AsyncVerifier(config).aclose()
    return config

def live(status):
    issuer = Issuer()
    issuer.status = status
    with Loopback(issuer) as server:
        config = asyncio.run(main(server))
        middleware = StackAuthWSGIMiddleware(lambda environ, start: [start("200 OK", []), b""][1:], config)
        for _ in range(2):
            headers = {"x-stack-access-token": live_token()}
            b"".join(middleware(environ_of(headers=headers), lambda status, headers: statuses.append(int(status[:3]))))
            Verifier(config).close()
        calls.append(len(server.requests))

live(200)
live(503)
gc.collect()
left = [each.name for each in set(threading.enumerate()) - before]
print(json.dumps([messages, statuses, tasks, left, raised, calls]))
"""


def test_h8_life_cycle_leaks_nothing() -> None:
    """Prefetch, requests, shutdown and later use, with warnings as errors: no socket, task or thread remains.

    A failed prefetch does not prevent the start.
    """
    environ = {name: value for name, value in os.environ.items() if not name.lower().startswith(("ssl_", "http"))}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", _LIFE],
        capture_output=True,
        text=True,
        env=environ,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    messages, statuses, tasks, left, raised, calls = json.loads(run.stdout)
    assert messages == ["lifespan.startup.complete", "lifespan.shutdown.complete"] * 2
    assert statuses == [200] * 5 + [503] * 5
    assert (tasks, left, raised) == ([], [], [])
    assert calls == [1, 1]
    assert "Warning" not in run.stderr
