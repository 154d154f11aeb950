"""One ASGI app and one WSGI app, behind middleware with several settings.

The app sets the header ``x-app``, and returns the user and the path in the body.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware, get_user

RULES = [Rule("/healthz", "public"), Rule("/hello", "optional")]
TOKEN_SOURCES: Any = ("x-stack-access-token", "bearer", "x-stack-auth", "websocket")

auth = StackAuthConfig(rules=RULES)


def _body(obj: Any, path: str) -> bytes:
    user = get_user(obj)
    return json.dumps({"id": user.id if user else None, "path": path, "pid": os.getpid()}).encode()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await _socket(scope, receive, send)
    else:
        headers = [(b"content-type", b"application/json"), (b"x-app", b"asgi")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": _body(scope, scope["path"])})


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _socket(scope: Any, receive: Any, send: Any) -> None:
    """Accept, with the subprotocol ``chat`` if offered; send what the app saw; echo until the client disconnects."""
    assert (await receive())["type"] == "websocket.connect"
    offered = list(scope.get("subprotocols") or ())
    await send({"type": "websocket.accept", "subprotocol": "chat" if "chat" in offered else None})
    header = [value.decode() for name, value in scope["headers"] if name == b"sec-websocket-protocol"]
    user = get_user(scope)
    seen = {"id": user.id if user else None, "offered": offered, "header": header}
    await send({"type": "websocket.send", "text": json.dumps(seen)})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "text": message["text"]})


def _without_extension(app: Any) -> Any:
    """Hide from `app` that the server can answer a WebSocket with a response."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "extensions": {}}, receive, send)

    return call


_unreachable: dict[str, Any] = {"api_url": "http://127.0.0.1:1", "issuer_url": os.environ["STACK_API_URL"]}
_guarded = StackAuthASGIMiddleware(_app, auth)
_middlewares: dict[str, Any] = {
    "unguarded": _app,
    "bare": _without_extension(_guarded),
    "accepting": StackAuthASGIMiddleware(_app, websocket_refusal="accept", token_sources=TOKEN_SOURCES),
    "token_source": StackAuthASGIMiddleware(_app, token_sources=TOKEN_SOURCES),
    "unavailable": StackAuthASGIMiddleware(_app, **_unreachable),
    "unavailable-accepting": StackAuthASGIMiddleware(_app, websocket_refusal="accept", **_unreachable),
}


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Serve the app behind the middleware that the first segment of a WebSocket path names."""
    middleware = _guarded
    if scope["type"] == "websocket":
        middleware = _middlewares.get(scope["path"].split("/")[1], _guarded)
    await middleware(scope, receive, send)


def _wsgi_app(environ: Any, start_response: Any) -> Iterable[bytes]:
    body = _body(environ, environ["PATH_INFO"])
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("X-App", "wsgi")]
    start_response("200 OK", headers)
    return [body]


wsgi = StackAuthWSGIMiddleware(_wsgi_app, auth)
