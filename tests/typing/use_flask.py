"""Mounting on Flask, and reading the user. Type-checked, not run."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request

from stackauth_middleware import Rule, StackAuthConfig, StackAuthWSGIMiddleware, User, get_user, require_user

auth = StackAuthConfig(rules=[Rule("/healthz", "public")])
app = Flask(__name__)
app.wsgi_app = StackAuthWSGIMiddleware(app.wsgi_app, auth)  # type: ignore[method-assign]

other = Flask(__name__)
other.wsgi_app = StackAuthWSGIMiddleware(  # type: ignore[method-assign]
    other.wsgi_app, project_id="internal", rules=[Rule("/me")], error_body="problem"
)


@app.get("/me")
def me() -> Response:
    user: User = require_user(request)
    return jsonify(user)


@app.get("/hello")
def hello() -> str:
    user: User | None = get_user(request)
    return user.id if user else "unauthenticated"
