"""A FastAPI app that checks tokens by itself and asks Stack Auth only where the whole profile is wanted.

Run: STACK_PROJECT_ID=<your project's id> STACK_SECRET_SERVER_KEY=<its key> uvicorn hybrid_fastapi:app

Tokens are checked without a call. ``/account`` has its profile loaded before the handler runs, and
refuses whoever was restricted or deleted meanwhile; it answers what Stack Auth shows to clients. ``/plan`` loads
the profile by itself and picks one value of what servers keep about the user.
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
    """Return the plan, which the app keeps where the user can neither see nor change it."""
    return (profile.server_metadata or {}).get("plan", "free")


@app.get("/plan")
async def plan(request: Request) -> dict[str, Any]:
    profile = await aload_profile(request)
    return {"plan": plan_of(profile)}


@app.post("/plan/refresh")
def refresh(request: Request) -> dict[str, Any]:
    return {"plan": plan_of(load_profile(request, fresh=True))}
