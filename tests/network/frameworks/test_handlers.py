"""Connections for profiles that handlers load, in the event loops and threads in which frameworks run handlers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI, Request
from flask import Flask, request

from stackauth_middleware import (
    AsyncVerifier,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    Verifier,
    aload_profile,
    load_profile,
)
from tests.frameworks.ask import Answer, Ask, Loop, ask_wsgi
from tests.network.upstream import Upstream

fastapi = FastAPI()
flask = Flask(__name__)


@fastapi.get("/sync")
def fastapi_sync(request: Request) -> str | None:
    return load_profile(request, fresh=True).display_name


@fastapi.get("/async")
async def fastapi_async(request: Request) -> str | None:
    return (await aload_profile(request, fresh=True)).display_name


@flask.get("/sync")
def flask_sync() -> str:
    return json.dumps(load_profile(request, fresh=True).display_name)


@flask.get("/async")
async def flask_async() -> str:
    return json.dumps((await aload_profile(request, fresh=True)).display_name)


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def config(up: Upstream, loop: Loop) -> Iterator[StackAuthConfig]:
    config = up.config(mode="jwt", prefetch_keys=False)
    with Verifier(config):
        yield config
    loop._loop.run_until_complete(AsyncVerifier(config).aclose())


@pytest.mark.parametrize("path", ["/sync", "/async"])
@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_handlers_share_a_few_connections(
    framework: str, path: str, config: StackAuthConfig, loop: Loop, up: Upstream
) -> None:
    """Flask runs each coroutine in an event loop of its own, which no connection could outlive."""
    ask: Callable[[Ask], Answer]
    if framework == "fastapi":
        ask = partial(loop.ask, StackAuthASGIMiddleware(fastapi, config))
    else:
        ask = partial(ask_wsgi, StackAuthWSGIMiddleware(flask.wsgi_app, config))
    for number in range(20):
        token = up.token(up.local.users.create(display_name=f"Jane {number}"))
        answer = ask(Ask(path, headers={"x-stack-access-token": token}))
        assert (answer.status, json.loads(answer.body)) == (200, f"Jane {number}")
    assert len(up.calls) == 20
    assert up.connections <= 3


def test_event_loop_runs_while_a_plain_endpoint_waits(config: StackAuthConfig, loop: Loop, up: Upstream) -> None:
    turns = 0
    up.me = up.slowly(0.1)

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        nonlocal turns
        task = asyncio.ensure_future(fastapi(scope, receive, send))
        while not task.done():
            turns += 1
            await asyncio.sleep(0.001)
        await task

    middleware = StackAuthASGIMiddleware(counting, config)
    assert loop.ask(middleware, Ask("/sync", headers={"x-stack-access-token": up.token()})).status == 200
    assert turns > 10
