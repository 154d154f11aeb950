"""A Starlette app: typed request state, and exception handlers for what `require_user` raises.

Run: STACK_PROJECT_ID=<your project's id> uvicorn starlette_app:app
"""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, require_user
from stackauth_middleware.contrib.starlette import AuthState, refusal_handlers

auth = StackAuthConfig(rules=[Rule("/healthz", "public"), Rule("/hello", "optional")])


async def healthz(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def hello(request: Request[AuthState]) -> JSONResponse:
    user = request.state["user"]
    return JSONResponse({"hello": user.display_name if user else "stranger"})


async def me(request: Request) -> JSONResponse:
    return JSONResponse(require_user(request).to_dict())


app = Starlette(
    routes=[Route("/healthz", healthz), Route("/hello", hello), Route("/me", me)],
    middleware=[Middleware(StackAuthASGIMiddleware, config=auth)],
    exception_handlers=refusal_handlers,
)
