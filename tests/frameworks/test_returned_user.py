"""A handler returns the user: the answer holds the fields of `User.to_dict()`, and no token and no claims.

Many an encoder sends whatever it finds on an object; a token in there would be sent to whoever asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request
from litestar import Litestar, get
from litestar import Request as LitestarRequest

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware, User, get_user
from stackauth_middleware.testing import LocalStackAuth

from .ask import Ask, Loop, ask_wsgi
from .django_project import installed

SECRET = "ssk_a-secret-that-nobody-may-see"


def fastapi_plain() -> Any:
    app = FastAPI()

    @app.get("/user")
    async def me(request: Request) -> Any:
        return request.state.user

    return app


def fastapi_annotated() -> Any:
    app = FastAPI()

    @app.get("/user")
    async def me(request: Request) -> User:
        user: User = request.state.user
        return user

    return app


def fastapi_response_model() -> Any:
    app = FastAPI()

    @app.get("/user", response_model=User | None)
    def me(request: Request) -> Any:
        return request.state.user

    return app


def fastapi_dictionary() -> Any:
    app = FastAPI()

    @app.get("/user", response_model=dict[str, Any])
    def me(request: Request) -> Any:
        return request.state.user.to_dict()

    return app


def fastapi_json_response() -> Any:
    from fastapi.encoders import jsonable_encoder
    from fastapi.responses import JSONResponse

    app = FastAPI()

    @app.get("/user")
    def me(request: Request) -> JSONResponse:
        return JSONResponse(jsonable_encoder(request.state.user))

    return app


def starlette_to_dict() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def me(request: Any) -> JSONResponse:
        return JSONResponse(request.state.user.to_dict())

    return Starlette(routes=[Route("/user", me)])


def litestar_untyped() -> Any:

    @get("/user", sync_to_thread=False)
    def me(request: LitestarRequest[Any, Any, Any]) -> Any:
        return request.state.user

    return Litestar([me], openapi_config=None, logging_config=None)


def litestar_annotated() -> Any:

    @get("/user", sync_to_thread=False)
    def me(request: LitestarRequest[Any, Any, Any]) -> User:
        user: User = request.state.user
        return user

    return Litestar([me], openapi_config=None, logging_config=None)


def quart_jsonify() -> Any:
    from quart import Quart, jsonify, request

    app = Quart(__name__)

    @app.get("/user")
    async def me() -> Any:
        return jsonify(get_user(request))

    return app


def quart_to_dict() -> Any:
    from quart import Quart, request

    app = Quart(__name__)

    @app.get("/user")
    async def me() -> Any:
        user = get_user(request)
        assert user is not None
        return user.to_dict()

    return app


def falcon_asgi_media() -> Any:
    import falcon.asgi

    class Me:
        async def on_get(self, req: Any, resp: Any) -> None:
            resp.media = get_user(req).to_dict()  # type: ignore[union-attr]

    app = falcon.asgi.App()
    app.add_route("/user", Me())
    return app


def django_asgi() -> Any:
    from .django_project import asgi_application

    return asgi_application()


def flask_jsonify() -> Any:
    from flask import Flask, jsonify, request

    app = Flask(__name__)

    @app.get("/user")
    def me() -> Any:
        return jsonify(get_user(request))

    return app


def flask_jsonify_nested() -> Any:
    from flask import Flask, jsonify, request

    app = Flask(__name__)

    @app.get("/user")
    def me() -> Any:
        return jsonify({"user": [get_user(request)]})

    return app


def falcon_wsgi_media() -> Any:
    import falcon

    class Me:
        def on_get(self, req: Any, resp: Any) -> None:
            resp.media = get_user(req).to_dict()  # type: ignore[union-attr]

    app = falcon.App()
    app.add_route("/user", Me())
    return app


def bottle_to_dict() -> Any:
    from bottle import Bottle, request

    app = Bottle()

    @app.route("/user")  # type: ignore[untyped-decorator]
    def me() -> Any:
        return get_user(request).to_dict()  # type: ignore[union-attr]

    return app


def django_wsgi() -> Any:
    from .django_project import wsgi_application

    return wsgi_application()


ASGI = [
    fastapi_plain,
    fastapi_annotated,
    fastapi_response_model,
    fastapi_dictionary,
    fastapi_json_response,
    starlette_to_dict,
    litestar_untyped,
    litestar_annotated,
    quart_jsonify,
    quart_to_dict,
    falcon_asgi_media,
    django_asgi,
]
WSGI = [flask_jsonify, flask_jsonify_nested, falcon_wsgi_media, bottle_to_dict, django_wsgi]


def _answered(make: Callable[[], Any], config: StackAuthConfig, headers: dict[str, str]) -> tuple[Any, str, User]:
    """Return the answer to ``GET /user`` as JSON and as text, and the user that the app was given."""
    seen: list[User] = []
    app = make()
    ask = Ask("/user", headers=headers)
    if make in ASGI:

        async def seeing(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["stackauth.user"])
            await app(scope, receive, send)

        loop = Loop()
        try:
            answer = loop.ask(StackAuthASGIMiddleware(seeing, config), ask)
        finally:
            loop.close()
    else:

        def seeing_too(environ: Any, start_response: Any) -> Any:
            seen.append(environ["stackauth.user"])
            return app(environ, start_response)

        answer = ask_wsgi(StackAuthWSGIMiddleware(seeing_too, config), ask)
    assert answer.status == 200, answer
    told = json.loads(answer.body)
    return (told["user"][0] if make is flask_jsonify_nested else told), answer.body.decode(), seen[0]


@pytest.mark.parametrize("make", [*ASGI, *WSGI], ids=lambda make: make.__name__)
def test_the_answer_is_the_fields_and_nothing_else(
    make: Callable[[], Any], auth: StackAuthConfig, stackauth: LocalStackAuth
) -> None:
    headers = stackauth.headers(a_claim_of_ours="claim-canary")
    with installed():
        told, text, user = _answered(make, auth, headers)
    assert told == user.to_dict()
    assert told["email"] == "jane@example.com"
    _nothing_of_the_token(text, headers)
    assert user.claims["a_claim_of_ours"] == "claim-canary"


@pytest.mark.parametrize("make", [*ASGI, *WSGI], ids=lambda make: make.__name__)
def test_with_a_profile(make: Callable[[], Any], project: str, stackauth: LocalStackAuth) -> None:
    """The answer has of it what Stack Auth itself shows to clients."""
    auth = StackAuthConfig(secret_server_key=SECRET, rules=[Rule("/user", profile=True)])
    account = stackauth.users.create(
        primary_email="ada@example.com",
        display_name="Ada",
        client_metadata={"a": [1, {"b": None}]},
        server_metadata="server-canary",
        restricted_by_admin_private_details="server-canary",
        country_code="server-canary",
    )
    headers = stackauth.headers(account)
    with installed():
        told, text, user = _answered(make, auth, headers)
    assert told == user.to_dict()
    assert told["profile"]["client_metadata"] == {"a": [1, {"b": None}]}
    _nothing_of_the_token(text, headers)
    assert SECRET not in text
    for word in ("server-canary", "server_metadata", "risk_scores", "raw"):
        assert word not in text
    assert user.profile is not None
    assert user.profile.server_metadata == "server-canary"


def _nothing_of_the_token(text: str, headers: dict[str, str]) -> None:
    (token,) = headers.values()
    for part in token.split("."):
        assert part not in text
    for word in ("claim-canary", "claims", "_payload", "refresh_token_id", '"iss"', '"aud"'):
        assert word not in text
