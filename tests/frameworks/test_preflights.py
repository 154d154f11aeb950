"""A CORS preflight runs no handler: every framework has handlers that do not tell it from a request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI, Request, Response

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware
from stackauth_middleware.testing import LocalStackAuth

from .ask import Answer, Ask, Loop, ask_wsgi

APP = "https://app.example.com"
PREFLIGHT = {"Origin": APP, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
ran: list[str] = []
"""The methods of the requests that handlers ran for."""


class Built(NamedTuple):
    """Apps whose ``/secret`` answers every method with a secret body and a cookie."""

    asgi: bool
    app: Any


def _starlette(mounted: bool) -> Built:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    class Endpoint:
        """An ASGI app, to which Starlette passes every method."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            ran.append(scope["method"])
            response = PlainTextResponse("secret")
            response.set_cookie("session", "secret")
            await response(scope, receive, send)

    route = Mount("/", app=Endpoint()) if mounted else Route("/secret", Endpoint())
    return Built(True, Starlette(routes=[route]))


def _fastapi() -> Built:
    app = FastAPI()

    @app.api_route("/secret", methods=["GET", "OPTIONS"])
    async def secret(request: Request, response: Response) -> str:
        ran.append(request.method)
        response.set_cookie("session", "secret")
        return "secret"

    return Built(True, app)


def _litestar() -> Built:
    from litestar import Litestar, asgi

    @asgi("/secret", is_mount=True, copy_scope=True)
    async def secret(scope: Any, receive: Any, send: Any) -> None:
        ran.append(scope["method"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"set-cookie", b"session=secret")]})
        await send({"type": "http.response.body", "body": b"secret"})

    return Built(True, Litestar([secret], openapi_config=None, logging_config=None))


def _falcon(asgi: bool) -> Built:
    import falcon
    import falcon.asgi

    def answer(req: Any, resp: Any) -> None:
        ran.append(req.method)
        resp.set_cookie("session", "secret")
        resp.text = "secret"

    async def asink(req: Any, resp: Any, **params: Any) -> None:
        answer(req, resp)

    def sink(req: Any, resp: Any, **params: Any) -> None:
        answer(req, resp)

    app: Any = falcon.asgi.App() if asgi else falcon.App()
    app.add_sink(asink if asgi else sink, "/secret")
    return Built(asgi, app)


def _bottle() -> Built:
    import bottle

    app = bottle.Bottle()

    @app.route("/secret", "ANY")  # type: ignore[untyped-decorator]
    def secret() -> str:
        ran.append(bottle.request.method)
        bottle.response.set_cookie("session", "secret")
        return "secret"

    return Built(False, app)


def _flask() -> Built:
    import flask

    app = flask.Flask(__name__)

    @app.route("/secret", methods=["GET", "OPTIONS"])
    def secret() -> Any:
        ran.append(flask.request.method)
        response = flask.make_response("secret")
        response.set_cookie("session", "secret")
        return response

    return Built(False, app)


def _quart() -> Built:
    import quart

    app = quart.Quart(__name__)

    @app.route("/secret", methods=["GET", "OPTIONS"])
    async def secret() -> Any:
        ran.append(quart.request.method)
        response = await quart.make_response("secret")
        response.set_cookie("session", "secret")
        return response

    return Built(True, app)


def _django_views() -> dict[str, Any]:
    from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
    from django.views import View

    def answer(request: HttpRequest) -> HttpResponse:
        ran.append(request.method or "")
        response = HttpResponse("secret")
        response.set_cookie("session", "secret")
        return response

    async def aview(request: HttpRequest) -> HttpResponse:
        return answer(request)

    class ClassView(View):
        def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            return answer(request)

    def stream(request: HttpRequest) -> StreamingHttpResponse:
        ran.append(request.method or "")
        response = StreamingHttpResponse(iter(["secret"]))
        response.set_cookie("session", "secret")
        return response

    return {"function": answer, "async function": aview, "class": ClassView.as_view(), "stream": stream}


FRAMEWORKS: dict[str, Callable[[], Built]] = {
    "starlette endpoint": lambda: _starlette(mounted=False),
    "starlette mount": lambda: _starlette(mounted=True),
    "fastapi": _fastapi,
    "litestar": _litestar,
    "falcon wsgi": lambda: _falcon(asgi=False),
    "falcon asgi": lambda: _falcon(asgi=True),
    "bottle": _bottle,
    "flask": _flask,
    "quart": _quart,
}
DJANGO = [
    (view, asgi, own)
    for view in ("function", "async function", "class", "stream")
    for asgi in (False, True)
    for own in (False, True)
]


@pytest.fixture
def loop() -> Iterator[Loop]:
    ran.clear()
    loop = Loop()
    yield loop
    loop.close()


Asking = Callable[..., Any]


@pytest.fixture(params=[*FRAMEWORKS, *DJANGO], ids=str)
def guarded(request: pytest.FixtureRequest, project: str, stackauth: LocalStackAuth, loop: Loop) -> Iterator[Asking]:
    """Ask an app of a framework behind a middleware with the settings given; Django's too behind its own."""
    if request.param in FRAMEWORKS:
        built = FRAMEWORKS[request.param]()
        middleware: Any = StackAuthASGIMiddleware if built.asgi else StackAuthWSGIMiddleware

        def ask(ask: Ask, **settings: Any) -> Answer:
            app = middleware(built.app, StackAuthConfig(**settings))
            return loop.ask(app, ask) if built.asgi else ask_wsgi(app, ask)

        yield ask
        return

    from . import django_project

    view, asgi, own = request.param

    def ask_django(ask: Ask, **settings: Any) -> Answer:
        from django.urls import path

        config = StackAuthConfig(**settings)
        ours = ["stackauth_middleware.contrib.django.StackAuthMiddleware"] if own else []
        urls = (path("secret", _django_views()[view]),)
        with django_project.installed(ROOT_URLCONF=urls, MIDDLEWARE=ours, STACK_AUTH=config):
            application: Any
            if asgi:
                from django.core.handlers.asgi import ASGIHandler

                application = ASGIHandler()
            else:
                from django.core.handlers.wsgi import WSGIHandler

                application = WSGIHandler()
            if not own:
                middleware: Any = StackAuthASGIMiddleware if asgi else StackAuthWSGIMiddleware
                application = middleware(application, config)
            return loop.ask(application, ask) if asgi else ask_wsgi(application, ask)

    yield ask_django


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators:Warning")
def test_preflight_runs_no_handler_and_gets_the_documented_answer(
    guarded: Asking, stackauth: LocalStackAuth, caplog: pytest.LogCaptureFixture
) -> None:
    preflight = Ask("/secret", "OPTIONS", PREFLIGHT)

    refused = guarded(preflight)
    assert (refused.status, refused.body) == (401, b'{"error": "Access token required", "code": "missing_token"}')
    assert [record for record in caplog.records if record.levelno == logging.WARNING and APP in record.getMessage()]

    answered = guarded(preflight, cors_origins=["https://*.example.com"], cors_credentials=True)
    assert (answered.status, answered.body) == (204, b"")
    assert answered.headers == {
        "access-control-allow-origin": APP,
        "access-control-allow-methods": "GET",
        "access-control-allow-headers": "authorization",
        "access-control-allow-credentials": "true",
        "access-control-max-age": "600",
        "vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }
    assert guarded(preflight, cors_origins=["https://other.example.com"]).status == 401
    assert ran == []

    passed = guarded(Ask("/secret", "OPTIONS", PREFLIGHT | stackauth.headers()), pass_preflights=True)
    assert (passed.status, passed.body) == (200, b"")
    assert passed.headers.keys() <= {"content-length", "allow", "vary"}
    assert passed.headers["content-length"] == "0"
    assert ran == ["OPTIONS"], "which is what the name of the setting says"
    assert stackauth.requests.count("jwks") == 0

    answer = guarded(Ask("/secret", "GET", stackauth.headers()))
    assert (answer.status, b"secret" in answer.body) == (200, True)
    assert ran == ["OPTIONS", "GET"]
