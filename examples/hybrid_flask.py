"""A Flask app that checks tokens by itself and asks Stack Auth only where the whole profile is wanted.

Run: STACK_PROJECT_ID=<your project's id> STACK_SECRET_SERVER_KEY=<its key> gunicorn hybrid_flask:app

Tokens are checked without a call. ``/account`` has its profile loaded before the view runs, and
refuses whoever was restricted or deleted meanwhile; it answers what Stack Auth shows to clients. ``/plan`` loads
the profile by itself and picks one value of what servers keep about the user.
"""

from typing import Any

from flask import Flask, request

from stackauth_middleware import Rule, StackAuthConfig, StackAuthWSGIMiddleware, UserProfile, load_profile, require_user

auth = StackAuthConfig(rules=[Rule("/account", profile=True)], profile_ttl=60)

app = Flask(__name__)
app.wsgi_app = StackAuthWSGIMiddleware(app.wsgi_app, config=auth)  # type: ignore[method-assign]


@app.get("/me")
def me() -> dict[str, str]:
    return {"id": require_user(request).id}


@app.get("/account")
def account() -> dict[str, Any]:
    return require_user(request).to_dict()


def plan_of(profile: UserProfile) -> Any:
    """Return the plan, which the app keeps where the user can neither see nor change it."""
    return (profile.server_metadata or {}).get("plan", "free")


@app.get("/plan")
def plan() -> dict[str, Any]:
    return {"plan": plan_of(load_profile(request))}


@app.post("/plan/refresh")
def refresh() -> dict[str, Any]:
    return {"plan": plan_of(load_profile(request, fresh=True))}
