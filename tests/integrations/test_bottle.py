"""Bottle: arguments of routes, and coroutines, which Bottle itself cannot call."""

from __future__ import annotations

import httpx
import pytest
from bottle import Bottle

from stackauth_middleware import StackAuthWSGIMiddleware, User
from stackauth_middleware.contrib.bottle import require_auth
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE


@pytest.mark.parametrize("is_async", [False, True])
def test_arguments_of_the_route_follow_the_user(is_async: bool, stackauth: LocalStackAuth) -> None:
    app = Bottle()

    def item(user: User, name: str) -> dict[str, str | None]:
        return {"email": user.email, "name": name}

    async def aitem(user: User, name: str) -> dict[str, str | None]:
        return item(user, name)

    app.get("/items/<name>")(require_auth(aitem if is_async else item))
    transport = httpx.WSGITransport(app=StackAuthWSGIMiddleware(app, config=cases.config()))
    with httpx.Client(transport=transport, base_url="http://testserver") as http:
        sent = http.get("/items/axe", headers=stackauth.headers()).json()
    assert sent == {"email": JANE["email"], "name": "axe"}
