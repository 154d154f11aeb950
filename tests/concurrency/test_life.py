"""Threats H2, H4, H5 and H8: loops, crowds, a loop that must turn, and what is left at the end."""

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


async def ask(door: Any, text: str) -> int:
    """Send one request through an ASGI door, and return the status."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await door(http_scope(headers=[(NAME.encode(), text.encode())]), None, send)
    status: int = sent[0]["status"]
    return status


# -- loops --------------------------------------------------------------------------------------------


def test_h2_loops_one_after_another(network: None) -> None:
    """One door for all, as in tests of an app: each loop has connections of its own; the keys are everybody's."""
    with Loopback(Issuer()) as server:
        config = config_for(server.url)
        door = StackAuthASGIMiddleware(ok, config)

        async def main() -> list[int]:
            statuses = await asyncio.gather(*(ask(door, live_token(name=f"{at}")) for at in range(10)))
            await AsyncVerifier(config).aclose()
            return list(statuses)

        for _ in range(3):
            cache.reset_all()
            assert asyncio.run(main()) == [200] * 10
        assert asyncio.run(main()) == [200] * 10
        assert (len(server.requests), server.connections) == (3, 3)


def test_h2_loops_in_threads(network: None) -> None:
    """Five at once on a cold start: none waits for what belongs to the loop of another."""
    barrier = threading.Barrier(5)
    with Loopback(Issuer()) as server:
        config = config_for(server.url)
        door = StackAuthASGIMiddleware(ok, config)

        async def main(number: int) -> list[int]:
            await asyncio.to_thread(barrier.wait, 10)
            statuses = await asyncio.gather(*(ask(door, live_token(name=f"{number} {at}")) for at in range(10)))
            await AsyncVerifier(config).aclose()
            return list(statuses)

        with ThreadPoolExecutor(5) as pool:
            assert list(pool.map(lambda number: asyncio.run(main(number)), range(5))) == [[200] * 10] * 5
        assert 1 <= len(server.requests) <= 5
        assert server.connections == len(server.requests)


# -- a crowd on a cold start --------------------------------------------------------------------------


@both_middlewares
def test_h4_fifty_at_once_on_a_cold_start_are_one_call(way: Way, keys: Published, clock: Clock) -> None:
    keys.issuer.hold = 0.05
    with keys.asker(way) as asker:
        tokens = [token(name=f"{at}") for at in range(50)]
        assert asker.ask_all(tokens, at_once=50) == [LET_IN] * 50
        assert asker.passed == 50
    assert keys.calls == 1


@both_middlewares
def test_h4_fifty_at_once_of_every_kind_are_a_call_for_each_document(way: Way, keys: Published, clock: Clock) -> None:
    keys.issuer.hold = 0.05
    with keys.asker(way, allow_anonymous=True) as asker:
        tokens = [token(KINDS[at % 3], name=f"{at}") for at in range(51)]
        assert asker.ask_all(tokens, at_once=51) == [LET_IN] * 51
    assert keys.calls == 5


@both_middlewares
def test_h4_nobody_waits_for_one_after_another(way: Way, keys: Published, clock: Clock, looks: Attempts) -> None:
    """PyJWKClient lets ten threads on a server that hangs wait for ten times its timeout."""
    keys.conduct = hostile.silence
    with keys.asker(way, timeout=0.3) as asker:
        tokens = [token(name=f"{at}") for at in range(50)]
        began = time.monotonic()
        answers = asker.ask_all(tokens, at_once=50)
        assert time.monotonic() - began < 3
        assert set(answers) <= {down(10), down(1)}
        assert asker.passed == 0
    assert looks.count == 1


# -- the event loop -----------------------------------------------------------------------------------


def test_h5_the_loop_turns_while_keys_are_fetched(network: None) -> None:
    """The answer comes only after the ticker has ticked: a call that blocked the loop would wait for itself."""
    ticks = 0
    issuer = Issuer()

    def conduct(exchange: Exchange) -> None:
        seen, end = ticks, time.monotonic() + 20
        while ticks < seen + 20:
            assert time.monotonic() < end, "the loop stands still"
            exchange.hold(0.002)
        exchange.send(hostile.OK, f"Content-Length: {len(body)}\r\n\r\n", body[:50])
        seen = ticks
        while ticks < seen + 20:
            assert time.monotonic() < end, "the loop stands still while the body is read"
            exchange.hold(0.002)
        exchange.send(body[50:])

    body = json.dumps(issuer.document("")).encode()
    with Loopback(conduct) as server:
        config = config_for(server.url)
        door = StackAuthASGIMiddleware(ok, config)

        async def resume() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        async def main() -> int:
            ticker = asyncio.create_task(resume())
            status = await ask(door, live_token())
            ticker.cancel()
            await AsyncVerifier(config).aclose()
            return status

        assert asyncio.run(main()) == 200
        assert ticks >= 40
        assert len(server.requests) == 1


# -- the end ------------------------------------------------------------------------------------------

_LIFE = """
import asyncio, gc, json, sys, threading
from stackauth_middleware import AsyncVerifier, StackAuthASGIMiddleware, StackAuthWSGIMiddleware, Verifier
from tests.unit.drive import environ_of, http_scope
from tests.unit.io.loopback import Issuer, Loopback, config_for, live_token

raised = []
sys.unraisablehook = lambda each: raised.append(repr(each.exc_value))
threading.excepthook = lambda each: raised.append(repr(each.exc_value))
before = set(threading.enumerate())
said, statuses, tasks, calls = [], [], [], []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for word in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{word}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def ask(door):
    sent = []
    async def send(message):
        sent.append(message)
    await door(http_scope(headers=[(b"x-stack-access-token", live_token().encode())]), None, send)
    statuses.append(sent[0]["status"])

async def main(server):
    config = config_for(server.url, timeout=5)
    door = StackAuthASGIMiddleware(app, config)
    to_app = asyncio.Queue()
    async def send(message):
        said.append(message["type"])
    lifespan = asyncio.create_task(door({"type": "lifespan", "state": {}}, to_app.get, send))
    await to_app.put({"type": "lifespan.startup"})
    while not server.requests:
        await asyncio.sleep(0.005)
    await ask(door)
    await to_app.put({"type": "lifespan.shutdown"})
    await lifespan
    tasks.extend(str(each) for each in asyncio.all_tasks() - {asyncio.current_task()})
    end = asyncio.get_running_loop().time() + 10
    while server._open and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.005)
    raised.extend(f"still open: {each}" for each in server._open)
    await ask(door)  # after the shutdown
    await AsyncVerifier(config).aclose()
    await AsyncVerifier(config).aclose()
    await ask(door)
    await AsyncVerifier(config).aclose()
    return config

def live(status):
    issuer = Issuer()
    issuer.status = status
    with Loopback(issuer) as server:
        config = asyncio.run(main(server))
        door = StackAuthWSGIMiddleware(lambda environ, start: [start("200 OK", []), b""][1:], config)
        for _ in range(2):
            headers = {"x-stack-access-token": live_token()}
            b"".join(door(environ_of(headers=headers), lambda status, headers: statuses.append(int(status[:3]))))
            Verifier(config).close()
        calls.append(len(server.requests))

live(200)
live(503)
gc.collect()
left = [each.name for each in set(threading.enumerate()) - before]
print(json.dumps([said, statuses, tasks, left, raised, calls]))
"""


def test_h8_a_life_leaves_nothing_behind() -> None:
    """Prefetch, requests, shutdown and use after it, every warning an error: no socket, task or thread is left.

    A prefetch that fails keeps no server from starting.
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
    said, statuses, tasks, left, raised, calls = json.loads(run.stdout)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"] * 2
    assert statuses == [200] * 5 + [503] * 5
    assert (tasks, left, raised) == ([], [], [])
    assert calls == [1, 1]
    assert "Warning" not in run.stderr
