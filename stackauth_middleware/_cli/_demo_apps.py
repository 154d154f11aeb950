"""The two protected apps of the demo, and its requests."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from .. import Rule, StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware, require_user
from .._core.users import User

STAFF = "staff@example.com"


def is_staff(user: User) -> bool:
    """Return whether `user` has the verified address of staff: anyone can sign up with an unverified one."""
    return user.email_verified and user.email == STAFF


RULES = (Rule("/", "public"), Rule("/staff", check=is_staff))
"""The home page is public, one page is for staff, and all others need a signed-in user."""


class Case(NamedTuple):
    """A request and the expected response.

    Attributes:
        name: what the request demonstrates.
        status: expected HTTP status.
        code: expected error code in the body; "" if the app responds.
        headers: headers of the request.
        path: path of the request.
    """

    name: str
    status: int
    code: str
    headers: tuple[tuple[str, str], ...] = ()
    path: str = "/me"


def with_variants(normal: str, restricted: str, **others: str) -> dict[str, str]:
    """Return the tokens by name, plus a forged one and the normal one as ``getAuthorizationHeader()`` wraps it."""
    forged = f"{normal.rpartition('.')[0]}.{restricted.rpartition('.')[2]}"
    pair = json.dumps({"accessToken": normal, "refreshToken": None})
    wrapped = f"stackauth_{base64.b64encode(pair.encode()).decode()}"
    return {"normal": normal, "restricted": restricted, **others, "forged": forged, "wrapped": wrapped}


def cases(*, normal: str, restricted: str, anonymous: str, expired: str, forged: str, wrapped: str) -> list[Case]:
    """Return the requests with these tokens."""
    name = "x-stack-access-token"
    return [
        Case("a public page", 200, "", path="/"),
        Case("a signed-in user", 200, "", ((name, normal),)),
        Case("the same by getAuthorizationHeader()", 200, "", (("authorization", f"Bearer {wrapped}"),)),
        Case("no token", 401, "missing_token"),
        Case("a token with another signature", 401, "invalid_token", ((name, forged),)),
        Case("an expired token", 401, "expired_token", ((name, expired),)),
        Case("an anonymous user", 401, "anonymous_not_allowed", ((name, anonymous),)),
        Case("a restricted user", 403, "restricted_not_allowed", ((name, restricted),)),
        Case("a user who is not staff", 403, "forbidden", ((name, normal),), "/staff"),
        Case("a token twice", 400, "invalid_request", ((name, normal), (name, normal))),
    ]


def _body(app: str, user: User) -> dict[str, Any]:
    return {"app": app, "user": user.to_dict()}


def starlette_app(config: StackAuthConfig) -> Callable[..., Any]:
    """Return the protected Starlette app."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def home(request: Request) -> JSONResponse:
        return JSONResponse({"app": "starlette"})

    async def me(request: Request) -> JSONResponse:
        return JSONResponse(_body("starlette", require_user(request)))

    app = Starlette(routes=[Route("/", home), Route("/me", me), Route("/staff", me)])
    app.add_middleware(StackAuthASGIMiddleware, config=config)
    return app


def bottle_app(config: StackAuthConfig) -> Callable[..., Any]:
    """Return the protected Bottle app."""
    import bottle

    app = bottle.Bottle()

    def home() -> dict[str, Any]:
        return {"app": "bottle"}

    def me() -> dict[str, Any]:
        return _body("bottle", require_user(bottle.request))

    app.route("/", callback=home)
    app.route("/me", callback=me)
    app.route("/staff", callback=me)
    return StackAuthWSGIMiddleware(app, config)
