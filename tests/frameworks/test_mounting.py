"""Ways to mount the middleware beside those of the conformance suite, and frameworks that have no contrib module."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest
from litestar import Litestar, get
from litestar import Request as LitestarRequest
from litestar.middleware import DefineMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware, get_user
from stackauth_middleware.testing import LocalStackAuth

from .ask import Answer, Ask, Loop, ask_wsgi
from .django_project import IdViews, asgi_application, installed, wsgi_application
from .sites import new_sanic, start

RULES = (Rule("/healthz", "public"), Rule("/hello", "optional"))
PATHS = ("/healthz", "/hello", "/me")
JANE = "11111111-1111-4111-8111-111111111111"
Asking: TypeAlias = Callable[[Ask], Answer]


def id_of(obj: Any) -> dict[str, str | None]:
    """Return what each handler of these apps sends."""
    user = get_user(obj)
    return {"id": user.id if user else None}


@pytest.fixture
def auth(project: str) -> StackAuthConfig:
    return StackAuthConfig(rules=RULES)


async def id_handler(request: Request) -> JSONResponse:
    return JSONResponse(id_of(request))


def starlette_middleware_list(auth: StackAuthConfig) -> Any:
    routes = [Route(path, id_handler) for path in PATHS]
    return Starlette(routes=routes, middleware=[Middleware(StackAuthASGIMiddleware, config=auth)])


def starlette_wrapped_with_settings(auth: StackAuthConfig) -> Any:
    app = Starlette(routes=[Route(path, id_handler) for path in PATHS])
    return StackAuthASGIMiddleware(app, project_id=auth.project_id, rules=RULES)


def starlette_route_middleware(auth: StackAuthConfig) -> Any:
    """Only two of the routes are behind the middleware."""
    guarded = [Middleware(StackAuthASGIMiddleware, config=auth)]
    routes = [Route(path, id_handler, middleware=guarded) for path in ("/me", "/hello")]
    return Starlette(routes=[*routes, Route("/healthz", id_handler)])


def django_asgi(auth: StackAuthConfig) -> Any:
    return StackAuthASGIMiddleware(asgi_application(), auth)


def sanic(auth: StackAuthConfig) -> Any:
    from sanic.response import json as json_response

    app = new_sanic()

    async def handler(request: Any) -> Any:
        return json_response(id_of(request.transport.scope))

    for path in PATHS:
        app.add_route(handler, path, name=path[1:])
    start(app)
    return StackAuthASGIMiddleware(app, auth)


def blacksheep(auth: StackAuthConfig) -> Any:
    from blacksheep import Application
    from blacksheep import Request as BlackSheepRequest
    from blacksheep.server.responses import json as json_response
    from blacksheep.server.routing import Router

    app = Application(router=Router())

    async def handler(request: Any) -> Any:
        return json_response(id_of(request))

    handler.__annotations__ = {"request": BlackSheepRequest}
    for path in PATHS:
        app.router.add("GET", path, handler)
    start(app)
    return StackAuthASGIMiddleware(app, auth)


def django_wsgi(auth: StackAuthConfig) -> Any:
    return StackAuthWSGIMiddleware(wsgi_application(), auth)


def pyramid(auth: StackAuthConfig) -> Any:
    from pyramid.config import Configurator

    config = Configurator()
    for path in PATHS:
        config.add_route(path, path)
        config.add_view(id_of, route_name=path, renderer="json")
    return StackAuthWSGIMiddleware(config.make_wsgi_app(), auth)


def cherrypy(auth: StackAuthConfig) -> Any:
    import cherrypy

    @cherrypy.expose
    @cherrypy.tools.json_out()
    def handler() -> Any:
        return id_of(cherrypy.request.wsgi_environ)

    root: Any = type("Root", (), {})()
    root.healthz = root.hello = root.me = handler
    cherrypy.config.update({"environment": "embedded", "log.screen": False})
    return StackAuthWSGIMiddleware(cherrypy.Application(root), auth)


WSGI = [django_wsgi, pyramid, cherrypy]
MOUNTS = [
    starlette_middleware_list,
    starlette_wrapped_with_settings,
    starlette_route_middleware,
    django_asgi,
    sanic,
    blacksheep,
    *WSGI,
]


@contextmanager
def mounted(make: Callable[[StackAuthConfig], Any], auth: StackAuthConfig) -> Iterator[Asking]:
    """Yield a function that sends requests to an app."""
    loop = Loop()
    try:
        with installed(ROOT_URLCONF=IdViews):
            app = make(auth)
            yield (lambda ask: ask_wsgi(app, ask)) if make in WSGI else (lambda ask: loop.ask(app, ask))
    finally:
        loop.close()


@pytest.mark.parametrize("make", MOUNTS, ids=lambda make: make.__name__)
def test_rules_hold_and_handlers_get_the_user(make: Any, auth: StackAuthConfig, stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    with mounted(make, auth) as ask:
        for path, sent, status, user_id in (
            ("/me", headers, 200, JANE),
            ("/me", {"authorization": f"Bearer {stackauth.token()}"}, 200, JANE),
            ("/healthz", {}, 200, None),
            ("/hello", {}, 200, None),
            ("/hello", headers, 200, JANE),
        ):
            answer = ask(Ask(path, headers=sent))
            assert (answer.status, json.loads(answer.body)) == (status, {"id": user_id})
        assert stackauth.requests.count("jwks") == stackauth.requests.count() == 1
        for sent, code in (({}, "missing_token"), ({"x-stack-access-token": "garbage"}, "invalid_token")):
            refusal = ask(Ask("/me", headers=sent))
            assert (refusal.status, json.loads(refusal.body)["code"]) == (401, code)
            assert refusal.headers["www-authenticate"].startswith('Bearer realm="stack-auth"')
        with stackauth.down(cold=True):
            assert ask(Ask("/me", headers=headers)).status == 503
            assert ask(Ask("/healthz", headers=headers)).status == 200


def test_middlewares_of_one_config_share_keys(auth: StackAuthConfig, stackauth: LocalStackAuth) -> None:
    """Litestar makes a middleware for each route; a WSGI app beside it shares the keys as well."""
    made: list[Any] = []

    class Counted(StackAuthASGIMiddleware):
        def __init__(self, app: Any, config: StackAuthConfig) -> None:
            made.append(self)
            super().__init__(app, config)

    def route(number: int) -> Any:
        @get(f"/{number}", sync_to_thread=False, name=str(number))
        def handler(request: LitestarRequest[Any, Any, Any]) -> Any:
            return {"number": number, **id_of(request)}

        return handler

    def litestar(auth: StackAuthConfig) -> Any:
        return Litestar(
            [route(number) for number in range(5)],
            middleware=[DefineMiddleware(Counted, config=auth)],
            openapi_config=None,
            logging_config=None,
        )

    headers = stackauth.headers()
    with mounted(litestar, auth) as ask, mounted(pyramid, auth) as ask_pyramid:
        for number in range(5):
            assert json.loads(ask(Ask(f"/{number}", headers=headers)).body) == {"number": number, "id": JANE}
        assert json.loads(ask_pyramid(Ask("/me", headers=headers)).body) == {"id": JANE}
    assert len(made) >= 5
    assert stackauth.requests.count("jwks") == 1
