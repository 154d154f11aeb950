"""The CORS tools of frameworks outside the middleware and inside it: preflights, and who can read a refusal.

A tool inside sees neither. The browser then hides status and body from the script, which takes an expired
session for a broken network; so the middleware itself answers the origins of `cors_origins`.
Django's tool is in tests/contrib/django/test_middleware.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware
from stackauth_middleware.testing import LocalStackAuth

from .ask import Answer, Ask, Loop, ask_wsgi

APP, OTHER = "https://app.example.com", "https://evil.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-stack-access-token"}
EXPOSED = "WWW-Authenticate, Retry-After"


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def readable(answer: Answer, origin: str) -> bool:
    """Say whether a browser lets a script of `origin` read `answer`: the CORS check of the Fetch standard.

    Repeated headers are joined by a comma here as there, which is no origin.
    """
    return answer.headers.get("access-control-allow-origin") in ("*", origin)


# -- apps with the framework's own tool in them -------------------------------------------------------


def _starlette(wrap: Callable[[Any], Any]) -> Any:
    from starlette.applications import Starlette
    from starlette.middleware.cors import CORSMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def me(request: Any) -> PlainTextResponse:
        return PlainTextResponse("me")

    app = Starlette(routes=[Route("/me", me)])
    app.add_middleware(CORSMiddleware, allow_origins=[APP], allow_headers=["x-stack-access-token"])
    return wrap(app)


def _litestar(wrap: Callable[[Any], Any]) -> Any:
    from litestar import Litestar, get
    from litestar.config.cors import CORSConfig

    @get("/me", sync_to_thread=False)
    def me() -> str:
        return "me"

    cors = CORSConfig(allow_origins=[APP], allow_headers=["x-stack-access-token"])
    return wrap(Litestar([me], cors_config=cors, openapi_config=None, logging_config=None))


def _falcon_asgi(wrap: Callable[[Any], Any]) -> Any:
    import falcon
    import falcon.asgi

    class Me:
        async def on_get(self, req: Any, resp: Any) -> None:
            resp.text = "me"

    app = falcon.asgi.App(middleware=falcon.CORSMiddleware(allow_origins=APP))
    app.add_route("/me", Me())
    return wrap(app)


def _falcon_wsgi(wrap: Callable[[Any], Any]) -> Any:
    import falcon

    class Me:
        def on_get(self, req: Any, resp: Any) -> None:
            resp.text = "me"

    app = falcon.App(middleware=falcon.CORSMiddleware(allow_origins=APP))
    app.add_route("/me", Me())
    return wrap(app)


def _bottle(wrap: Callable[[Any], Any]) -> Any:
    """By hand, as Bottle's users do it."""
    from bottle import Bottle, response

    app = Bottle()

    @app.hook("after_request")  # type: ignore[untyped-decorator]
    def cors() -> None:
        response.set_header("Access-Control-Allow-Origin", APP)
        response.set_header("Access-Control-Allow-Headers", "x-stack-access-token")

    app.route("/me", ["GET", "OPTIONS"], lambda: "me")
    return wrap(app)


def _flask(wrap: Callable[[Any], Any]) -> Any:
    import flask
    import flask_cors

    app = flask.Flask(__name__)
    app.add_url_rule("/me", "me", lambda: "me")
    flask_cors.CORS(app, origins=[APP], allow_headers=["x-stack-access-token"])
    return wrap(app)


def _quart(wrap: Callable[[Any], Any]) -> Any:
    import quart
    import quart_cors

    app = quart.Quart(__name__)

    @app.get("/me")
    async def me() -> str:
        return "me"

    return wrap(quart_cors.cors(app, allow_origin=[APP], allow_headers=["x-stack-access-token"]))


INSIDE = [_starlette, _litestar, _falcon_asgi, _falcon_wsgi, _bottle, _flask, _quart]


def _asking(make: Any, config: StackAuthConfig, loop: Loop) -> Callable[[Ask], Answer]:
    if make in (_falcon_wsgi, _bottle, _flask):
        wsgi = make(lambda app: StackAuthWSGIMiddleware(app, config))
        return lambda ask: ask_wsgi(wsgi, ask)
    asgi = make(lambda app: StackAuthASGIMiddleware(app, config))
    return lambda ask: loop.ask(asgi, ask)


@pytest.mark.parametrize("make", INSIDE, ids=lambda make: make.__name__[1:])
def test_with_the_frameworks_tool_inside_a_refusal_is_readable(
    make: Any, project: str, stackauth: LocalStackAuth, loop: Loop
) -> None:
    """The middleware answers preflights itself; or, with `pass_preflights`, the tool does."""
    for passing in (False, True):
        ask = _asking(make, StackAuthConfig(cors_origins=[APP], pass_preflights=passing), loop)
        preflight = ask(Ask("/me", "OPTIONS", {"Origin": APP, **PREFLIGHT}))
        assert preflight.status in ((200, 204) if passing else (204,))
        assert readable(preflight, APP)
        assert "x-stack-access-token" in preflight.headers["access-control-allow-headers"].lower()
        assert preflight.body == b""
        foreign = ask(Ask("/me", "OPTIONS", {"Origin": OTHER, **PREFLIGHT}))
        assert not readable(foreign, OTHER)
        assert passing or foreign.status == 401

    for headers in ({}, {"x-stack-access-token": "garbage"}, stackauth.headers(expires_in=-60)):
        refused = ask(Ask("/me", headers={"Origin": APP, **headers}))
        assert refused.status == 401
        assert readable(refused, APP)
        assert refused.headers["access-control-expose-headers"] == EXPOSED
        assert refused.headers["vary"] == "Origin"
        refused = ask(Ask("/me", headers={"Origin": OTHER, **headers}))
        assert refused.status == 401
        assert not readable(refused, OTHER)

    answer = ask(Ask("/me", headers={"Origin": APP, **stackauth.headers()}))
    assert (answer.status, answer.body) == (200, b"me")
    assert readable(answer, APP), "the app's own header, once"

    with stackauth.down(cold=True):
        unavailable = ask(Ask("/me", headers={"Origin": APP, **stackauth.headers()}))
    assert unavailable.status == 503
    assert readable(unavailable, APP)


@pytest.mark.parametrize("make", INSIDE, ids=lambda make: make.__name__[1:])
def test_without_the_setting_a_browser_hides_the_refusal(
    make: Any, project: str, stackauth: LocalStackAuth, loop: Loop
) -> None:
    """What `cors_origins` is for."""
    ask = _asking(make, StackAuthConfig(), loop)
    for hidden in (Ask("/me", headers={"Origin": APP}), Ask("/me", "OPTIONS", {"Origin": APP, **PREFLIGHT})):
        refused = ask(hidden)
        assert refused.status == 401
        assert not readable(refused, APP)


# -- the framework's tool outside ---------------------------------------------------------------------


def _starlette_outside(config: StackAuthConfig) -> Any:
    """What is added last is outermost."""
    from starlette.middleware.cors import CORSMiddleware

    app = _starlette(lambda app: app)
    app.user_middleware.clear()
    app.add_middleware(StackAuthASGIMiddleware, config=config)
    app.add_middleware(CORSMiddleware, allow_origins=[APP], allow_headers=["x-stack-access-token"])
    return app


def _litestar_outside(config: StackAuthConfig) -> Any:
    """Litestar's own tool is outside all middleware that it is given."""
    from litestar import Litestar, get
    from litestar.config.cors import CORSConfig
    from litestar.middleware import DefineMiddleware

    @get("/me", sync_to_thread=False)
    def me() -> str:
        return "me"

    return Litestar(
        [me],
        cors_config=CORSConfig(allow_origins=[APP], allow_headers=["x-stack-access-token"]),
        middleware=[DefineMiddleware(StackAuthASGIMiddleware, config=config)],
        openapi_config=None,
        logging_config=None,
    )


@pytest.mark.parametrize("also", [(), (APP,)], ids=["alone", "and cors_origins"])
@pytest.mark.parametrize("make", [_starlette_outside, _litestar_outside], ids=lambda make: make.__name__[1:])
def test_with_the_frameworks_tool_outside_both_may_be_told(
    make: Any, also: tuple[str, ...], project: str, stackauth: LocalStackAuth, loop: Loop
) -> None:
    """It adds its header to our refusal; set on both, there must still be one."""
    app = make(StackAuthConfig(cors_origins=also))
    preflight = loop.ask(app, Ask("/me", "OPTIONS", {"Origin": APP, **PREFLIGHT}))
    assert preflight.status in (200, 204)
    assert readable(preflight, APP)
    refused = loop.ask(app, Ask("/me", headers={"Origin": APP}))
    assert (refused.status, readable(refused, APP)) == (401, True)
    refused = loop.ask(app, Ask("/me", headers={"Origin": OTHER}))
    assert (refused.status, readable(refused, OTHER)) == (401, False)
    answer = loop.ask(app, Ask("/me", headers={"Origin": APP, **stackauth.headers()}))
    assert (answer.status, answer.body, readable(answer, APP)) == (200, b"me", True)


def test_a_public_route_is_the_apps_own_business(project: str, stackauth: LocalStackAuth, loop: Loop) -> None:
    """Nothing is added to an answer of the app."""
    ask = _asking(_bottle, StackAuthConfig(rules=[Rule("/me", "public")], cors_origins=["*"]), loop)
    answer = ask(Ask("/me", headers={"Origin": OTHER}))
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert "vary" not in answer.headers
