"""The app of the conformance suite in Falcon, ASGI and WSGI: a hook.

The responders are written once, as plain functions; for an ASGI app each is made a coroutine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import falcon
import falcon.asgi

from stackauth_middleware import (
    StackAuthASGIMiddleware,
    StackAuthWSGIMiddleware,
    get_api_key,
    get_user,
    load_profile,
    require_user,
)
from stackauth_middleware.contrib.falcon import require_auth, require_permission

from ..cases import ORIGIN, seen, seen_key
from . import OWN_ERRORS, App, OutOfStock, native, raised


def as_coroutine(function: Callable[..., None]) -> Callable[..., Any]:
    async def called(*args: Any) -> None:
        function(*args)

    return called


async def lines_of(email: str) -> Any:
    for _ in range(3):
        yield f"{email}\n".encode()


class Socket:
    async def on_websocket(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        user = get_user(req)
        await ws.accept()
        await ws.send_media(user and seen(user))
        await ws.close()


@contextmanager
def serve(site: App) -> Iterator[Any]:
    def me(req: Any, resp: Any) -> None:
        site.ran.append(require_user(req))
        resp.media = require_user(req).to_dict()

    def hello(req: Any, resp: Any) -> None:
        user = get_user(req)
        resp.media = {"email": user and user.email}

    def key(req: Any, resp: Any) -> None:
        site.ran.append(get_api_key(req))
        resp.media = seen_key(get_api_key(req), get_user(req))

    def guarded(req: Any, resp: Any) -> None:
        site.ran.append(req.context.user)
        resp.media = seen(req.context.user)

    def stream(req: Any, resp: Any) -> None:
        email = str(require_user(req).email)
        resp.stream = [f"{email}\n".encode()] * 3 if site.plain else lines_of(email)

    def later(req: Any, resp: Any) -> None:
        if site.plain:
            threading.Thread(target=lambda: site.ran.append(load_profile(req.env).primary_email)).start()
        else:
            resp.schedule(as_coroutine(lambda: site.ran.append(require_user(req).email)))

    def buy(req: Any, resp: Any) -> None:
        raise OutOfStock

    def gone(req: Any, resp: Any) -> None:
        raise falcon.HTTPGone

    def own_error(req: Any, resp: Any, error: Exception, params: Any) -> None:
        resp.status, resp.media = 409, raised(error)

    def own(req: Any, resp: Any, error: falcon.HTTPError, params: Any) -> None:
        resp.status, resp.media = error.status, native(error)
        resp.set_headers(error.headers or {})

    form: Callable[..., Any] = (lambda function: function) if site.plain else as_coroutine
    middleware = [falcon.CORSMiddleware(allow_origins=ORIGIN)] if site.cors else []
    app: Any = (falcon.App if site.plain else falcon.asgi.App)(middleware=middleware)
    for each in OWN_ERRORS:
        app.add_error_handler(each, form(own_error))
    if site.own:
        app.add_error_handler(falcon.HTTPUnauthorized, form(own))

    def add(path: str, responder: Callable[..., None], *hooks: Callable[..., Any]) -> None:
        def on_get(self: Any, req: Any, resp: Any, team_id: str = "") -> Any:
            return form(responder)(req, resp)

        async def on_get_async(self: Any, req: Any, resp: Any, team_id: str = "") -> None:
            responder(req, resp)

        resource = type("Resource", (), {"on_get": on_get if site.plain else on_get_async})
        for hook in hooks:
            resource = hook(resource)
        app.add_route(path, resource())

    for path in ("/me", "/admin", "/permitted"):
        add(path, me)
    for path in ("/public/hello", "/optional/hello"):
        add(path, hello)
    for path in ("/public/guarded", "/optional/guarded", "/v1/guarded"):
        add(path, guarded, falcon.before(require_auth))
    add("/optional/permitted", guarded, falcon.before(require_permission, "admin"))
    add("/optional/teams/{team_id}", guarded, falcon.before(require_permission, "read", team="team_id"))
    add("/v1/hello", key)
    add("/optional/profile", guarded, falcon.before(require_auth, profile=True))
    for name, responder in {"stream": stream, "later": later, "buy": buy, "gone": gone}.items():
        add(f"/{name}", responder)
    if not site.plain:
        guarded_socket = falcon.before(require_auth)(type("Guarded", (Socket,), dict(vars(Socket))))
        app.add_route("/public/socket", Socket())
        app.add_route("/optional/socket", guarded_socket())
        app.add_route("/socket", guarded_socket())
    middleware: Any = StackAuthWSGIMiddleware if site.plain else StackAuthASGIMiddleware
    yield app if site.config is None else middleware(app, config=site.config)
