"""A Flask app behind Stack Auth, whose views are passed the user.

Run: STACK_PROJECT_ID=<your project's id> gunicorn contrib_flask:app

/hello lets everybody in; @require_auth asks for a user below it too, and refuses in the app's own way.
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
@require_auth(profile=True)  # asks Stack Auth, with STACK_SECRET_SERVER_KEY
async def hello_name(user: User, name: str) -> dict[str, str | None]:
    return {"hello": name, "from": user.display_name}
