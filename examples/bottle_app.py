"""A Bottle app: `require_auth` passes the user to a callback.

Run: STACK_PROJECT_ID=<your project's id> gunicorn bottle_app:application

The rules leave /hello and all below it open; `require_auth` requires a user for one callback there. Bottle's own
tools (`app.run`, plugins, mounts) take `app`, servers take `application`.
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


@require_auth(profile=True)  # loaded from Stack Auth, with STACK_SECRET_SERVER_KEY
def hello_name(user: User, name: str) -> dict[str, str | None]:
    return {"hello": name, "from": user.display_name}


app = Bottle()
for path, callback in {"/healthz": healthz, "/me": me, "/hello": hello, "/hello/<name>": hello_name}.items():
    app.route(path, callback=callback)
application = StackAuthWSGIMiddleware(app, config=auth)
