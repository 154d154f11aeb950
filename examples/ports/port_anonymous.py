"""Visitors try the app without an account; what costs money needs one with a verified address."""

from typing import Any

from litestar import Litestar, Request, get, post
from litestar.middleware import DefineMiddleware

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, require_user

auth = StackAuthConfig(rules=[Rule("/draft", allow_anonymous=True)])


@get("/draft", sync_to_thread=False)
def draft(request: Request[Any, Any, Any]) -> dict[str, Any]:
    user = require_user(request)
    return {"draft_of": user.id, "guest": user.is_anonymous}


@post("/publish", sync_to_thread=False)
def publish(request: Request[Any, Any, Any]) -> dict[str, str]:
    return {"published_by": require_user(request).id}


app = Litestar([draft, publish], middleware=[DefineMiddleware(StackAuthASGIMiddleware, config=auth)])
