"""Flask: names and arguments of views, `refuse` for views that call `require_user`, and streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, request
from flask.views import MethodView
from werkzeug.exceptions import HTTPException

from stackauth_middleware import (
    AuthServerError,
    RefusedError,
    StackAuthWSGIMiddleware,
    User,
    load_profile,
    require_user,
)
from stackauth_middleware.contrib.flask import refuse, require_auth
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE, Answer


class Item(MethodView):
    def get(self) -> str:
        return require_user(request).user_id

    def post(self) -> str:
        return load_profile(request).id


def mounted(app: Flask, **settings: Any) -> Any:
    """Return the test client of `app` behind the middleware."""
    app.testing = True
    app.wsgi_app = StackAuthWSGIMiddleware(app.wsgi_app, config=cases.config(**settings))
    return app.test_client()


def answered(response: Any) -> Answer:
    return cases.answer(response.status_code, list(response.headers), response.data)


@pytest.mark.parametrize("is_async", [False, True])
def test_view_keeps_its_name_and_arguments(is_async: bool, stackauth: LocalStackAuth) -> None:
    """Flask derives endpoints from names. Arguments of the route follow the user."""
    app = Flask(__name__)

    def item(user: User, name: str) -> list[str | None]:
        return [user.email, name]

    async def aitem(user: User, name: str) -> list[str | None]:
        return item(user, name)

    app.get("/items/<name>")(require_auth(aitem if is_async else item))
    assert ("aitem" if is_async else "item") in app.view_functions
    assert mounted(app).get("/items/axe", headers=stackauth.headers()).json == [JANE["email"], "axe"]


@pytest.mark.parametrize("own", [False, True])
def test_refuse_responds_for_a_view_that_requires_the_user_itself(own: bool, stackauth: LocalStackAuth) -> None:
    """By an error handler of the app, or with the response of the middleware."""
    app, form = Flask(__name__), cases.FORMS["problem"]
    app.register_error_handler(RefusedError, refuse)
    app.register_error_handler(AuthServerError, refuse)
    if own:
        app.register_error_handler(401, lambda error: ({"oops": error.description}, 401))
    app.add_url_rule("/optional/item", view_func=Item.as_view("method_view"))
    http = mounted(app, **form.settings)
    headers, origin = stackauth.headers(), {"origin": cases.ORIGIN}
    assert http.get("/optional/item", headers=headers).text == JANE["id"]
    assert http.post("/optional/item", headers=headers).text == JANE["id"]
    refusal = answered(http.get("/optional/item", headers=origin))
    if own:
        assert (refusal.status, refusal.body) == (401, {"oops": "Access token required"})
    else:
        assert refusal == cases.REFUSED["missing"].answer(form)
    stackauth.reset()
    with stackauth.down(only="users/me"):
        refusal = answered(http.post("/optional/item", headers={**headers, **origin}))
    assert refusal == cases.NO_PROFILE["unreachable"].answer(form)


def test_handler_for_all_statuses_takes_refusals(stackauth: LocalStackAuth) -> None:
    app = Flask(__name__)
    app.register_error_handler(HTTPException, lambda error: ({"status": error.code}, error.code))
    app.get("/optional/profile")(require_auth(profile=True)(cases.seen))
    http = mounted(app)
    with stackauth.down(only="users/me"):
        response = http.get("/optional/profile", headers=stackauth.headers())
    assert (response.status_code, response.json) == (503, {"status": 503})


def test_stream_is_passed_on_as_it_is_made(stackauth: LocalStackAuth) -> None:
    made = 0
    app = Flask(__name__)

    @app.get("/slow")
    def slow() -> Any:
        def chunks() -> Iterator[bytes]:
            nonlocal made
            for made in (1, 2):  # noqa: B007 - read outside
                yield b"x"

        return chunks()

    response = mounted(app).get("/slow", headers=stackauth.headers(), buffered=False)
    chunks = response.iter_encoded()
    assert (next(chunks), made) == (b"x", 1)
    response.close()
