"""A FastAPI app behind Stack Auth.

Run: STACK_PROJECT_ID=<your project's id> uvicorn fastapi_app:app

The user is a dependency, so that endpoints ask for it by type.
"""

from typing import Annotated

from fastapi import Depends, FastAPI, Request

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, User, get_user, require_user

auth = StackAuthConfig(rules=[Rule("/healthz", "public"), Rule("/hello", "optional")])

app = FastAPI()
app.add_middleware(StackAuthASGIMiddleware, config=auth)


def current_user(request: Request) -> User:
    return require_user(request)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/me")
async def me(user: Annotated[User, Depends(current_user)]) -> dict[str, str | None]:
    return {"id": user.id, "email": user.email}


@app.get("/hello")
def hello(request: Request) -> dict[str, str | None]:
    user = get_user(request)
    return {"hello": user.display_name if user else "stranger"}
