"""A Falcon app with a hook on a responder. Under WSGI it is the same without `async`, in the other middleware.

Run: STACK_PROJECT_ID=<your project's id> uvicorn contrib_falcon:application
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

application = StackAuthASGIMiddleware(app, rules=[Rule("/api/**")], default_access="optional")
