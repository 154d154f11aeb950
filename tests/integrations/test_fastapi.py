"""FastAPI: dependencies and their overrides, the docs, and the table of exception handlers."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

import stackauth_middleware
from stackauth_middleware import ConfigError, Rule, StackAuthASGIMiddleware, User, per_user
from stackauth_middleware.contrib.fastapi import CurrentUser, current_profile, current_user, optional_user
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE
from .clients import TestClient
from .site import running

# -- dependencies ---------------------------------------------------------------------------------


def test_dependencies_can_be_called_directly(stackauth: LocalStackAuth) -> None:
    """An app may call them in a dependency of its own."""
    app = FastAPI()
    app.add_middleware(StackAuthASGIMiddleware, config=cases.config())

    @app.get("/me")
    async def me(request: Request) -> list[str | None]:
        user = await current_user(request)
        assert await optional_user(request) is user
        return [user.email, (await current_profile(request)).id]

    assert TestClient(app).get("/me", headers=stackauth.headers()).json() == [JANE["email"], JANE["id"]]


@pytest.mark.parametrize("is_async", [False, True])
def test_function_of_per_user_is_a_dependency(stackauth: LocalStackAuth, is_async: bool) -> None:
    ran: list[str | None] = []

    def find(signed_in: CurrentUser, limit: int = 1) -> int:
        ran.append(signed_in.email)
        return limit

    async def afind(signed_in: CurrentUser, limit: int = 1) -> int:
        return find(signed_in, limit)

    app = FastAPI()
    app.add_middleware(StackAuthASGIMiddleware, config=cases.config())
    account = Depends(per_user()(afind if is_async else find))

    @app.get("/account")
    async def handler(found: int = account) -> int:
        return found

    client, headers = TestClient(app), stackauth.headers()
    assert [client.get(f"/account?limit={limit}", headers=headers).json() for limit in (7, 8)] == [7, 7]
    assert ran == [JANE["email"]]


# -- dependency_overrides -----------------------------------------------------------------------------


def test_dependency_overrides_replace_user(stackauth: LocalStackAuth) -> None:
    """For ``CurrentUser`` as for ``Depends(current_user)``. Without the overrides the request is refused again."""
    with running("fastapi") as site:
        site.get("/me", stackauth.headers())
        user = site.ran.pop()
        overrides = site.application.dependency_overrides
        overrides[current_user] = lambda: user
        assert site.get("/optional/guarded").status == site.get("/public/guarded").status == 200
        overrides[optional_user] = lambda: user
        assert site.get("/public/hello").body == {"email": JANE["email"]}
        overrides.clear()
        assert site.get("/public/guarded").status == 401


# -- the docs -----------------------------------------------------------------------------------------


def test_authorize_button_of_docs_sends_accepted_token(stackauth: LocalStackAuth) -> None:
    """Swagger UI sends a bearer token to the routes whose operation names the security scheme."""
    docs = [Rule(path, "public") for path in ("/docs", "/openapi.json")]
    with running("fastapi", rules=[*cases.RULES, *docs]) as site:
        assert site.get("/docs").status == 200
        schema = site.get("/openapi.json").body
        assert site.get("/me", {"authorization": f"Bearer {stackauth.token()}"}).status == 200
    ((name, scheme),) = schema["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")
    for path in ("/me", "/optional/hello", "/optional/guarded", "/optional/profile"):
        operation = schema["paths"][path]["get"]
        assert operation["security"] == [{name: []}]
        assert "parameters" not in operation


def test_app_dependency_adds_security_scheme_to_every_route(stackauth: LocalStackAuth) -> None:
    """Also to routes that only a rule protects, so that the docs send a token to them."""
    app = FastAPI(dependencies=[Depends(optional_user)])

    @app.get("/closed-by-a-rule")
    async def closed() -> None: ...

    assert app.openapi()["paths"]["/closed-by-a-rule"]["get"]["security"] == [{"StackAuth": []}]


# -- the snippet of Stack Auth's documentation --------------------------------------------------------


def test_stack_auth_documentation_snippet_works_with_another_import(stackauth: LocalStackAuth) -> None:
    """Only the type of the user differs from the snippet; the dependency is imported instead of written."""
    from stackauth_middleware.contrib.fastapi import current_user as get_current_user

    app = FastAPI()
    app.add_middleware(
        StackAuthASGIMiddleware, project_id=cases.PROJECT, default_access="optional", prefetch_keys=False
    )

    @app.get("/api/users/me")
    async def read_current_user(user: User = Depends(get_current_user)) -> dict[str, Any]:  # noqa: B008 - as FastAPI documents it
        return {"user_id": user.user_id, "is_anonymous": user.is_anonymous}

    http = TestClient(app)
    answer = http.get("/api/users/me", headers={"X-Stack-Access-Token": stackauth.token()})
    assert (answer.status_code, answer.json()) == (200, {"user_id": JANE["id"], "is_anonymous": False})
    for headers, error in (
        ({}, "Access token required"),
        ({"X-Stack-Access-Token": "no.token.here"}, "Invalid or expired access token"),
    ):
        refusal = http.get("/api/users/me", headers=headers)
        assert refusal.status_code == 401
        assert error in refusal.text


# -- Depends(get_user) --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["get_user", "require_user", "load_profile", "aload_profile"])
def test_functions_of_package_are_rejected_as_dependencies(name: str) -> None:
    """Building the app fails and names the replacement. Otherwise each request would get a 422."""
    app = FastAPI()
    function = getattr(stackauth_middleware, name)
    with pytest.raises(ConfigError, match=r"stackauth_middleware\.contrib\.fastapi"):

        @app.get("/")
        async def handler(user: Any = Depends(function)) -> None: ...  # noqa: B008 - as FastAPI documents it


# -- handlers of the app's own --------------------------------------------------------------------


@pytest.mark.parametrize("key", [401, HTTPException, StarletteHTTPException])
def test_own_handler_of_any_kind_takes_refusal(key: Any, stackauth: LocalStackAuth) -> None:
    """Also after a refusal in another app: the handler added for it is not added to this app."""
    with running("fastapi") as other:
        assert other.get("/public/guarded").body["code"] == "missing_token"
    with running("fastapi") as site:

        @site.application.exception_handler(key)
        async def own(_: Request, error: HTTPException) -> JSONResponse:
            return JSONResponse(error.detail, error.status_code)

        for _ in range(2):
            refusal = site.get("/public/guarded")
            assert refusal[::2] == (401, {"error": "Access token required", "code": "missing_token"})
            assert "cache-control" not in refusal.headers
