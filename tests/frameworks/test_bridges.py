"""The user of a middleware of one protocol, in an app of the other protocol behind a bridge between the two."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import a2wsgi
import pytest
from django.utils.module_loading import import_string
from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from stackauth_middleware import (
    ConfigError,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    aload_profile,
    get_user,
    load_profile,
    require_user,
)
from stackauth_middleware.testing import LocalStackAuth

from .ask import Ask, Loop, ask_wsgi
from .django_project import IdViews, installed, wsgi_application

JANE = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def auth(project: str) -> StackAuthConfig:
    return StackAuthConfig(secret_server_key="ssk_of_the_tests")


def flask_app() -> Flask:
    app = Flask(__name__)

    @app.get("/me")
    def me() -> dict[str, Any]:
        user, environ = require_user(request), request.environ
        return {"id": user.user_id, "email": load_profile(request).primary_email, "same": get_user(environ) is user}

    return app


def starlette_app() -> Starlette:
    async def me(request: Request) -> JSONResponse:
        user, scope = require_user(request), request.scope
        email = (await aload_profile(request)).primary_email
        return JSONResponse({"id": user.user_id, "email": email, "same": get_user(scope) is user})

    return Starlette(routes=[Route("/me", me)])


def outcome(app: Any, headers: Any) -> Any:
    """Return the JSON of ``/me``; an exception of the app is raised here."""
    if isinstance(app, StackAuthWSGIMiddleware):
        return json.loads(ask_wsgi(app, Ask("/me", headers=headers)).body)
    loop = Loop()
    try:
        return json.loads(loop.ask(app, Ask("/me", headers=headers)).body)
    finally:
        loop.close()


KEPT: dict[str, Callable[[], Any]] = {
    "Flask in a2wsgi": lambda: a2wsgi.WSGIMiddleware(flask_app()),
    "Flask in a2wsgi in a Mount": lambda: Starlette(routes=[Mount("/", a2wsgi.WSGIMiddleware(flask_app()))]),
    "Django in a2wsgi": lambda: a2wsgi.WSGIMiddleware(wsgi_application()),
    "Starlette in a2wsgi": lambda: a2wsgi.ASGIMiddleware(starlette_app()),
    "Flask in Starlette in a2wsgi": lambda: a2wsgi.ASGIMiddleware(a2wsgi.WSGIMiddleware(flask_app())),
}


@pytest.mark.parametrize("name", KEPT)
def test_user_is_found_behind_a_bridge_that_passes_on_the_scope(
    name: str, auth: StackAuthConfig, stackauth: LocalStackAuth
) -> None:
    app = KEPT[name]()
    with installed(ROOT_URLCONF=IdViews):
        kind = StackAuthWSGIMiddleware if isinstance(app, a2wsgi.ASGIMiddleware) else StackAuthASGIMiddleware
        sent = outcome(kind(app, auth), stackauth.headers(sub=JANE, email="jane@example.com"))
    rest = {} if name.startswith("Django") else {"email": "jane@example.com", "same": True}
    assert sent == {"id": JANE, **rest}


@pytest.mark.parametrize("bridge", ["starlette.middleware.wsgi.WSGIMiddleware", "asgiref.wsgi.WsgiToAsgi"])
def test_error_names_a_bridge_that_drops_the_user(
    bridge: str, auth: StackAuthConfig, stackauth: LocalStackAuth
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Starlette's is deprecated
        make = import_string(bridge)
    app = flask_app()
    app.testing = True  # so that the exception of the view is raised here
    with pytest.raises(ConfigError, match=r"of Starlette, FastAPI and asgiref drop .*a2wsgi\.WSGIMiddleware keeps it"):
        outcome(StackAuthASGIMiddleware(make(app), auth), stackauth.headers())
