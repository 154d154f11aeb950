"""FastAPI: mounting in every form, the user as a dependency and response model, `contrib`. Type-checked, not run."""

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
from stackauth_middleware.contrib.fastapi import (
    CurrentProfile,
    CurrentUser,
    OptionalApiKey,
    OptionalUser,
    current_profile,
    current_user,
    optional_user,
    require_permission,
)

auth = StackAuthConfig(default_access="optional")
app = FastAPI(middleware=[Middleware(StackAuthASGIMiddleware, config=auth)])
app.add_middleware(StackAuthASGIMiddleware, config=auth)
app.add_middleware(StackAuthASGIMiddleware, api_url="http://localhost:8102", error_body="problem")
app.mount("/v2", StackAuthASGIMiddleware(FastAPI(), auth))
router = APIRouter()


@router.get("/maybe", response_model=User | None)
def maybe(request: Request) -> User | None:
    return get_user(request)


@router.get("/loaded")
async def loaded(request: Request) -> UserProfile:
    assert_type(require_user(request), User)
    return await aload_profile(request)


@router.get("/fresh")
def fresh(request: Request) -> UserProfile:
    return load_profile(request, fresh=True)


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
    assert_type(get_user(websocket), User | None)


def own_dependency(user: CurrentUser) -> str:
    return user.user_id


async def by_hand(request: Request) -> None:
    assert_type(await current_user(request), User)
    assert_type(await optional_user(request), User | None)
    assert_type(await current_profile(request), UserProfile)


def optional(user: User) -> None:
    app.dependency_overrides[current_user] = lambda: user


@app.get("/teams/{team_id}")
async def in_team(user: Annotated[User, Depends(require_permission("read", team="team_id"))]) -> str:
    return user.user_id


@app.get("/v1")
async def key(key: OptionalApiKey) -> str | None:
    return key.team_id if key else None
