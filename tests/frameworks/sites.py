"""The same site in each framework. Every handler records the route that it belongs to.

`ROUTES` has the routes; each builder registers them in the syntax of its framework.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

_numbers = itertools.count()

ran: list[str] = []
"""The routes whose handlers ran, in order. One list: Django's URL configuration is global."""

ROUTES: dict[str, str] = {
    "/": "/",
    "/public": "/public",
    "/public/{name}": "/public/any",
    "/healthz": "/healthz",
    "/hello": "/hello",
    "/admin": "/admin",
    "/api/admin": "/api/admin",
    "/api/{name}": "/api/any",
    "/users/{name}": "/users/any",
    "/users/{name}/edit": "/users/any/edit",
    "/r1": "/r1",
}
"""Each route as a template, with a plain path that it matches. Each takes GET."""

READ, WRITE = "GET /posts", "POST /posts"
"""One path, two handlers: reading is public, writing is not."""


class Site(NamedTuple):
    name: str
    asgi: bool
    app: Any


def _angled(template: str) -> str:
    return template.replace("{", "<").replace("}", ">")


def starlette_site() -> Site:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    def handler(name: str) -> Callable[[Any], Any]:
        async def handle(request: Any) -> PlainTextResponse:
            ran.append(name)
            return PlainTextResponse(name)

        return handle

    routes = [Route(template, handler(template)) for template in ROUTES]
    routes += [Route("/posts", handler(READ)), Route("/posts", handler(WRITE), methods=["POST"])]
    return Site("starlette", True, Starlette(routes=routes))


def starlette_mount(app: Any) -> Any:
    """Mount `app` at ``/sub``: what the mount adds to the root path is added to the server's."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/sub", app)])


def litestar_mount(app: Any) -> Any:
    """Mount `app` at ``/sub`` as Litestar does: the path is cut, and the root path stays as it was."""
    from litestar import Litestar, asgi

    @asgi("/sub", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return Litestar([mounted], openapi_config=None, logging_config=None)


def fastapi_site(root_path: str = "") -> Site:
    from fastapi import FastAPI

    def handler(name: str, params: bool) -> Callable[..., Any]:
        if not params:

            async def handle() -> str:
                ran.append(name)
                return name

            return handle

        async def handle_named(name_: str = "") -> str:
            ran.append(name)
            return name

        return handle_named

    app = FastAPI(root_path=root_path, openapi_url=None)
    for template in ROUTES:
        app.get(template)(handler(template, "{" in template))
    app.get("/posts")(handler(READ, False))
    app.post("/posts")(handler(WRITE, False))
    return Site("fastapi", True, app)


def litestar_site() -> Site:
    from litestar import Litestar, get, post

    def handler(template: str) -> Any:
        @get(template.replace("{name}", "{name:str}"), name=template, sync_to_thread=False)
        def handle() -> str:
            ran.append(template)
            return template

        return handle

    @get("/posts", sync_to_thread=False)
    def read() -> str:
        ran.append(READ)
        return READ

    @post("/posts", sync_to_thread=False)
    def write() -> str:
        ran.append(WRITE)
        return WRITE

    return Site(
        "litestar", True, Litestar([*map(handler, ROUTES), read, write], openapi_config=None, logging_config=None)
    )


def _pallets(app: Any, is_async: bool) -> Any:
    def handler(name: str) -> Callable[..., Any]:
        def handle(**params: str) -> str:
            ran.append(name)
            return name

        async def ahandle(**params: str) -> str:
            return handle(**params)

        return ahandle if is_async else handle

    for template in ROUTES:
        app.add_url_rule(_angled(template), template, handler(template), methods=["GET"])
    app.add_url_rule("/posts", READ, handler(READ), methods=["GET"])
    app.add_url_rule("/posts", WRITE, handler(WRITE), methods=["POST"])
    return app


def quart_site() -> Site:
    from quart import Quart

    return Site("quart", True, _pallets(Quart(__name__, static_folder=None), True))


def flask_site() -> Site:
    from flask import Flask

    return Site("flask", False, _pallets(Flask(__name__, static_folder=None), False))


def _falcon(app: Any, is_async: bool, root_path: str = "") -> Any:
    class Resource:
        def __init__(self, get: str, post: str = "") -> None:
            self.names = {"GET": get, "POST": post}

    class Plain(Resource):
        def on_get(self, req: Any, resp: Any, **params: str) -> None:
            ran.append(self.names["GET"])

        def on_post(self, req: Any, resp: Any, **params: str) -> None:
            ran.append(self.names["POST"])

    class Async(Resource):
        async def on_get(self, req: Any, resp: Any, **params: str) -> None:
            ran.append(self.names["GET"])

        async def on_post(self, req: Any, resp: Any, **params: str) -> None:
            ran.append(self.names["POST"])

    made: Any = Async if is_async else Plain
    for template in ROUTES:
        app.add_route(root_path + template, made(template))
    app.add_route(f"{root_path}/posts", made(READ, WRITE))
    return app


def falcon_asgi_site(root_path: str = "") -> Site:
    """Falcon never takes the root path off under ASGI: its routes are registered with it."""
    import falcon.asgi

    return Site("falcon-asgi", True, _falcon(falcon.asgi.App(), True, root_path))


def falcon_wsgi_site() -> Site:
    import falcon

    return Site("falcon-wsgi", False, _falcon(falcon.App(), False))


def bottle_site() -> Site:
    from bottle import Bottle

    def handler(name: str) -> Callable[..., str]:
        def handle(**params: str) -> str:
            ran.append(name)
            return name

        return handle

    app = Bottle()
    for template in ROUTES:
        app.route(_angled(template), "GET", handler(template))
    app.route("/posts", "GET", handler(READ))
    app.route("/posts", "POST", handler(WRITE))
    return Site("bottle", False, app)


def django_asgi_site() -> Site:
    from .django_project import asgi_application

    return Site("django-asgi", True, asgi_application())


def django_wsgi_site() -> Site:
    from .django_project import wsgi_application

    return Site("django-wsgi", False, wsgi_application())


def new_sanic() -> Any:
    """Return a Sanic app under a name of its own, which Sanic wants of every app in a process."""
    from sanic import Sanic

    Sanic.test_mode = True
    return Sanic(f"site{next(_numbers)}", configure_logging=False)


def sanic_site(root_path: str = "", routes: Iterable[str] = ROUTES) -> Site:
    """Sanic never takes the root path off either."""
    from sanic.response import text

    app = new_sanic()

    def handler(name: str) -> Callable[..., Any]:
        async def handle(request: Any, **params: str) -> Any:
            ran.append(name)
            return text(name)

        return handle

    for number, template in enumerate(routes):
        app.add_route(handler(template), root_path + _angled(template), methods=["GET", "HEAD"], name=f"route{number}")
    app.add_route(handler(READ), f"{root_path}/posts", methods=["GET", "HEAD"], name="read")
    app.add_route(handler(WRITE), f"{root_path}/posts", methods=["POST"], name="write")
    start(app)
    return Site("sanic", True, app)


def blacksheep_site(root_path: str = "", routes: Iterable[str] = ROUTES) -> Site:
    """BlackSheep takes no root path off, and ignores case."""
    from blacksheep import Application, Request
    from blacksheep.server.responses import text
    from blacksheep.server.routing import Router

    app = Application(router=Router())

    def handler(name: str) -> Callable[..., Any]:
        async def handle(request: Any) -> Any:
            ran.append(name)
            return text(name)

        handle.__annotations__ = {"request": Request}
        return handle

    for template in routes:
        app.router.add("GET", root_path + template, handler(template))
    app.router.add("GET", f"{root_path}/posts", handler(READ))
    app.router.add("POST", f"{root_path}/posts", handler(WRITE))
    start(app)
    return Site("blacksheep", True, app)


def start(app: Any) -> None:
    """Run the startup of a lifespan, without which Sanic and BlackSheep have no routes."""
    from asgi_lifespan import LifespanManager

    async def enter() -> None:
        await LifespanManager(app, shutdown_timeout=1).__aenter__()

    asyncio.run(enter())


def pyramid_site() -> Site:
    from pyramid.config import Configurator
    from pyramid.response import Response

    config = Configurator()

    def handler(name: str) -> Callable[[Any], Any]:
        def handle(request: Any) -> Any:
            ran.append(name)
            return Response(name)

        return handle

    for name, template, method in (
        *((template, template, "GET") for template in ROUTES),
        (READ, "/posts", "GET"),
        (WRITE, "/posts", "POST"),
    ):
        config.add_route(name, template, request_method=method)
        config.add_view(handler(name), route_name=name)
    return Site("pyramid", False, config.make_wsgi_app())


BUILDERS: dict[str, Callable[[], Site]] = {
    "starlette": starlette_site,
    "fastapi": fastapi_site,
    "litestar": litestar_site,
    "quart": quart_site,
    "falcon-asgi": falcon_asgi_site,
    "django-asgi": django_asgi_site,
    "flask": flask_site,
    "falcon-wsgi": falcon_wsgi_site,
    "bottle": bottle_site,
    "django-wsgi": django_wsgi_site,
    "sanic": sanic_site,
    "blacksheep": blacksheep_site,
    "pyramid": pyramid_site,
}
