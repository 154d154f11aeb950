"""What the app sends, raises and does afterwards is its own: nothing is held back, wrapped, or added to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from stackauth_middleware import (
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    get_user,
    require_user,
)
from stackauth_middleware.testing import LocalStackAuth

from .ask import Answer, Ask, Loop, ask_wsgi, environ_of, scope_of

JANE = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


# -- streaming ----------------------------------------------------------------------------------------


def test_a_stream_passes_chunk_by_chunk_under_asgi(auth: StackAuthConfig, stackauth: LocalStackAuth) -> None:
    """A chunk is sent while the handler that makes the next one still waits to be told to."""
    app = FastAPI()
    sent: list[Any] = []

    @app.get("/stream")
    async def stream(request: Request) -> StreamingResponse:
        go_on = request.state.go_on

        async def chunks() -> Any:
            yield b"one"
            await go_on.wait()
            yield require_user(request).id.encode()

        return StreamingResponse(chunks(), headers={"cache-control": "max-age=60"})

    async def drive() -> None:
        go_on = asyncio.Event()
        scope = scope_of(Ask("/stream", headers=stackauth.headers())) | {"state": {"go_on": go_on}}

        async def receive() -> Any:
            await asyncio.sleep(60)

        async def send(message: Any) -> None:
            sent.append(message)
            if message.get("body") == b"one":
                go_on.set()

        await asyncio.wait_for(StackAuthASGIMiddleware(app, auth)(scope, receive, send), 5)

    asyncio.run(drive())
    assert [message.get("body") for message in sent] == [None, b"one", JANE.encode(), b""]
    assert dict(sent[0]["headers"])[b"cache-control"] == b"max-age=60"
    assert b"www-authenticate" not in dict(sent[0]["headers"])


def test_the_apps_own_iterable_comes_back_under_wsgi(auth: StackAuthConfig, stackauth: LocalStackAuth) -> None:
    """Flask streams, and closes what it opened, by an object of its own."""
    from flask import Flask, Response, request, stream_with_context

    app = Flask(__name__)
    returned: list[Any] = []
    closed: list[str] = []

    @app.get("/stream")
    def stream() -> Response:
        def chunks() -> Iterator[str]:
            yield "one"
            yield require_user(request).id

        response = Response(stream_with_context(chunks()))
        response.call_on_close(lambda: closed.append("response"))
        return response

    def kept(environ: Any, start_response: Any) -> Any:
        returned.append(app(environ, start_response))
        return returned[0]

    environ = environ_of(Ask("/stream", headers=stackauth.headers()))
    chunks = StackAuthWSGIMiddleware(kept, auth)(environ, lambda *_: None)
    assert chunks is returned[0]
    assert list(chunks) == [b"one", JANE.encode()]
    assert closed == []
    chunks.close()
    assert closed == ["response"]


# -- afterwards ---------------------------------------------------------------------------------------


def test_a_background_task_runs_after_the_answer_and_knows_the_user(
    auth: StackAuthConfig, stackauth: LocalStackAuth, loop: Loop
) -> None:
    app = FastAPI()
    done: list[str] = []

    def log_it(request: Request) -> None:
        done.append(require_user(request).id)

    @app.get("/me")
    async def me(request: Request, tasks: BackgroundTasks) -> str:
        tasks.add_task(log_it, request)
        return f"{len(done)} done"

    answer = loop.ask(StackAuthASGIMiddleware(app, auth), Ask("/me", headers=stackauth.headers()))
    assert answer.body == b'"0 done"'
    assert done == [JANE]


# -- errors of the app's own --------------------------------------------------------------------------


class TeapotError(Exception):
    pass


def _fastapi() -> Any:
    app = FastAPI()

    @app.exception_handler(TeapotError)
    async def teapot(request: Request, error: TeapotError) -> JSONResponse:
        return JSONResponse({"teapot": str(error)}, 418)

    @app.exception_handler(401)
    async def unauthorized(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"own": error.detail}, 401)

    @app.get("/teapot")
    async def raises() -> None:
        raise TeapotError("short and stout")

    @app.get("/own-401")
    async def own() -> None:
        raise HTTPException(401, "the app's own words")

    @app.get("/boom")
    async def boom() -> None:
        raise ZeroDivisionError("unhandled")

    return app


def _flask() -> Any:
    from flask import Flask, abort, jsonify

    app = Flask(__name__)
    app.testing = True  # or Flask makes a 500 of what it does not know

    @app.errorhandler(TeapotError)
    def teapot(error: TeapotError) -> Any:
        return jsonify(teapot=str(error)), 418

    @app.errorhandler(401)
    def unauthorized(error: Any) -> Any:
        return jsonify(own=error.description), 401

    @app.get("/teapot")
    def raises() -> Any:
        raise TeapotError("short and stout")

    @app.get("/own-401")
    def own() -> Any:
        abort(401, "the app's own words")

    @app.get("/boom")
    def boom() -> Any:
        raise ZeroDivisionError("unhandled")

    return app


@pytest.fixture(params=["fastapi", "flask"])
def ask(request: pytest.FixtureRequest, auth: StackAuthConfig, loop: Loop) -> Any:
    """Return what asks an app that has exception handlers, through a door."""
    if request.param == "fastapi":
        guarded = StackAuthASGIMiddleware(_fastapi(), auth)
        return lambda ask: loop.ask(guarded, ask)
    guarded_too = StackAuthWSGIMiddleware(_flask(), auth)
    return lambda ask: ask_wsgi(guarded_too, ask)


def test_the_apps_exception_handlers_see_what_the_app_raises(ask: Any, stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    answer: Answer = ask(Ask("/teapot", headers=headers))
    assert answer.status == 418
    assert b"short and stout" in answer.body
    answer = ask(Ask("/own-401", headers=headers))
    assert answer.status == 401
    assert b"the app's own words" in answer.body
    assert "www-authenticate" not in answer.headers


def test_an_exception_that_nobody_handles_reaches_the_server(ask: Any, stackauth: LocalStackAuth) -> None:
    with pytest.raises(ZeroDivisionError, match="unhandled"):
        ask(Ask("/boom", headers=stackauth.headers()))


def test_a_refusal_is_not_for_the_apps_handlers(ask: Any, stackauth: LocalStackAuth) -> None:
    """It never reaches the app: neither its handler of 401 nor one of its routes."""
    answer: Answer = ask(Ask("/own-401"))
    assert (answer.status, answer.body) == (401, b'{"error": "Access token required", "code": "missing_token"}')


def test_nobody_is_there_on_a_public_route_even_with_a_token(
    project: str, stackauth: LocalStackAuth, loop: Loop
) -> None:
    """No token is looked at there; and what stood in the scope under our name before is gone."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((get_user(scope), scope["state"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def planting(scope: Any, receive: Any, send: Any) -> None:
        scope["stackauth.user"] = scope["state"]["user"] = "root"
        await guarded(scope, receive, send)

    guarded = StackAuthASGIMiddleware(app, StackAuthConfig(rules=[Rule("/healthz", "public")]))
    assert loop.ask(planting, Ask("/healthz", headers=stackauth.headers())).status == 204
    assert seen == [(None, {"user": None})]
