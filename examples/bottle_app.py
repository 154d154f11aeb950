"""A Bottle app behind Stack Auth.

Run: STACK_PROJECT_ID=<your project's id> gunicorn bottle_app:application

Bottle's own tools (`app.run`, plugins, mounts) keep `app`; servers are given `application`.
"""

from bottle import Bottle, request

from stackauth_middleware import Rule, StackAuthWSGIMiddleware, get_user, require_user


def healthz() -> dict[str, str]:
    return {"status": "ok"}


def me() -> dict[str, str | None]:
    user = require_user(request)
    return {"id": user.id, "email": user.email}


def hello() -> dict[str, str | None]:
    user = get_user(request)
    return {"hello": user.display_name if user else "stranger"}


app = Bottle()
app.route("/healthz", callback=healthz)
app.route("/me", callback=me)
app.route("/hello", callback=hello)

application = StackAuthWSGIMiddleware(app, rules=[Rule("/healthz", "public"), Rule("/hello", "optional")])
