"""The app of the conformance suite in Flask: a decorator."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flask_cors
from flask import Flask, abort, request, stream_with_context
from werkzeug.exceptions import HTTPException

from stackauth_middleware import StackAuthWSGIMiddleware, User, get_api_key, get_user, load_profile, require_user
from stackauth_middleware.contrib.flask import require_auth, require_permission

from ..cases import ORIGIN, seen, seen_key
from . import OWN_ERRORS, App, OutOfStock, native, raised


@contextmanager
def serve(site: App) -> Iterator[Any]:
    app = Flask(__name__, static_folder=None)
    if site.cors:
        flask_cors.CORS(app, origins=[ORIGIN])

    def note(user: User, team_id: str = "") -> dict[str, Any]:
        site.ran.append(user)
        return seen(user)

    async def anote(user: User, team_id: str = "") -> dict[str, Any]:
        return note(user)

    view: Any = anote if site.plain else note
    app.add_url_rule("/public/guarded", "public_guarded", require_auth(view))
    app.add_url_rule("/optional/guarded", "optional_guarded", require_auth(view))
    app.add_url_rule("/v1/guarded", "v1_guarded", require_auth(view))
    app.add_url_rule("/optional/permitted", "optional_permitted", require_permission("admin")(view))
    in_team = require_permission("read", team="team_id")(view)
    app.add_url_rule("/optional/teams/<team_id>", "optional_teams", in_team)
    app.add_url_rule("/optional/profile", "profile", require_auth(profile=True)(view))

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
    def stream() -> Any:
        return stream_with_context(f"{require_user(request).email}\n" for _ in range(3))

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
        abort(410)

    for each in OWN_ERRORS:
        app.register_error_handler(each, lambda error: (raised(error), 409))
    if site.own:

        @app.errorhandler(401)
        def own(error: HTTPException) -> Any:
            return native(error), 401, {"WWW-Authenticate": error.get_response().headers["WWW-Authenticate"]}

    if site.config is not None:
        app.wsgi_app = StackAuthWSGIMiddleware(app.wsgi_app, config=site.config)
    yield app
