"""Users see, rename and delete their own account by the app's API."""

from typing import Any

from fastapi import FastAPI

from stackauth_middleware import StackAuthASGIMiddleware
from stackauth_middleware.client import AsyncStackAuthClient
from stackauth_middleware.contrib.fastapi import CurrentUser

stack_auth = AsyncStackAuthClient()
app = FastAPI()
app.add_middleware(StackAuthASGIMiddleware)


@app.get("/me")
async def me(user: CurrentUser) -> dict[str, Any]:
    return {"id": user.id, "email": user.email}


@app.patch("/me")
async def rename(user: CurrentUser, name: str) -> dict[str, Any]:
    return (await stack_auth.update_user(user.id, display_name=name)).to_dict()


@app.delete("/me", status_code=204)
async def delete(user: CurrentUser) -> None:
    await stack_auth.delete_user(user.id)
