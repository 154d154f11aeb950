"""A Falcon app behind Stack Auth, on ASGI.

Run: STACK_PROJECT_ID=<your project's id> uvicorn falcon_asgi:application

Falcon's own tools (its test client, `app.add_route`) keep `app`; servers are given `application`.
"""

from falcon.asgi import App, Request, Response

from stackauth_middleware import Rule, StackAuthASGIMiddleware, get_user, require_user


class Health:
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {"status": "ok"}


class Me:
    async def on_get(self, req: Request, resp: Response) -> None:
        user = require_user(req)
        resp.media = {"id": user.id, "email": user.email}


class Hello:
    async def on_get(self, req: Request, resp: Response) -> None:
        user = get_user(req)
        resp.media = {"hello": user.display_name if user else "stranger"}


app = App()
app.add_route("/healthz", Health())
app.add_route("/me", Me())
app.add_route("/hello", Hello())

application = StackAuthASGIMiddleware(app, rules=[Rule("/healthz", "public"), Rule("/hello", "optional")])
