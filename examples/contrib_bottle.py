"""A Bottle app behind Stack Auth, whose callbacks are passed the user.

Run: STACK_PROJECT_ID=<your project's id> gunicorn contrib_bottle:application

/hello lets everybody in; require_auth asks for a user below it too, and refuses in the app's own way.
"""

from bottle import Bottle, request

from stackauth_middleware import Rule, StackAuthConfig, StackAuthWSGIMiddleware, User, get_user
from stackauth_middleware.contrib.bottle import require_auth

auth = StackAuthConfig(rules=[Rule("/healthz", "public"), Rule("/hello/**", "optional")])


def healthz() -> dict[str, str]:
    return {"status": "ok"}


@require_auth
def me(user: User) -> dict[str, str | None]:
    return {"id": user.id, "email": user.email}


def hello() -> dict[str, str | None]:
    user = get_user(request)
    return {"hello": user.display_name if user else "stranger"}


@require_auth(profile=True)  # asks Stack Auth, with STACK_SECRET_SERVER_KEY
def hello_name(user: User, name: str) -> dict[str, str | None]:
    return {"hello": name, "from": user.display_name}


app = Bottle()
for path, callback in {"/healthz": healthz, "/me": me, "/hello": hello, "/hello/<name>": hello_name}.items():
    app.route(path, callback=callback)
application = StackAuthWSGIMiddleware(app, config=auth)
