"""Types of `contrib` for FastAPI. Type-checked, not run."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Request, WebSocket
from typing_extensions import assert_type

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig, User, UserProfile
from stackauth_middleware.contrib.fastapi import (
    CurrentProfile,
    CurrentUser,
    OptionalUser,
    current_profile,
    current_user,
    optional_user,
)

app = FastAPI()
app.add_middleware(StackAuthASGIMiddleware, config=StackAuthConfig())
app.add_middleware(StackAuthASGIMiddleware, default_access="optional")


@app.get("/me")
async def me(user: CurrentUser) -> User:
    assert_type(user, User)
    return user


@app.get("/hello")
def hello(user: OptionalUser) -> str | None:
    assert_type(user, User | None)
    return user.email if user else None


@app.get("/profile")
def profile(profile: CurrentProfile) -> UserProfile:
    assert_type(profile, UserProfile)
    return profile


@app.get("/spelled-out", dependencies=[Depends(current_user)])
async def spelled_out(
    user: Annotated[User, Depends(current_user)], optional: Annotated[User | None, Depends(optional_user)]
) -> bool:
    return user is optional


@app.websocket("/socket")
async def socket(websocket: WebSocket, user: CurrentUser) -> None:
    assert_type(user, User)


def own_dependency(user: CurrentUser) -> str:
    return user.user_id


async def by_hand(request: Request) -> None:
    assert_type(await current_user(request), User)
    assert_type(await optional_user(request), User | None)
    assert_type(await current_profile(request), UserProfile)


def optional(user: User) -> None:
    app.dependency_overrides[current_user] = lambda: user
