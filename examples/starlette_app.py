"""A Starlette app behind Stack Auth.

Run: STACK_PROJECT_ID=<your project's id> uvicorn starlette_app:app

The API address, where it is not the hosted one, is STACK_API_URL.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, get_user, require_user

auth = StackAuthConfig(rules=[Rule("/healthz", "public"), Rule("/hello", "optional")])


async def healthz(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def me(request: Request) -> JSONResponse:
    user = require_user(request)
    return JSONResponse({"id": user.id, "email": user.email})


async def hello(request: Request) -> JSONResponse:
    user = get_user(request)
    return JSONResponse({"hello": user.display_name if user else "stranger"})


app = Starlette(routes=[Route("/healthz", healthz), Route("/me", me), Route("/hello", hello)])
app.add_middleware(StackAuthASGIMiddleware, config=auth)
