"""A Litestar app: a guard, and request types whose user is typed.

Run: STACK_PROJECT_ID=<your project's id> uvicorn litestar_app:app
"""

from typing import Any

from litestar import Litestar, Request, get
from litestar.config.cors import CORSConfig
from litestar.middleware import DefineMiddleware

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, User, get_user
from stackauth_middleware.contrib.litestar import AuthRequest, require_auth

auth = StackAuthConfig(rules=[Rule("/healthz", "public"), Rule("/hello", "optional")], request_user=True)


@get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@get("/hello")
async def hello(request: Request[Any, Any, Any]) -> dict[str, str | None]:
    user = get_user(request)
    return {"hello": user.display_name if user else "stranger"}


@get("/me", guards=[require_auth])
async def me(request: AuthRequest) -> User:
    return request.user


app = Litestar(
    [healthz, hello, me],
    middleware=[DefineMiddleware(StackAuthASGIMiddleware, config=auth)],
    cors_config=CORSConfig(allow_origins=["http://localhost:3000"], allow_headers=["x-stack-access-token"]),
)
