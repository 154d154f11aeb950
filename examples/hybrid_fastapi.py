"""A FastAPI app that checks tokens by itself and asks Stack Auth only where the whole profile is wanted.

Run: STACK_PROJECT_ID=<your project's id> STACK_SECRET_SERVER_KEY=<its key> uvicorn hybrid_fastapi:app

Tokens are checked without a call. ``/account`` has its profile loaded before the handler runs, and
refuses whoever was restricted or deleted meanwhile; ``/plan`` loads it by itself.
"""

from typing import Any

from fastapi import FastAPI, Request

from stackauth_middleware import (
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
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


@app.get("/plan")
async def plan(request: Request) -> dict[str, Any]:
    profile = await aload_profile(request)
    return {"plan": profile.server_metadata}


@app.post("/plan/refresh")
def refresh(request: Request) -> dict[str, Any]:
    return {"plan": load_profile(request, fresh=True).server_metadata}
