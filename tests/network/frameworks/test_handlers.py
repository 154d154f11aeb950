"""Profiles loaded by the handlers of frameworks, each in the ways in which it runs them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request
from flask import Flask, request

from stackauth_middleware import (
    AsyncVerifier,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    UserProfile,
    Verifier,
    aload_profile,
    load_profile,
)
from tests.frameworks.ask import Ask, Loop, ask_wsgi
from tests.frameworks.django_project import installed
from tests.network.upstream import Upstream

from django.http import HttpRequest, JsonResponse  # isort: skip - once the project above has its settings
from django.urls import path  # isort: skip

Handle = Callable[..., Any]
WRONG = {"error": "load_profile would block the event loop of this thread; use: await aload_profile(...)"}


def told(profile: UserProfile) -> dict[str, Any]:
    return {"name": profile.display_name}


# -- one app for each framework: /sync and /async do it right, /wrong does not ------------------------------

fastapi = FastAPI()


@fastapi.get("/sync")
def fastapi_sync(request: Request) -> dict[str, Any]:
    return told(load_profile(request, fresh=True))


@fastapi.get("/async")
async def fastapi_async(request: Request) -> dict[str, Any]:
    return told(await aload_profile(request, fresh=True))


@fastapi.get("/wrong")
async def fastapi_wrong(request: Request) -> dict[str, Any]:
    try:
        return told(load_profile(request))
    except RuntimeError as error:
        return {"error": str(error)}


flask = Flask(__name__)


@flask.get("/sync")
def flask_sync() -> dict[str, Any]:
    return told(load_profile(request, fresh=True))


@flask.get("/async")
async def flask_async() -> dict[str, Any]:
    return told(await aload_profile(request, fresh=True))


@flask.get("/wrong")
async def flask_wrong() -> dict[str, Any]:
    try:
        return told(load_profile(request))
    except RuntimeError as error:
        return {"error": str(error)}


def django_sync(request: HttpRequest) -> JsonResponse:
    return JsonResponse(told(load_profile(request, fresh=True)))


async def django_async(request: HttpRequest) -> JsonResponse:
    return JsonResponse(told(await aload_profile(request, fresh=True)))


async def django_wrong(request: HttpRequest) -> JsonResponse:
    try:
        return JsonResponse(told(load_profile(request)))
    except RuntimeError as error:
        return JsonResponse({"error": str(error)})


urlpatterns = [path("sync", django_sync), path("async", django_async), path("wrong", django_wrong)]


def django_asgi() -> Any:
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


def django_wsgi() -> Any:
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


# -- asking them --------------------------------------------------------------------------------------


@contextmanager
def under_asgi(app: Any, config: StackAuthConfig) -> Iterator[Handle]:
    """Yield the function that asks `app` behind its door, in one loop."""
    loop = Loop()
    door = StackAuthASGIMiddleware(app, config=config)
    try:
        yield lambda ask: loop.ask(door, ask)
    finally:
        loop._loop.run_until_complete(AsyncVerifier(config).aclose())
        loop.close()
        Verifier(config).close()


@contextmanager
def under_wsgi(app: Any, config: StackAuthConfig) -> Iterator[Handle]:
    door = StackAuthWSGIMiddleware(app, config=config)
    with Verifier(config):
        yield lambda ask: ask_wsgi(door, ask)


SITES: dict[str, tuple[Callable[[], Any], Any]] = {
    "fastapi": (lambda: fastapi, under_asgi),
    "flask": (lambda: flask.wsgi_app, under_wsgi),
    "django under asgi": (django_asgi, under_asgi),
    "django under wsgi": (django_wsgi, under_wsgi),
}


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest, up: Upstream) -> Iterator[Handle]:
    """Yield the function that asks one of the apps."""
    make, under = SITES[request.param]
    with installed(), _urls(), under(make(), up.config(mode="jwt", prefetch_keys=False)) as ask:
        yield ask


@contextmanager
def _urls() -> Iterator[None]:
    from django.test import override_settings

    with override_settings(ROOT_URLCONF=__name__):
        yield


@pytest.mark.parametrize("where", ["/sync", "/async"])
def test_a_handler_of_either_kind_loads_the_profile(where: str, site: Handle, up: Upstream) -> None:
    """Each profile over a handful of connections, whatever loops and threads the framework makes."""
    for number in range(20):
        token = up.token(up.local.users.create(display_name=f"Jane {number}"))
        answer = site(Ask(where, headers={"x-stack-access-token": token}))
        assert (answer.status, json.loads(answer.body)) == (200, {"name": f"Jane {number}"})
    assert len(up.calls) == 20
    assert up.connections <= 3


def test_a_coroutine_that_would_block_its_loop_is_told_what_to_use(site: Handle, up: Upstream) -> None:
    answer = site(Ask("/wrong", headers={"x-stack-access-token": up.token()}))
    assert json.loads(answer.body) == WRONG
    assert up.calls == []


def test_the_loop_turns_while_a_worker_thread_asks(up: Upstream) -> None:
    """A `def` endpoint that waits for Stack Auth keeps nobody else waiting."""
    turns = 0
    up.me = up.slowly(0.1)

    async def turning(scope: Any, receive: Any, send: Any) -> None:
        nonlocal turns
        answering = asyncio.ensure_future(fastapi(scope, receive, send))
        while not answering.done():
            turns += 1
            await asyncio.sleep(0.001)
        await answering

    with under_asgi(turning, up.config(mode="jwt", prefetch_keys=False)) as asked:
        assert asked(Ask("/sync", headers={"x-stack-access-token": up.token()})).status == 200
    assert turns > 10
