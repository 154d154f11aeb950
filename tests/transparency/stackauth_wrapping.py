"""A pytest plugin for the suites of frameworks: every app that their test clients call is behind the middleware.

It stands alone, since the suites have packages named ``tests`` too. ``TRANSPARENCY`` says how apps are wrapped:
``public`` lets all requests pass without a user, ``required`` adds a good token to each request and takes the header
off again before the app sees it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware
from stackauth_middleware.testing import LocalStackAuth

MODE = os.environ["TRANSPARENCY"]
LOCAL = LocalStackAuth("internal")
CONFIG = StackAuthConfig(project_id="internal", default_access="public" if MODE == "public" else "required")
KEY = "HTTP_X_STACK_ACCESS_TOKEN"


def wrapped_wsgi(app: Any) -> Any:
    def without_token(environ: Any, start_response: Any) -> Any:
        environ.pop(KEY, None)
        return app(environ, start_response)

    middleware = StackAuthWSGIMiddleware(without_token, CONFIG)

    def call(environ: Any, start_response: Any) -> Any:
        if MODE == "required":
            environ[KEY] = LOCAL.token()
        return middleware(environ, start_response)

    return call


def wrapped_asgi(app: Any) -> Any:
    name = b"x-stack-access-token"

    async def without_token(scope: Any, receive: Any, send: Any) -> None:
        if "headers" in scope:
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != name]
        await app(scope, receive, send)

    middleware = StackAuthASGIMiddleware(without_token, CONFIG)

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if MODE == "required" and "headers" in scope:
            scope["headers"] = [*scope["headers"], (name, LOCAL.token().encode())]
        await middleware(scope, receive, send)

    return call


def _werkzeug(module: Any) -> None:
    """Flask's client too."""
    run = module.run_wsgi_app
    module.run_wsgi_app = lambda app, *rest, **more: run(wrapped_wsgi(app), *rest, **more)


def _webob(module: Any) -> None:
    call = module.BaseRequest.call_application
    module.BaseRequest.call_application = lambda self, app, *rest, **more: call(self, wrapped_wsgi(app), *rest, **more)


def _starlette(module: Any) -> None:
    """FastAPI's client too."""
    init = module._TestClientTransport.__init__
    module._TestClientTransport.__init__ = lambda self, app, *rest, **more: init(self, wrapped_asgi(app), *rest, **more)


PATCHES: dict[str, Callable[[Any], None]] = {
    "werkzeug.test": _werkzeug,
    "webob.request": _webob,
    "starlette.testclient": _starlette,
}
"""What replaces the call of an app in each module that calls one."""


def pytest_configure(config: pytest.Config) -> None:
    for name, patch in PATCHES.items():
        try:
            module = import_module(name)
        except ImportError:
            continue  # the suite of another framework
        patch(module)


@pytest.fixture(autouse=True, scope="session")
def _stack_auth_in_process() -> Iterator[None]:
    with LOCAL.in_process():
        yield
