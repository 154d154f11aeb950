"""A Flask app that verifies tokens locally and calls Stack Auth only where it needs the profile.

Run: STACK_PROJECT_ID=<your project's id> STACK_SECRET_SERVER_KEY=<its key> gunicorn hybrid_flask:app

A rule loads the profile for ``/account`` before the view runs, and refuses users who were restricted or deleted
since the token was issued; the view sends what Stack Auth shows to clients. The view of ``/plan`` loads the
profile itself and reads one value of the server metadata.
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
    """Return the plan. Users can neither read nor write server metadata."""
    return (profile.server_metadata or {}).get("plan", "free")


@app.get("/plan")
def plan() -> dict[str, Any]:
    return {"plan": plan_of(load_profile(request))}


@app.post("/plan/refresh")
def refresh() -> dict[str, Any]:
    return {"plan": plan_of(load_profile(request, fresh=True))}
