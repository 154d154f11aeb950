"""Mounting on each framework, in each form that its users write, and asking by the framework's own test client.

The network's place is taken by the ``stackauth`` fixture, as in the test suite of an app.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import pytest
from fastapi import FastAPI, Request
from litestar import Litestar, get
from litestar import Request as LitestarRequest

from stackauth_middleware import (
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    get_user,
    require_user,
)
from stackauth_middleware.testing import LocalStackAuth

from .django_project import Telling, installed

RULES = (Rule("/healthz", "public"), Rule("/hello", "optional"))


class Answer(NamedTuple):
    status: int
    headers: Any
    json: Any


Ask: TypeAlias = Callable[[str, Mapping[str, str]], Answer]


def told(obj: Any) -> dict[str, Any]:
    """Return what each handler of these apps answers."""
    user = get_user(obj)
    return {"id": user.id if user else None}


@pytest.fixture
def auth(project: str) -> StackAuthConfig:
    return StackAuthConfig(rules=RULES)


# -- apps ---------------------------------------------------------------------------------------------


def _starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def answer(request: Any) -> JSONResponse:
        return JSONResponse(told(request))

    return Starlette(routes=[Route(path, answer) for path in ("/healthz", "/hello", "/me")])


def _by_starlette_client(app: Any) -> Ask:
    from starlette.testclient import TestClient

    client = TestClient(app)

    def ask(path: str, headers: Mapping[str, str]) -> Answer:
        response = client.get(path, headers=dict(headers))
        return Answer(response.status_code, response.headers, response.json())

    return ask


@contextmanager
def starlette_add_middleware(auth: StackAuthConfig) -> Iterator[Ask]:
    app = _starlette_app()
    app.add_middleware(StackAuthASGIMiddleware, config=auth)
    yield _by_starlette_client(app)


@contextmanager
def starlette_middleware_list(auth: StackAuthConfig) -> Iterator[Ask]:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware

    inner = _starlette_app()
    yield _by_starlette_client(
        Starlette(routes=inner.routes, middleware=[Middleware(StackAuthASGIMiddleware, config=auth)])
    )


@contextmanager
def starlette_wrapped_with_settings(auth: StackAuthConfig) -> Iterator[Ask]:
    yield _by_starlette_client(StackAuthASGIMiddleware(_starlette_app(), project_id=auth.project_id, rules=RULES))


@contextmanager
def starlette_route_middleware(auth: StackAuthConfig) -> Iterator[Ask]:
    """A door on one route alone; the rest of the app is not guarded by anything."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def answer(request: Any) -> JSONResponse:
        return JSONResponse(told(request))

    guarded = [Middleware(StackAuthASGIMiddleware, config=auth)]
    routes = [Route(path, answer, middleware=guarded) for path in ("/me", "/hello")]
    yield _by_starlette_client(Starlette(routes=[*routes, Route("/healthz", answer)]))


@contextmanager
def fastapi_add_middleware(auth: StackAuthConfig) -> Iterator[Ask]:
    app = FastAPI()
    app.add_middleware(StackAuthASGIMiddleware, config=auth)

    @app.get("/healthz")
    @app.get("/hello")
    @app.get("/me")
    def answer(request: Request) -> Any:
        return told(request)

    yield _by_starlette_client(app)


@contextmanager
def litestar_define_middleware(auth: StackAuthConfig) -> Iterator[Ask]:
    from litestar.middleware import DefineMiddleware
    from litestar.testing import TestClient

    @get(["/healthz", "/hello", "/me"], sync_to_thread=False)
    def answer(request: LitestarRequest[Any, Any, Any]) -> Any:
        return told(request)

    app = Litestar(
        [answer],
        middleware=[DefineMiddleware(StackAuthASGIMiddleware, config=auth)],
        openapi_config=None,
        logging_config=None,
    )
    with TestClient(app) as client:

        def ask(path: str, headers: Mapping[str, str]) -> Answer:
            response = client.get(path, headers=dict(headers))
            return Answer(response.status_code, response.headers, response.json())

        yield ask


@contextmanager
def quart_attribute(auth: StackAuthConfig) -> Iterator[Ask]:
    from quart import Quart, request

    app = Quart(__name__)
    app.asgi_app = StackAuthASGIMiddleware(app.asgi_app, auth)  # type: ignore[method-assign]

    @app.get("/healthz")
    @app.get("/hello")
    @app.get("/me")
    async def answer() -> Any:
        return told(request)

    async def asking(path: str, headers: Mapping[str, str]) -> Answer:
        response = await app.test_client().get(path, headers=dict(headers))
        return Answer(response.status_code, response.headers, await response.get_json())

    yield lambda path, headers: asyncio.run(asking(path, headers))


@contextmanager
def falcon_asgi_wrapped(auth: StackAuthConfig) -> Iterator[Ask]:
    import falcon.asgi

    class Resource:
        async def on_get(self, req: Any, resp: Any) -> None:
            resp.media = told(req)

    app = falcon.asgi.App()
    for path in ("/healthz", "/hello", "/me"):
        app.add_route(path, Resource())
    yield _by_falcon_client(StackAuthASGIMiddleware(app, auth))


@contextmanager
def falcon_wsgi_wrapped(auth: StackAuthConfig) -> Iterator[Ask]:
    import falcon

    class Resource:
        def on_get(self, req: Any, resp: Any) -> None:
            resp.media = told(req)

    app = falcon.App()
    for path in ("/healthz", "/hello", "/me"):
        app.add_route(path, Resource())
    yield _by_falcon_client(StackAuthWSGIMiddleware(app, auth))


def _by_falcon_client(app: Any) -> Ask:
    from falcon.testing import TestClient

    client = TestClient(app)

    def ask(path: str, headers: Mapping[str, str]) -> Answer:
        response = client.simulate_get(path, headers=dict(headers))
        return Answer(response.status_code, response.headers, response.json)

    return ask


@contextmanager
def flask_attribute(auth: StackAuthConfig) -> Iterator[Ask]:
    from flask import Flask, request

    app = Flask(__name__)
    app.wsgi_app = StackAuthWSGIMiddleware(app.wsgi_app, config=auth)  # type: ignore[method-assign]

    @app.get("/healthz")
    @app.get("/hello")
    @app.get("/me")
    def answer() -> Any:
        return told(request)

    client = app.test_client()

    def ask(path: str, headers: Mapping[str, str]) -> Answer:
        response = client.get(path, headers=dict(headers))
        return Answer(response.status_code, response.headers, response.get_json())

    yield ask


@contextmanager
def bottle_application(auth: StackAuthConfig) -> Iterator[Ask]:
    from bottle import Bottle, request

    app = Bottle()
    for path in ("/healthz", "/hello", "/me"):
        app.route(path, callback=lambda: told(request))
    yield _by_werkzeug_client(StackAuthWSGIMiddleware(app, auth))


def _by_werkzeug_client(app: Any) -> Ask:
    from werkzeug.test import Client

    client = Client(app)

    def ask(path: str, headers: Mapping[str, str]) -> Answer:
        response = client.get(path, headers=dict(headers))
        return Answer(response.status_code, response.headers, response.get_json())

    return ask


@contextmanager
def django_asgi_application(auth: StackAuthConfig) -> Iterator[Ask]:
    """Django's own test client never passes what wraps the application; for that there is `contrib.django`."""
    import httpx

    from .django_project import asgi_application

    application = StackAuthASGIMiddleware(asgi_application(), auth)

    async def asking(path: str, headers: Mapping[str, str]) -> Answer:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            response = await client.get(path, headers=dict(headers))
        return Answer(response.status_code, response.headers, json.loads(response.content))

    with installed(ROOT_URLCONF=Telling):
        yield lambda path, headers: asyncio.run(asking(path, headers))


@contextmanager
def django_wsgi_application(auth: StackAuthConfig) -> Iterator[Ask]:
    from .django_project import wsgi_application

    with installed(ROOT_URLCONF=Telling):
        yield _by_werkzeug_client(StackAuthWSGIMiddleware(wsgi_application(), auth))


@contextmanager
def sanic_application(auth: StackAuthConfig) -> Iterator[Ask]:
    from sanic.response import json as answered

    from .sites import new_sanic

    app = new_sanic()

    async def answer(request: Any) -> Any:
        return answered(told(request.transport.scope))

    for path in ("/healthz", "/hello", "/me"):
        app.add_route(answer, path, name=path[1:])
    yield _by_asgi_client(StackAuthASGIMiddleware(app, auth))


@contextmanager
def blacksheep_application(auth: StackAuthConfig) -> Iterator[Ask]:
    from blacksheep import Application
    from blacksheep import Request as BlackSheepRequest
    from blacksheep.server.responses import json as answered
    from blacksheep.server.routing import Router

    app = Application(router=Router())

    async def answer(request: Any) -> Any:
        return answered(told(request))

    answer.__annotations__ = {"request": BlackSheepRequest}
    for path in ("/healthz", "/hello", "/me"):
        app.router.add("GET", path, answer)
    yield _by_asgi_client(StackAuthASGIMiddleware(app, auth))


def _by_asgi_client(app: Any) -> Ask:
    """Return a client that sends each request within a lifespan: Sanic and BlackSheep need one."""
    import httpx
    from asgi_lifespan import LifespanManager

    async def asking(path: str, headers: Mapping[str, str]) -> Answer:
        async with LifespanManager(app) as manager:
            transport = httpx.ASGITransport(manager.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
                response = await client.get(path, headers=dict(headers))
        return Answer(response.status_code, response.headers, json.loads(response.content))

    return lambda path, headers: asyncio.run(asking(path, headers))


@contextmanager
def pyramid_application(auth: StackAuthConfig) -> Iterator[Ask]:
    from pyramid.config import Configurator

    config = Configurator()
    for path in ("/healthz", "/hello", "/me"):
        config.add_route(path, path)
        config.add_view(told, route_name=path, renderer="json")
    yield _by_werkzeug_client(StackAuthWSGIMiddleware(config.make_wsgi_app(), auth))


@contextmanager
def cherrypy_application(auth: StackAuthConfig) -> Iterator[Ask]:
    import cherrypy

    class Root:
        pass

    @cherrypy.expose
    @cherrypy.tools.json_out()
    def answer() -> Any:
        return told(cherrypy.request.wsgi_environ)

    root: Any = Root()
    root.healthz = root.hello = root.me = answer
    cherrypy.config.update({"environment": "embedded", "log.screen": False})
    yield _by_werkzeug_client(StackAuthWSGIMiddleware(cherrypy.Application(root), auth))


FORMS = [
    starlette_add_middleware,
    starlette_middleware_list,
    starlette_wrapped_with_settings,
    starlette_route_middleware,
    fastapi_add_middleware,
    litestar_define_middleware,
    quart_attribute,
    falcon_asgi_wrapped,
    falcon_wsgi_wrapped,
    flask_attribute,
    bottle_application,
    django_asgi_application,
    django_wsgi_application,
    sanic_application,
    blacksheep_application,
    pyramid_application,
    cherrypy_application,
]


# -- tests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_who_gets_in_and_on_one_fetch_of_the_keys(form: Any, auth: StackAuthConfig, stackauth: LocalStackAuth) -> None:
    """However many doors a framework makes of one config, the keys are asked for once for each user type."""
    with form(auth) as ask:
        token = stackauth.token()
        for headers in (
            {"X-Stack-Access-Token": token},
            {"x-hexclave-access-token": token},
            {"Authorization": f"Bearer {token}"},
        ):
            answer = ask("/me", headers)
            assert (answer.status, answer.json) == (200, {"id": "11111111-1111-4111-8111-111111111111"})
            assert "www-authenticate" not in answer.headers
            assert "cache-control" not in answer.headers
        assert stackauth.requests.count("jwks") == 1

        assert ask("/healthz", {}).status == 200
        assert ask("/hello", {})[::2] == (200, {"id": None})
        assert ask("/hello", stackauth.headers()).json["id"] is not None
        assert stackauth.requests.count() == 1

        for headers, status, code, challenge in (
            ({}, 401, "missing_token", None),
            ({"x-stack-access-token": "garbage"}, 401, "invalid_token", "invalid_token"),
            (stackauth.headers(key="foreign"), 401, "invalid_token", "invalid_token"),
            (stackauth.headers(expires_in=-60), 401, "expired_token", "invalid_token"),
            (stackauth.headers(user_type="anonymous"), 401, "anonymous_not_allowed", "invalid_token"),
            (stackauth.headers(user_type="restricted"), 403, "restricted_not_allowed", "insufficient_scope"),
            ({"x-stack-auth": "{"}, 400, "invalid_request", "invalid_request"),
        ):
            refused = ask("/me", headers)
            assert (refused.status, refused.json["code"]) == (status, code)
            assert refused.headers["www-authenticate"] == 'Bearer realm="stack-auth"' + (
                f', error="{challenge}"' if challenge else ""
            )
            assert refused.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_stack_auth_down(form: Any, auth: StackAuthConfig, stackauth: LocalStackAuth) -> None:
    """Never the client's 401; what is public stays up, and what is optional goes on as nobody."""
    with form(auth) as ask, stackauth.down():
        answer = ask("/me", stackauth.headers())
        assert (answer.status, answer.json["code"]) == (503, "auth_server_error")
        assert int(answer.headers["retry-after"]) >= 1
        assert ask("/healthz", stackauth.headers()).status == 200
        assert ask("/hello", stackauth.headers())[::2] == (200, {"id": None})


def test_litestar_makes_many_doors_of_one_config(
    auth: StackAuthConfig, stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each route: none may have a key set of its own."""
    from litestar.middleware import DefineMiddleware
    from litestar.testing import TestClient

    made: list[Any] = []

    class Counted(StackAuthASGIMiddleware):
        def __init__(self, app: Any, config: StackAuthConfig) -> None:
            made.append(self)
            super().__init__(app, config)

    def route(number: int) -> Any:
        @get(f"/{number}", sync_to_thread=False, name=str(number))
        def answer(request: LitestarRequest[Any, Any, Any]) -> Any:
            return {"number": number, **told(request)}

        return answer

    app = Litestar(
        [route(number) for number in range(5)],
        middleware=[DefineMiddleware(Counted, config=auth)],
        openapi_config=None,
        logging_config=None,
    )
    with TestClient(app) as client:
        headers = stackauth.headers()
        answers = [client.get(f"/{number}", headers=headers) for number in range(5)]
    assert [answer.json()["number"] for answer in answers] == [0, 1, 2, 3, 4]
    assert len(made) >= 5
    assert stackauth.requests.count("jwks") == 1


def test_two_frameworks_under_one_config(auth: StackAuthConfig, stackauth: LocalStackAuth) -> None:
    """A Flask app beside a Starlette app, an ASGI door and a WSGI door: one key set."""
    with flask_attribute(auth) as flask, starlette_add_middleware(auth) as starlette:
        headers = stackauth.headers()
        assert flask("/me", headers) != starlette("/me", headers)
        assert flask("/me", headers).json == starlette("/me", headers).json
        assert stackauth.requests.count("jwks") == 1


def test_the_user_is_where_each_framework_looks(project: str, stackauth: LocalStackAuth) -> None:
    """``request.user`` in Starlette's form, only where it is asked for."""
    from starlette.applications import Starlette
    from starlette.authentication import requires
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    @requires("authenticated")
    async def guarded(request: Any) -> JSONResponse:
        return JSONResponse([request.user.identity, request.user.is_authenticated, request.state.user.id])

    async def anybody(request: Any) -> JSONResponse:
        return JSONResponse([bool(request.user), request.user.is_authenticated, request.state.user])

    app = Starlette(routes=[Route("/guarded", guarded), Route("/anybody", anybody)])
    app.add_middleware(StackAuthASGIMiddleware, request_user=True, default_access="optional")
    client = TestClient(app)
    headers = stackauth.headers()
    user_id = "11111111-1111-4111-8111-111111111111"
    assert client.get("/guarded", headers=headers).json() == [user_id, True, user_id]
    assert client.get("/guarded").status_code == 403
    assert client.get("/anybody").json() == [False, False, None]


def test_a_door_that_is_not_there_is_told_of(project: str) -> None:
    """`require_user` in an app that nobody wrapped does not take it for nobody being there."""
    from starlette.applications import Starlette
    from starlette.routing import Route
    from starlette.testclient import TestClient

    from stackauth_middleware import ConfigError

    async def me(request: Any) -> Any:
        return require_user(request)

    with pytest.raises(ConfigError, match="no Stack Auth middleware saw this request"):
        TestClient(Starlette(routes=[Route("/me", me)])).get("/me")
