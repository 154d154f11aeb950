"""Verify the token locally, and load the user's current profile where a handler needs it."""

from typing import Any

from fastapi import FastAPI

from stackauth_middleware import StackAuthASGIMiddleware
from stackauth_middleware.contrib.fastapi import CurrentProfile, CurrentUser

app = FastAPI()
app.add_middleware(StackAuthASGIMiddleware)


@app.get("/me")
async def me(user: CurrentUser) -> dict[str, Any]:
    return {"id": user.id, "email": user.email}


@app.get("/plan")
async def plan(profile: CurrentProfile) -> dict[str, Any]:
    return {"plan": (profile.client_read_only_metadata or {}).get("plan", "free")}
