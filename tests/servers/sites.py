"""The same small site in each framework: ``/me``, ``/healthz``, ``/stream``, ``/echo`` and the WebSocket ``/ws``."""

# No postponed annotations: FastAPI, Litestar and BlackSheep read those of local functions.
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from stackauth_middleware import get_user

PIECES = ("one\n", "two\n", "three\n")
"""What ``/stream`` sends, piece by piece."""
JSON = "application/json"


def seen(obj: Any) -> str:
    """Return what ``/me`` answers: the id of the user."""
    user = get_user(obj)
    return json.dumps({"id": user.id if user else None})


def summed(obj: Any, body: bytes) -> str:
    """Return what ``/echo`` answers: the user, and the length and hash of the request body."""
    return json.dumps({**json.loads(seen(obj)), "size": len(body), "sha256": hashlib.sha256(body).hexdigest()})


async def _pieces() -> AsyncIterator[bytes]:
    for piece in PIECES:
        yield piece.encode()


def asgi_app() -> Any:
    """An app without a framework."""

    async def body_of(receive: Any) -> bytes:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                return body

    async def socket(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": seen(scope)})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] == "websocket":
            await socket(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        body = summed(scope, await body_of(receive)) if path == "/echo" else seen(scope)
        pieces = PIECES if path == "/stream" else (body,) if scope["method"] != "HEAD" else ()
        status = 200 if path in ("/me", "/healthz", "/stream", "/echo") else 404
        headers = [(b"content-type", JSON.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    async def me(request: Any) -> Response:
        return Response(seen(request), media_type=JSON)

    async def stream(request: Any) -> Response:
        return StreamingResponse(_pieces())

    async def echo(request: Any) -> Response:
        return Response(summed(request, await request.body()), media_type=JSON)

    routes = [Route("/me", me), Route("/healthz", me), Route("/stream", stream), Route("/echo", echo, methods=["POST"])]
    return Starlette(routes=[*routes, WebSocketRoute("/ws", _starlette_socket)])


async def _starlette_socket(websocket: Any) -> None:
    """Starlette's, FastAPI's and BlackSheep's sockets have the same methods."""
    await websocket.accept()
    await websocket.send_text(seen(websocket))
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


def fastapi() -> Any:
    from fastapi import FastAPI, Request, WebSocket
    from fastapi.responses import Response, StreamingResponse

    app = FastAPI()

    @app.api_route("/me", methods=["GET", "HEAD"])
    @app.api_route("/healthz", methods=["GET", "HEAD"])
    async def me(request: Request) -> Response:
        return Response(seen(request), media_type=JSON)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(_pieces())

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(summed(request, await request.body()), media_type=JSON)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await _starlette_socket(websocket)

    return app


def litestar() -> Any:
    from litestar import Litestar, Request, Response, WebSocket, get, post, route, websocket
    from litestar.enums import HttpMethod
    from litestar.response import Stream

    @route(["/me", "/healthz"], http_method=[HttpMethod.GET, HttpMethod.HEAD], status_code=200)
    async def me(request: Request) -> Response:
        return Response(b"" if request.method == "HEAD" else seen(request).encode(), media_type=JSON)

    @get("/stream")
    async def stream() -> Stream:
        return Stream(_pieces())

    @post("/echo", status_code=200)
    async def echo(request: Request) -> Response:
        return Response(summed(request, await request.body()).encode(), media_type=JSON)

    @websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(seen(socket))
        await socket.send_text(await socket.receive_text())
        await socket.close()

    size: Any = 1 << 25
    return Litestar([me, stream, echo, ws], openapi_config=None, logging_config=None, request_max_body_size=size)


def quart() -> Any:
    from quart import Quart, Response, request, websocket

    app = Quart(__name__, static_folder=None)

    @app.get("/me")
    @app.get("/healthz")
    async def me() -> Response:
        return Response(seen(request.scope), mimetype=JSON)

    @app.get("/stream")
    async def stream() -> Response:
        return Response(_pieces())

    @app.post("/echo")
    async def echo() -> Response:
        return Response(summed(request.scope, await request.get_data()), mimetype=JSON)

    @app.websocket("/ws")
    async def ws() -> None:
        await websocket.accept()
        await websocket.send(seen(websocket.scope))
        await websocket.send(await websocket.receive())

    return app


def falcon_asgi() -> Any:
    import falcon.asgi

    class Me:
        async def on_get(self, req: Any, resp: Any) -> None:
            resp.text = seen(req)

        on_head = on_get

    class Stream:
        async def on_get(self, req: Any, resp: Any) -> None:
            resp.stream = _pieces()

    class Echo:
        async def on_post(self, req: Any, resp: Any) -> None:
            resp.text = summed(req, await req.stream.read())

    class Socket:
        async def on_websocket(self, req: Any, ws: Any) -> None:
            await ws.accept()
            await ws.send_text(seen(req))
            await ws.send_text(await ws.receive_text())
            await ws.close()

    app: Any = falcon.asgi.App()
    resources = {"/me": Me(), "/healthz": Me(), "/stream": Stream(), "/echo": Echo(), "/ws": Socket()}
    for path, resource in resources.items():
        app.add_route(path, resource)
    return app


def _django(interface: str) -> Any:
    import django
    from django.conf import settings
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    def me(request: Any) -> HttpResponse:
        return HttpResponse(seen(request), content_type=JSON)

    def stream(request: Any) -> StreamingHttpResponse:
        return StreamingHttpResponse(_pieces() if interface == "asgi" else iter(PIECES))

    def echo(request: Any) -> HttpResponse:
        return HttpResponse(summed(request, request.body), content_type=JSON)

    class Urls:
        urlpatterns = [path("me", me), path("healthz", me), path("stream", stream), path("echo", echo)]

    settings.configure(SECRET_KEY="for tests only", ROOT_URLCONF=Urls, ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None)
    django.setup()
    if interface == "asgi":
        from django.core.asgi import get_asgi_application as made
    else:
        from django.core.wsgi import get_wsgi_application as made
    return made()


def django_asgi() -> Any:
    return _django("asgi")


def django_wsgi() -> Any:
    return _django("wsgi")


def sanic() -> Any:
    from sanic import Sanic
    from sanic.response import text

    app: Any = Sanic("matrix", configure_logging=False)

    async def me(request: Any) -> Any:
        return text(seen(request.transport.scope), content_type=JSON)

    async def stream(request: Any) -> None:
        response = await request.respond(content_type="text/plain")
        for piece in PIECES:
            await response.send(piece)
        await response.eof()

    async def echo(request: Any) -> Any:
        return text(summed(request.transport.scope, request.body), content_type=JSON)

    async def ws(request: Any, socket: Any) -> None:
        await socket.send(seen(request.transport.scope))
        await socket.send(await socket.recv())

    app.add_route(me, "/me", methods=["GET", "HEAD"], name="me")
    app.add_route(me, "/healthz", methods=["GET", "HEAD"], name="healthz")
    app.add_route(stream, "/stream", name="stream")
    app.add_route(echo, "/echo", methods=["POST"], name="echo")
    app.add_websocket_route(ws, "/ws", name="ws")
    return app


def blacksheep() -> Any:
    from blacksheep import Application, Request, Response, StreamedContent, WebSocket
    from blacksheep.server.responses import text
    from blacksheep.server.routing import Router

    app = Application(router=Router())

    async def me(request: Request) -> Response:
        return text(seen(request))

    async def stream() -> Response:
        return Response(200, content=StreamedContent(b"text/plain", _pieces))

    async def echo(request: Request) -> Response:
        return text(summed(request, await request.read() or b""))

    async def ws(websocket: WebSocket) -> None:
        await _starlette_socket(websocket)

    for path in ("/me", "/healthz"):
        app.router.add("GET", path, me)
        app.router.add("HEAD", path, me)
    app.router.add("GET", "/stream", stream)
    app.router.add("POST", "/echo", echo)
    app.router.add_ws("/ws", ws)
    return app


def wsgi_app() -> Any:
    """An app without a framework."""

    def app(environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path == "/stream":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return (piece.encode() for piece in PIECES)
        if path == "/echo":
            body = summed(environ, environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        else:
            body = seen(environ)
        status = "200 OK" if path in ("/me", "/healthz", "/echo") else "404 Not Found"
        start_response(status, [("Content-Type", JSON), ("Content-Length", str(len(body)))])
        return [body.encode()] if environ["REQUEST_METHOD"] != "HEAD" else []

    return app


def flask() -> Any:
    from flask import Flask, Response, request

    app = Flask(__name__, static_folder=None)

    @app.get("/me")
    @app.get("/healthz")
    def me() -> Response:
        return Response(seen(request), mimetype=JSON)

    @app.get("/stream")
    def stream() -> Response:
        return Response(iter(PIECES))

    @app.post("/echo")
    def echo() -> Response:
        return Response(summed(request, request.get_data()), mimetype=JSON)

    return app


def bottle() -> Any:
    from bottle import Bottle, request

    app = Bottle()
    app.route("/me", "GET", lambda: seen(request))
    app.route("/healthz", "GET", lambda: seen(request))
    app.route("/stream", "GET", lambda: iter(PIECES))
    app.route("/echo", "POST", lambda: summed(request, request.body.read()))
    return app


def falcon_wsgi() -> Any:
    import falcon

    class Me:
        def on_get(self, req: Any, resp: Any) -> None:
            resp.text = seen(req)

        on_head = on_get

    class Stream:
        def on_get(self, req: Any, resp: Any) -> None:
            resp.stream = (piece.encode() for piece in PIECES)

    class Echo:
        def on_post(self, req: Any, resp: Any) -> None:
            resp.text = summed(req, req.bounded_stream.read())

    app: Any = falcon.App()
    for path, resource in (("/me", Me()), ("/healthz", Me()), ("/stream", Stream()), ("/echo", Echo())):
        app.add_route(path, resource)
    return app


def pyramid() -> Any:
    from pyramid.config import Configurator
    from pyramid.response import Response

    def me(request: Any) -> Any:
        return Response(seen(request))

    def stream(request: Any) -> Any:
        return Response(app_iter=(piece.encode() for piece in PIECES))

    def echo(request: Any) -> Any:
        return Response(summed(request, request.body))

    config = Configurator()
    for path, view in (("/me", me), ("/healthz", me), ("/stream", stream), ("/echo", echo)):
        config.add_route(path[1:], path)
        config.add_view(view, route_name=path[1:])
    return config.make_wsgi_app()


def cherrypy() -> Any:
    import cherrypy

    cherrypy.config.update({"environment": "embedded", "log.screen": False})

    class Root:
        @cherrypy.expose
        def me(self) -> str:
            return seen(cherrypy.request.wsgi_environ)

        healthz = me

        @cherrypy.expose
        @cherrypy.config(**{"response.stream": True})
        def stream(self) -> Any:
            return (piece.encode() for piece in PIECES)

        @cherrypy.expose
        @cherrypy.config(**{"request.process_request_body": False})
        def echo(self) -> str:
            environ = cherrypy.request.wsgi_environ
            return summed(environ, cherrypy.request.rfile.read(int(environ["CONTENT_LENGTH"])))

    return cherrypy.Application(Root())


ASGI: dict[str, Callable[[], Any]] = {
    "asgi": asgi_app,
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "quart": quart,
    "falcon-asgi": falcon_asgi,
    "django-asgi": django_asgi,
    "sanic": sanic,
    "blacksheep": blacksheep,
}
WSGI: dict[str, Callable[[], Any]] = {
    "wsgi": wsgi_app,
    "flask": flask,
    "bottle": bottle,
    "falcon-wsgi": falcon_wsgi,
    "django-wsgi": django_wsgi,
    "pyramid": pyramid,
    "cherrypy": cherrypy,
}
