"""Falcon under ASGI and under WSGI: mounting, the user, and `contrib`. Type-checked, not run."""

from __future__ import annotations

import falcon
import falcon.asgi
from typing_extensions import assert_type

from stackauth_middleware import (
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    User,
    get_user,
    require_user,
)
from stackauth_middleware.contrib.falcon import require_auth


class Me:
    @falcon.before(require_auth)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        assert_type(require_user(req), User)
        assert_type(get_user(req), User | None)
        resp.media = req.context.user.to_dict()


@falcon.before(require_auth, profile=True)
class Profile:
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        resp.media = name


class AsyncMe:
    @falcon.before(require_auth)
    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        assert_type(require_user(req), User)
        resp.media = req.context.user.to_dict()

    @falcon.before(require_auth, profile=True)
    async def on_websocket(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        assert_type(require_user(req), User)
        assert_type(get_user(req), User | None)


app = falcon.App()
app.add_route("/me", Me())
application = StackAuthWSGIMiddleware(app, config=StackAuthConfig(rules=[Rule("/healthz", "public")]))

async_app = falcon.asgi.App()
async_app.add_route("/me", AsyncMe())
async_application = StackAuthASGIMiddleware(async_app, project_id="internal", websocket_refusal="accept")
