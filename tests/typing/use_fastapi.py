"""Mounting on FastAPI in every form, and the user as a dependency and as a response model. Type-checked, not run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from fastapi.middleware import Middleware
from typing_extensions import assert_type

from stackauth_middleware import (
    StackAuthASGIMiddleware,
    StackAuthConfig,
    User,
    UserProfile,
    aload_profile,
    get_user,
    load_profile,
    require_user,
)

auth = StackAuthConfig(default_access="optional")
app = FastAPI(middleware=[Middleware(StackAuthASGIMiddleware, config=auth)])
app.add_middleware(StackAuthASGIMiddleware, config=auth)
app.add_middleware(StackAuthASGIMiddleware, api_url="http://localhost:8102", error_body="problem")
app.mount("/v2", StackAuthASGIMiddleware(FastAPI(), auth))
router = APIRouter()


def current_user(request: Request) -> User:
    return require_user(request)


CurrentUser = Annotated[User, Depends(current_user)]


@app.get("/me")
async def me(user: CurrentUser) -> User:
    assert_type(user, User)
    return user


@router.get("/maybe", response_model=User | None)
def maybe(request: Request) -> User | None:
    return get_user(request)


@router.get("/profile")
async def profile(request: Request) -> UserProfile:
    return await aload_profile(request)


@router.get("/fresh")
def fresh(request: Request) -> UserProfile:
    return load_profile(request, fresh=True)


@app.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    assert_type(get_user(websocket), User | None)
