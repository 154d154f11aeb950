"""What the servers of the matrix serve: the sites that ``MATRIX_SITES`` names, each behind the middleware.

The header ``x-site`` chooses among them; the first is the default. Paths below ``/mnt`` reach the same site through a
second middleware, mounted there; with the header ``x-outage``, through one whose Stack Auth cannot be reached. Whatever
a site answers has the header ``x-app``.
"""

from __future__ import annotations

import os
from typing import Any

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware, User

from . import sites

ORIGIN = "https://app.example.com"


def refuse_all(user: User) -> bool:
    return False


def _config(**more: Any) -> StackAuthConfig:
    rules = [Rule("/healthz", "public"), Rule("/admin", check=refuse_all)]
    return StackAuthConfig(rules=rules, cors_origins=[ORIGIN], **more)


CONFIGS = {
    "plain": _config(),
    "mounted": _config(root_path="/mnt"),
    "outage": _config(api_url="http://127.0.0.1:1", issuer_url=os.environ["STACK_API_URL"]),
}
NAMES = os.environ.get("MATRIX_SITES", "").split(",")


def marked_asgi(app: Any) -> Any:
    async def call(scope: Any, receive: Any, send: Any) -> None:
        async def marking(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"x-app", b"1")]}
            await send(message)

        await app(scope, receive, marking if scope["type"] == "http" else send)

    return call


def marked_wsgi(app: Any) -> Any:
    def call(environ: Any, start_response: Any) -> Any:
        def marking(status: str, headers: Any, *rest: Any) -> Any:
            return start_response(status, [*headers, ("X-App", "1")], *rest)

        return app(environ, marking)

    return call


_asgi: dict[tuple[str, str], Any] = {}
_wsgi: dict[tuple[str, str], Any] = {}
for _name in filter(None, NAMES):
    if _name in sites.ASGI:
        _app = marked_asgi(sites.ASGI[_name]())
        _asgi |= {(_name, kind): StackAuthASGIMiddleware(_app, config) for kind, config in CONFIGS.items()}
    else:
        _app = marked_wsgi(sites.WSGI[_name]())
        _wsgi |= {(_name, kind): StackAuthWSGIMiddleware(_app, config) for kind, config in CONFIGS.items()}


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await _asgi[NAMES[-1], "plain"](scope, receive, send)  # a bare app needs none
        return
    headers = dict(scope["headers"])
    kind = "outage" if b"x-outage" in headers else "plain"
    if scope["path"].startswith("/mnt/"):
        kind, scope = "mounted", {**scope, "root_path": "/mnt"}
    await _asgi[headers.get(b"x-site", NAMES[0].encode()).decode(), kind](scope, receive, send)


def wsgi(environ: Any, start_response: Any) -> Any:
    kind = "outage" if "HTTP_X_OUTAGE" in environ else "plain"
    if environ["PATH_INFO"].startswith("/mnt/"):
        kind = "mounted"
        environ.update(SCRIPT_NAME="/mnt", PATH_INFO=environ["PATH_INFO"].removeprefix("/mnt"))
    return _wsgi[environ.get("HTTP_X_SITE", NAMES[0]), kind](environ, start_response)


def factory() -> Any:
    """For ``uvicorn --factory``."""
    return asgi


def __getattr__(name: str) -> Any:
    """Make the apps behind bridges only where they are asked for: some bridges start threads."""
    if name == "wsgi_by_a2wsgi":
        from a2wsgi import WSGIMiddleware

        return WSGIMiddleware(wsgi)
    if name == "asgi_by_a2wsgi":
        from a2wsgi import ASGIMiddleware

        return ASGIMiddleware(asgi)
    if name == "wsgi_by_asgiref":
        from asgiref.wsgi import WsgiToAsgi

        return WsgiToAsgi(wsgi)
    raise AttributeError(name)
