"""A Litestar site behind the middleware, for servers with a root path. Each handler answers with its route."""

from __future__ import annotations

from stackauth_middleware import Rule, StackAuthASGIMiddleware, User
from tests.frameworks.sites import litestar_site


def refuse_all(user: User) -> bool:
    return False


RULES = [
    Rule("/public/**", "public"),
    Rule("/healthz", "public"),
    Rule("/", "public"),
    Rule("/admin", check=refuse_all),
]

application = StackAuthASGIMiddleware(litestar_site().app, rules=RULES, root_path="/r1")
