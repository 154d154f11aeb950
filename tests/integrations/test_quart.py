"""Quart: arguments of routes, `refuse` for views that call `aload_profile`, and the test client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from quart import Quart, request
from quart.testing import WebsocketResponseError
from werkzeug.exceptions import HTTPException, Unauthorized

from stackauth_middleware import AuthServerError, RefusedError, StackAuthASGIMiddleware, User, aload_profile
from stackauth_middleware.contrib.quart import refuse, require_auth
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE, Answer
from .site import running


def app(register: Callable[[Quart], Any] = lambda _: None, **settings: Any) -> Quart:
    made = Quart(__name__, static_folder=None)
    made.register_error_handler(RefusedError, refuse)
    made.register_error_handler(AuthServerError, refuse)

    @made.get("/items/<name>")
    @require_auth
    def item(user: User, name: str) -> list[Any]:
        return [user.email, name, request.path]

    @made.get("/optional/own-profile")
    async def own_profile() -> dict[str, Any]:
        return (await aload_profile(request)).to_dict()

    register(made)
    made.asgi_app = StackAuthASGIMiddleware(made.asgi_app, cases.config(**settings))
    return made


def get(made: Quart, path: str, headers: Any = None) -> Answer:
    async def ask() -> Answer:
        response = await made.test_client().get(path, headers=headers)
        return cases.answer(response.status_code, response.headers.items(), await response.get_data())

    return asyncio.run(ask())


def test_arguments_of_the_route_follow_the_user(stackauth: LocalStackAuth) -> None:
    """Also in the thread of a plain function, where the request context is set."""
    assert get(app(), "/items/x", stackauth.headers()).body == [JANE["email"], "x", "/items/x"]


@pytest.mark.parametrize("name", cases.NO_PROFILE)
def test_refuse_responds_for_a_view_that_loads_the_profile_itself(name: str, stackauth: LocalStackAuth) -> None:
    case, form = cases.NO_PROFILE[name], cases.FORMS["problem"]
    headers = {"origin": cases.ORIGIN, **case.send(stackauth)}
    with case.trouble(stackauth):
        assert get(app(**form.settings), "/optional/own-profile", headers) == case.answer(form)


@pytest.mark.parametrize("key", [Unauthorized, 401, HTTPException])
def test_own_handler_takes_what_refuse_raises(key: Any, stackauth: LocalStackAuth) -> None:
    async def own(error: HTTPException) -> tuple[dict[str, Any], int]:
        return {"oops": error.description}, error.code or 0

    made = app(lambda made: made.register_error_handler(key, own))
    assert get(made, "/optional/own-profile")[::2] == (401, {"oops": "Access token required"})


def test_test_client_raises_for_a_refused_websocket(stackauth: LocalStackAuth) -> None:
    """Quart's client offers the extension for a response, as most servers do."""

    async def connect(made: Quart) -> None:
        async with made.test_client().websocket("/optional/socket") as socket:
            await socket.receive()

    with running("quart") as site, pytest.raises(WebsocketResponseError) as caught:
        asyncio.run(connect(site.application))
    assert caught.value.response.status_code == 401
