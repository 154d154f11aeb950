"""A Flask app that checks tokens by itself and asks Stack Auth only where the whole profile is wanted.

Run: STACK_PROJECT_ID=<your project's id> STACK_SECRET_SERVER_KEY=<its key> gunicorn hybrid_flask:app

Tokens are checked without a call. ``/account`` has its profile loaded before the view runs, and
refuses whoever was restricted or deleted meanwhile; ``/plan`` loads it by itself.
"""

from typing import Any

from flask import Flask, request

from stackauth_middleware import Rule, StackAuthConfig, StackAuthWSGIMiddleware, load_profile, require_user

auth = StackAuthConfig(rules=[Rule("/account", profile=True)], profile_ttl=60)

app = Flask(__name__)
app.wsgi_app = StackAuthWSGIMiddleware(app.wsgi_app, config=auth)  # type: ignore[method-assign]


@app.get("/me")
def me() -> dict[str, str]:
    return {"id": require_user(request).id}


@app.get("/account")
def account() -> dict[str, Any]:
    return require_user(request).to_dict()


@app.get("/plan")
def plan() -> dict[str, Any]:
    return {"plan": load_profile(request).server_metadata}


@app.post("/plan/refresh")
def refresh() -> dict[str, Any]:
    return {"plan": load_profile(request, fresh=True).server_metadata}
