"""A Falcon app behind Stack Auth, on WSGI.

Run: STACK_PROJECT_ID=<your project's id> gunicorn falcon_wsgi:application

Falcon's own tools (its test client, `app.add_route`) keep `app`; servers are given `application`.
"""

from falcon import App, Request, Response

from stackauth_middleware import Rule, StackAuthWSGIMiddleware, get_user, require_user


class Health:
    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {"status": "ok"}


class Me:
    def on_get(self, req: Request, resp: Response) -> None:
        user = require_user(req)
        resp.media = {"id": user.id, "email": user.email}


class Hello:
    def on_get(self, req: Request, resp: Response) -> None:
        user = get_user(req)
        resp.media = {"hello": user.display_name if user else "stranger"}


app = App()
app.add_route("/healthz", Health())
app.add_route("/me", Me())
app.add_route("/hello", Hello())

application = StackAuthWSGIMiddleware(app, rules=[Rule("/healthz", "public"), Rule("/hello", "optional")])
