"""One site per ASGI framework: the routes of `table`, registered as the users of each framework write them."""

# No postponed annotations: FastAPI, Litestar and BlackSheep read those of local functions.
from collections.abc import Callable
from typing import Any

from .table import ROUTES, Route, record


def raw_app(route: Route) -> Any:
    """Return an ASGI app that takes whatever it is given, as mounted apps and ASGI endpoints do."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        record(route.name, scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": route.name.encode()})

    return app


async def raw_not_found(scope: Any, receive: Any, send: Any) -> None:
    """Answer 404 to HTTP, and close a WebSocket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
        return
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Endpoint:
    """An ASGI endpoint as Starlette takes one: an object, not a function."""

    def __init__(self, route: Route) -> None:
        self.app = raw_app(route)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def _converted(template: str, name: str, rest: str) -> str:
    return template.replace("{name}", name).replace("{rest}", rest)


def starlette(prefix: str = "") -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, WebSocketRoute
    from starlette.routing import Route as StarletteRoute

    def handler(route: Route) -> Callable[[Any], Any]:
        async def handle(request: Any) -> PlainTextResponse:
            record(route.name, request.scope)
            return PlainTextResponse(route.name)

        return handle

    def socket(route: Route) -> Callable[[Any], Any]:
        async def handle(websocket: Any) -> None:
            record(route.name, websocket.scope)
            await websocket.accept()
            await websocket.close()

        return handle

    routes: list[Any] = []
    for route in ROUTES:
        template = _converted(route.template, "{name}", "{rest:path}")
        if route.kind == "mount":
            routes.append(Mount(template, raw_app(route)))
        elif route.kind == "websocket":
            routes.append(WebSocketRoute(template, socket(route)))
        elif "OPTIONS" in route.methods:
            routes.append(StarletteRoute(template, Endpoint(route)))
        else:
            routes.append(StarletteRoute(template, handler(route), methods=list(route.methods)))
    return Starlette(routes=routes)


def fastapi(prefix: str = "", root_path: str = "") -> Any:
    from fastapi import FastAPI, Request, WebSocket
    from fastapi.responses import PlainTextResponse

    app = FastAPI(root_path=root_path, openapi_url=None)

    def handler(route: Route) -> Callable[..., Any]:
        async def handle(request: Request) -> Any:
            record(route.name, request.scope)
            return PlainTextResponse(route.name)

        return handle

    def socket(route: Route) -> Callable[..., Any]:
        async def handle(websocket: WebSocket) -> None:
            record(route.name, websocket.scope)
            await websocket.accept()
            await websocket.close()

        return handle

    for route in ROUTES:
        template = _converted(route.template, "{name}", "{rest:path}")
        if route.kind == "mount":
            app.mount(template, raw_app(route))
        elif route.kind == "websocket":
            app.add_api_websocket_route(template, socket(route))
        else:
            app.add_api_route(template, handler(route), methods=list(route.methods))
    return app


def litestar(prefix: str = "", middleware: Any = ()) -> Any:
    from litestar import Litestar, asgi
    from litestar import route as http_route
    from litestar import websocket as websocket_route

    def made(route: Route) -> Any:
        template = _converted(route.template, "{name:str}", "{rest:path}")
        if route.kind == "mount":
            return asgi(template, is_mount=True, copy_scope=True)(litestar_raw(route))
        if route.kind == "websocket":
            return websocket_route(template)(socket(route))
        if route.name == "any":
            return asgi(template, copy_scope=True)(litestar_raw(route))
        methods: Any = [each for each in route.methods if each != "OPTIONS"]
        return http_route(template, http_method=methods, status_code=200)(handler(route))

    def handler(route: Route) -> Any:
        from litestar import Request
        from litestar.response import Response

        async def handle(request: Request) -> Response:
            record(route.name, request.scope)
            return Response(route.name)

        return handle

    def socket(route: Route) -> Any:
        from litestar import WebSocket

        async def handle(socket: WebSocket) -> None:
            record(route.name, socket.scope)
            await socket.accept()
            await socket.close()

        return handle

    def litestar_raw(route: Route) -> Any:
        from litestar.types import Receive, Scope, Send

        app = raw_app(route)

        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            # A mount at /sink also serves /sinkx, without a slash at the start: docs/rules.md names that limit.
            if route.kind == "mount" and not scope["path"].startswith("/"):
                await raw_not_found(scope, receive, send)
            else:
                await app(scope, receive, send)

        return handle

    return Litestar([made(route) for route in ROUTES], middleware=middleware, openapi_config=None, logging_config=None)


def quart(prefix: str = "") -> Any:
    from quart import Quart, request, websocket

    app = Quart(__name__, static_folder=None)

    def handler(route: Route) -> Callable[..., Any]:
        async def handle(**_: str) -> str:
            record(route.name, request.scope)
            return route.name

        return handle

    def socket(route: Route) -> Callable[..., Any]:
        async def handle(**_: str) -> None:
            record(route.name, websocket.scope)
            await websocket.accept()

        return handle

    for route in ROUTES:
        template = _converted(route.template, "<name>", "<path:rest>")
        options: Any = {"methods": route.methods, "provide_automatic_options": "OPTIONS" not in route.methods}
        if route.kind == "websocket":
            app.add_websocket(template, route.name, socket(route))
            continue
        app.add_url_rule(template, route.name, handler(route), **options)
        if route.kind == "mount":
            app.add_url_rule(f"{template}/<path:rest>", f"{route.name} below", handler(route), **options)
    return app


def falcon(prefix: str = "") -> Any:
    """Falcon does not take a root path off, so its users register their routes with it."""
    import re

    import falcon.asgi

    app = falcon.asgi.App()
    resources: dict[str, Any] = {}

    def responder(route: Route) -> Any:
        async def respond(req: Any, resp: Any, **_: str) -> None:
            record(route.name, req.scope)
            resp.text = route.name

        return respond

    def socket(route: Route) -> Any:
        async def on_websocket(req: Any, ws: Any, **_: str) -> None:
            record(route.name, req.scope)
            await ws.accept()
            await ws.close()

        return on_websocket

    for route in ROUTES:
        template = prefix + _converted(route.template, "{name}", "{rest:path}")
        if route.kind == "mount":
            app.add_sink(responder(route), re.compile(re.escape(template) + r"(?:/|\Z)"))
            continue
        resource = resources.setdefault(template, type("Resource", (), {})())
        for method in route.methods:
            setattr(resource, f"on_{method.lower()}", responder(route))
        if route.kind == "websocket":
            resource.on_websocket = socket(route)
    for template, resource in resources.items():
        app.add_route(template, resource)
    return app


def django(prefix: str = "", **more: Any) -> Any:
    from django.core.asgi import get_asgi_application

    from .django_urls import installed

    with installed(**more):
        return get_asgi_application()


def sanic(prefix: str = "") -> Any:
    from sanic import Sanic
    from sanic.response import text

    from .table import counter

    Sanic.test_mode = True
    app: Any = Sanic(f"attack{next(counter)}", configure_logging=False)

    def handler(route: Route) -> Callable[..., Any]:
        async def handle(request: Any, **_: str) -> Any:
            record(route.name, request.transport.scope)
            return text(route.name)

        return handle

    for route in ROUTES:
        template = _converted(route.template, "<name>", "<rest:path>")
        name = route.name.replace(" ", "_")
        if route.kind == "websocket":
            continue  # its handshake needs a client that stays; Sanic routes sockets as it routes GET
        app.add_route(handler(route), template, methods=route.methods, name=name)
        if route.kind == "mount":
            app.add_route(handler(route), f"{template}/<rest:path>", methods=route.methods, name=f"{name}_below")
    return app


def blacksheep(prefix: str = "") -> Any:
    from blacksheep import Application, Request, WebSocket
    from blacksheep.server.responses import text
    from blacksheep.server.routing import Router

    app = Application(router=Router())

    def handler(route: Route) -> Callable[..., Any]:
        async def handle(request: Request) -> Any:
            record(route.name, request.scope)
            return text(route.name)

        return handle

    def socket(route: Route) -> Callable[..., Any]:
        async def handle(websocket: WebSocket) -> None:
            record(route.name, websocket.scope)
            await websocket.accept()
            await websocket.close()

        return handle

    for route in ROUTES:
        # Not "*": BlackSheep takes "/files/*" for "/filesx" too, which no rule for "/files/**" can know.
        template = _converted(route.template, "{name}", "{path:rest}")
        if route.kind == "websocket":
            app.router.add_ws(template, socket(route))
            continue
        for method in route.methods:
            app.router.add(method, template, handler(route))
            if route.kind == "mount":
                app.router.add(method, f"{template}/{{path:rest}}", handler(route))
    return app


BUILDERS: dict[str, Callable[..., Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "quart": quart,
    "falcon-asgi": falcon,
    "django-asgi": django,
    "sanic": sanic,
    "blacksheep": blacksheep,
}
