"""Litestar: many middlewares of one config, its test clients, and exception handlers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from litestar import Litestar, Request, Response, get
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.middleware import DefineMiddleware
from litestar.testing import AsyncTestClient

from stackauth_middleware import StackAuthASGIMiddleware
from stackauth_middleware.contrib.litestar import require_auth
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .adapters import native
from .cases import JANE, answered
from .clients import TestClient
from .site import running


def test_middlewares_of_all_routes_share_one_config(stackauth: LocalStackAuth) -> None:
    """Litestar makes one middleware for each route; the keys are fetched once."""
    with running("litestar", request_user=True) as site:
        for path in ("/me", "/optional/hello", "/optional/guarded", "/stream"):
            assert site.get(path, stackauth.headers()).status == 200
    assert stackauth.requests.count() == 1


def test_async_test_client_passes_the_middleware(stackauth: LocalStackAuth) -> None:
    async def ask(application: Any) -> None:
        async with AsyncTestClient(application) as http:
            assert (await http.get("/me", headers=stackauth.headers())).json()["email"] == JANE["email"]
            assert (await http.get("/me")).json()["code"] == "missing_token"

    with running("litestar", request_user=True) as site:
        asyncio.run(ask(site.application))


@pytest.mark.parametrize("layer", ["app", "handler"])
@pytest.mark.parametrize("key", [NotAuthorizedException, HTTPException, 401])
def test_own_handler_of_any_layer_takes_refusal(key: Any, layer: str, stackauth: LocalStackAuth) -> None:
    def own(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
        return Response({**native(error), "extra": error.extra}, status_code=error.status_code)

    own_handlers: Any = {key: own}

    @get("/optional/own", guards=[require_auth], exception_handlers=own_handlers if layer == "handler" else None)
    async def guarded() -> None: ...

    @get("/optional/plain", guards=[require_auth])
    async def plain() -> None: ...

    app = Litestar(
        [guarded, plain],
        middleware=[DefineMiddleware(StackAuthASGIMiddleware, config=cases.config())],
        exception_handlers=own_handlers if layer == "app" else None,
        openapi_config=None,
        logging_config=None,
    )
    http = TestClient(app)
    own_form = {"own": "missing_token", "extra": {"code": "missing_token"}}
    assert http.get("/optional/own").json() == own_form
    if layer == "app":
        assert http.get("/optional/plain").json() == own_form
    else:
        assert answered(http.get("/optional/plain")) == cases.REFUSED["missing"].answer()
