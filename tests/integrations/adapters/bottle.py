"""The app of the conformance suite in Bottle: a decorator."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bottle
from bottle import Bottle, HTTPError, HTTPResponse, request

from stackauth_middleware import StackAuthWSGIMiddleware, User, get_api_key, get_user, load_profile, require_user
from stackauth_middleware.contrib.bottle import require_auth, require_permission

from ..cases import ORIGIN, seen, seen_key
from . import OWN_ERRORS, App, OutOfStock, native, raised


def answering_own_errors(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A plugin: Bottle has no handlers for exceptions by their class."""

    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return callback(*args, **kwargs)
        except OWN_ERRORS as error:
            raise HTTPResponse(json.dumps(raised(error)), 409) from error

    return called


@contextmanager
def serve(site: App) -> Iterator[Any]:
    app = Bottle()
    app.config["catchall"] = False
    app.install(answering_own_errors)

    def note(user: User, team_id: str = "") -> dict[str, Any]:
        site.ran.append(user)
        return seen(user)

    async def anote(user: User, team_id: str = "") -> dict[str, Any]:
        return note(user)

    view: Any = anote if site.plain else note
    app.route("/public/guarded", "GET", require_auth(view))
    app.route("/optional/guarded", "GET", require_auth(view))
    app.route("/optional/profile", "GET", require_auth(profile=True)(view))
    app.route("/v1/guarded", "GET", require_auth(view))
    app.route("/optional/permitted", "GET", require_permission("admin")(view))
    app.route("/optional/teams/<team_id>", "GET", require_permission("read", team="team_id")(view))

    @app.get("/me")
    @app.get("/admin")
    @app.get("/permitted")
    @require_auth
    def me(user: User) -> dict[str, Any]:
        site.ran.append(user)
        return user.to_dict()

    @app.get("/public/hello")
    @app.get("/optional/hello")
    def hello() -> dict[str, Any]:
        user = get_user(request)
        return {"email": user and user.email}

    @app.get("/v1/hello")
    def key() -> dict[str, Any]:
        site.ran.append(get_api_key(request))
        return seen_key(get_api_key(request), get_user(request))

    @app.get("/stream")
    def stream() -> Iterator[str]:
        for _ in range(3):
            yield f"{require_user(request).email}\n"

    @app.get("/later")
    def later() -> str:
        environ = request.environ
        threading.Thread(target=lambda: site.ran.append(load_profile(environ).primary_email)).start()
        return ""

    @app.get("/buy")
    def buy() -> str:
        raise OutOfStock

    @app.get("/gone")
    def gone() -> str:
        raise HTTPError(410)

    if site.own:

        @app.error(401)
        def own(error: HTTPError) -> str:
            return json.dumps(native(error.exception))

    if site.cors:

        @app.hook("after_request")
        def allow() -> None:
            bottle.response.headers["Access-Control-Allow-Origin"] = ORIGIN

    yield app if site.config is None else StackAuthWSGIMiddleware(app, config=site.config)
