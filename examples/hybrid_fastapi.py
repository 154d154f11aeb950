"""A FastAPI app that verifies tokens locally and calls Stack Auth only where it needs the profile.

Run: STACK_PROJECT_ID=<your project's id> STACK_SECRET_SERVER_KEY=<its key> uvicorn hybrid_fastapi:app

A rule loads the profile for ``/account`` before the handler runs, and refuses users who were restricted or deleted
since the token was issued; the handler sends what Stack Auth shows to clients. The handler of ``/plan`` loads the
profile itself and reads one value of the server metadata.
"""

from typing import Any

from fastapi import FastAPI, Request

from stackauth_middleware import (
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    UserProfile,
    aload_profile,
    load_profile,
    require_user,
)

auth = StackAuthConfig(rules=[Rule("/account", profile=True)], profile_ttl=60)

app = FastAPI()
app.add_middleware(StackAuthASGIMiddleware, config=auth)


@app.get("/me")
async def me(request: Request) -> dict[str, str]:
    return {"id": require_user(request).id}


@app.get("/account")
async def account(request: Request) -> dict[str, Any]:
    return require_user(request).to_dict()


def plan_of(profile: UserProfile) -> Any:
    """Return the plan. Users can neither read nor write server metadata."""
    return (profile.server_metadata or {}).get("plan", "free")


@app.get("/plan")
async def plan(request: Request) -> dict[str, Any]:
    profile = await aload_profile(request)
    return {"plan": plan_of(profile)}


@app.post("/plan/refresh")
def refresh(request: Request) -> dict[str, Any]:
    return {"plan": plan_of(load_profile(request, fresh=True))}
