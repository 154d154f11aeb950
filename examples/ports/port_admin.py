"""Admins by a flag in the server's metadata, beside a Stack Auth of one's own; they can delete users."""

from fastapi import FastAPI, HTTPException

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, User
from stackauth_middleware.client import AsyncStackAuthClient, NotFoundError


def is_admin(user: User) -> bool:
    return user.profile is not None and (user.profile.server_metadata or {}).get("is_admin") is True


auth = StackAuthConfig(api_url="http://localhost:8102", rules=[Rule("/admin/**", profile=True, check=is_admin)])
stack_auth = AsyncStackAuthClient(auth)
app = FastAPI()
app.add_middleware(StackAuthASGIMiddleware, config=auth)


@app.delete("/admin/users/{user_id}", status_code=204)
async def delete(user_id: str) -> None:
    try:
        await stack_auth.delete_user(user_id)
    except NotFoundError as error:
        raise HTTPException(404) from error
