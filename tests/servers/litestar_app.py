"""A Litestar site behind a door, for servers that are told a root path. Each handler answers with its route."""

from __future__ import annotations

from stackauth_middleware import Rule, StackAuthASGIMiddleware, User
from tests.frameworks.sites import litestar_site


def nobody(user: User) -> bool:
    return False


RULES = [Rule("/public/**", "public"), Rule("/healthz", "public"), Rule("/", "public"), Rule("/admin", check=nobody)]

application = StackAuthASGIMiddleware(litestar_site().app, rules=RULES)
