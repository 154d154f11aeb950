"""Bottle: arguments of routes, coroutines, which Bottle itself cannot call, and refusals in callbacks."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from bottle import Bottle, request

from stackauth_middleware import StackAuthWSGIMiddleware, User, load_profile
from stackauth_middleware.contrib.bottle import refuse, require_auth
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


@pytest.mark.parametrize("case", cases.NO_PROFILE.values(), ids=cases.NO_PROFILE)
@pytest.mark.parametrize("handled", [False, True])
def test_plugin_answers_refusals_of_load_profile(case: Any, handled: bool, stackauth: LocalStackAuth) -> None:
    """As the middleware does, or by the app's own error handler for the status."""
    app = Bottle()
    app.install(refuse)
    app.get("/optional/plan")(lambda: load_profile(request).to_dict())
    transport = httpx.WSGITransport(app=StackAuthWSGIMiddleware(app, config=cases.config()))
    if handled:
        app.error(case.status)(lambda error: error.exception.code.value)
    with httpx.Client(transport=transport, base_url="http://testserver") as http:
        assert http.get("/optional/plan", headers=stackauth.headers()).json()["primary_email"] == JANE["email"]
        stackauth.reset()
        headers = case.send(stackauth)
        with case.trouble(stackauth):
            answer = http.get("/optional/plan", headers=headers)
    assert answer.status_code == case.status
    if handled:
        assert answer.text == case.answer().body["code"]
    else:
        assert (answer.headers["content-type"], answer.json()) == ("application/json", case.answer().body)
