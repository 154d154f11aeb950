"""The app of the conformance suite in Quart: a decorator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quart import Quart, abort, copy_current_request_context, request, websocket
from quart_cors import cors
from werkzeug.exceptions import HTTPException

from stackauth_middleware import StackAuthASGIMiddleware, User, get_api_key, get_user, require_user
from stackauth_middleware.contrib.quart import require_auth, require_permission

from ..cases import ORIGIN, seen, seen_key
from . import OWN_ERRORS, App, OutOfStock, native, raised


@contextmanager
def serve(site: App) -> Iterator[Any]:
    app = Quart(__name__, static_folder=None)
    if site.cors:
        app = cors(app, allow_origin=ORIGIN)

    def note(user: User, team_id: str = "") -> dict[str, Any]:
        site.ran.append(user)
        return seen(user)

    async def anote(user: User, team_id: str = "") -> dict[str, Any]:
        return note(user)

    view: Any = note if site.plain else anote
    app.add_url_rule("/public/guarded", "public_guarded", require_auth(view))
    app.add_url_rule("/optional/guarded", "optional_guarded", require_auth(view))
    app.add_url_rule("/v1/guarded", "v1_guarded", require_auth(view))
    app.add_url_rule("/optional/permitted", "optional_permitted", require_permission("admin")(view))
    in_team = require_permission("read", team="team_id")(view)
    app.add_url_rule("/optional/teams/<team_id>", "optional_teams", in_team)
    app.add_url_rule("/optional/profile", "profile", require_auth(profile=True)(view))

    @app.get("/me", endpoint="me")
    @app.get("/admin", endpoint="admin")
    @app.get("/permitted", endpoint="permitted")
    @require_auth
    async def me(user: User) -> dict[str, Any]:
        site.ran.append(user)
        return user.to_dict()

    @app.get("/public/hello", endpoint="public")
    @app.get("/optional/hello", endpoint="optional")
    async def hello() -> dict[str, Any]:
        user = get_user(request)
        return {"email": user and user.email}

    @app.get("/v1/hello")
    async def key() -> dict[str, Any]:
        site.ran.append(get_api_key(request))
        return seen_key(get_api_key(request), get_user(request))

    @app.get("/stream")
    @require_auth
    async def stream(user: User) -> Any:
        return (f"{user.email}\n" for _ in range(3))

    @app.get("/later")
    async def later() -> str:
        @copy_current_request_context
        async def task() -> None:
            site.ran.append(require_user(request).email)

        app.add_background_task(task)
        return ""

    @app.get("/buy")
    async def buy() -> str:
        raise OutOfStock

    @app.get("/gone")
    async def gone() -> str:
        abort(410)

    for each in OWN_ERRORS:
        app.register_error_handler(each, lambda error: (raised(error), 409))
    if site.own:

        @app.errorhandler(401)
        async def own(error: HTTPException) -> Any:
            return native(error), 401, {"WWW-Authenticate": error.get_response().headers["WWW-Authenticate"]}

    @app.websocket("/socket", endpoint="socket")
    @app.websocket("/optional/socket", endpoint="optional_socket")
    @require_auth
    async def socket(user: User) -> None:
        await websocket.send_json(seen(user))

    @app.websocket("/public/socket")
    async def public_socket() -> None:
        user = get_user(websocket)
        await websocket.send_json(user and seen(user))

    if site.config is not None:
        app.asgi_app = StackAuthASGIMiddleware(app.asgi_app, config=site.config)
    yield app
