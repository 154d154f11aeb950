"""A Falcon app: `require_auth` is a hook that sets the user on the request context.

Run: STACK_PROJECT_ID=<your project's id> uvicorn falcon_app:application

For WSGI, write the responders without ``async`` and wrap `falcon.App` in `StackAuthWSGIMiddleware`. Falcon's own tools
take `app`, servers take `application`.
"""

import falcon
from falcon.asgi import App, Request, Response

from stackauth_middleware import Rule, StackAuthASGIMiddleware, get_user
from stackauth_middleware.contrib.falcon import require_auth


class Health:
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {"status": "ok"}


class Hello:
    async def on_get(self, req: Request, resp: Response) -> None:
        user = get_user(req)
        resp.media = {"hello": user.display_name if user else "stranger"}


class Me:
    @falcon.before(require_auth)
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.media = req.context.user.to_dict()


app = App()
app.add_route("/healthz", Health())
app.add_route("/hello", Hello())
app.add_route("/me", Me())

application = StackAuthASGIMiddleware(app, rules=[Rule("/healthz", "public"), Rule("/hello", "optional")])
