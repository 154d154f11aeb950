"""A Flask app: `require_auth` passes the user to a view.

Run: STACK_PROJECT_ID=<your project's id> gunicorn flask_app:app

The rules leave /hello and all below it open; `require_auth` requires a user for one view there.
"""

from flask import Flask, request

from stackauth_middleware import Rule, StackAuthConfig, StackAuthWSGIMiddleware, User, get_user
from stackauth_middleware.contrib.flask import require_auth

auth = StackAuthConfig(rules=[Rule("/healthz", "public"), Rule("/hello/**", "optional")])

app = Flask(__name__)
app.wsgi_app = StackAuthWSGIMiddleware(app.wsgi_app, config=auth)  # type: ignore[method-assign]


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/me")
@require_auth
def me(user: User) -> dict[str, str | None]:
    return {"id": user.id, "email": user.email}


@app.get("/hello")
def hello() -> dict[str, str | None]:
    user = get_user(request)
    return {"hello": user.display_name if user else "stranger"}


@app.get("/hello/<name>")
@require_auth(profile=True)  # loaded from Stack Auth, with STACK_SECRET_SERVER_KEY
async def hello_name(user: User, name: str) -> dict[str, str | None]:
    return {"hello": name, "from": user.display_name}
