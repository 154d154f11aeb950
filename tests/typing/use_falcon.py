"""Mounting on Falcon under ASGI and under WSGI, and reading the user. Type-checked, not run."""

from __future__ import annotations

import falcon
import falcon.asgi

from stackauth_middleware import (
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    User,
    get_user,
    require_user,
)

auth = StackAuthConfig(rules=[Rule("/healthz", "public")])


class Me:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        user: User = require_user(req)
        resp.media = user.to_dict()


class AsyncMe:
    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        user: User = require_user(req)
        resp.media = user.to_dict()

    async def on_websocket(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        user: User | None = get_user(req)
        await ws.accept()
        await ws.send_text(user.id if user else "unauthenticated")


wsgi_app = falcon.App()
wsgi_app.add_route("/me", Me())
application = StackAuthWSGIMiddleware(wsgi_app, config=auth)

asgi_app = falcon.asgi.App()
asgi_app.add_route("/me", AsyncMe())
asgi_application = StackAuthASGIMiddleware(asgi_app, project_id="internal", websocket_refusal="accept")
