"""A Flask app behind Stack Auth.

Run: STACK_PROJECT_ID=<your project's id> gunicorn flask_app:app
"""

from flask import Flask, request

from stackauth_middleware import Rule, StackAuthWSGIMiddleware, get_user, require_user

app = Flask(__name__)
app.wsgi_app = StackAuthWSGIMiddleware(  # type: ignore[method-assign]
    app.wsgi_app, rules=[Rule("/healthz", "public"), Rule("/hello", "optional")]
)


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/me")
def me() -> dict[str, str | None]:
    user = require_user(request)
    return {"id": user.id, "email": user.email}


@app.get("/hello")
def hello() -> dict[str, str | None]:
    user = get_user(request)
    return {"hello": user.display_name if user else "stranger"}
