"""What is special to FastAPI: dependencies and their overrides, the docs, and the table of exception handlers."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

import stackauth_middleware
from stackauth_middleware import ConfigError, Rule, StackAuthASGIMiddleware, User
from stackauth_middleware.contrib import fastapi as contrib
from stackauth_middleware.contrib.fastapi import current_profile, current_user, optional_user
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE
from .clients import TestClient
from .site import running

# -- the user arrives ---------------------------------------------------------------------------------


def test_the_dependencies_can_be_called_by_hand(stackauth: LocalStackAuth) -> None:
    """As an app does that guards something by a dependency of its own."""
    app = FastAPI()
    app.add_middleware(StackAuthASGIMiddleware, config=cases.config())

    @app.get("/me")
    async def me(request: Request) -> list[str | None]:
        user, somebody = await current_user(request), await optional_user(request)
        assert user is somebody
        return [user.email, (await current_profile(request)).id]

    assert TestClient(app).get("/me", headers=stackauth.headers()).json() == [JANE["email"], JANE["id"]]


# -- dependency_overrides -----------------------------------------------------------------------------


def test_dependency_overrides_put_a_user_in(stackauth: LocalStackAuth) -> None:
    """For ``CurrentUser`` and ``Depends(current_user)`` alike; taken out again, the rules hold again."""
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


def test_the_names_of_the_core_are_the_same_dependencies() -> None:
    """So that an override by either name holds for both."""
    assert contrib.get_user is optional_user
    assert contrib.require_user is current_user


# -- the docs -----------------------------------------------------------------------------------------


def test_the_docs_have_a_button_that_works(stackauth: LocalStackAuth) -> None:
    """It sends the token as Swagger UI does with a bearer scheme, on the routes that say they take one."""
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


def test_the_button_can_be_had_for_every_route(stackauth: LocalStackAuth) -> None:
    """For routes that the rules alone close; so that what is tried out in the docs is signed."""
    app = FastAPI(dependencies=[Depends(optional_user)])

    @app.get("/closed-by-a-rule")
    async def closed() -> None: ...

    assert app.openapi()["paths"]["/closed-by-a-rule"]["get"]["security"] == [{"StackAuth": []}]


# -- coming from the documented snippet ---------------------------------------------------------------


def test_the_documented_snippet_needs_another_import(stackauth: LocalStackAuth) -> None:
    """The route is the snippet's own but for the type of its user; the dependency is imported, not written."""
    from stackauth_middleware.contrib.fastapi import current_user as get_current_user

    app = FastAPI()
    app.add_middleware(
        StackAuthASGIMiddleware, project_id=cases.PROJECT, default_access="optional", prefetch_keys=False
    )

    @app.get("/api/users/me")
    async def read_current_user(user: User = Depends(get_current_user)) -> dict[str, Any]:  # noqa: B008
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
def test_the_functions_of_the_core_are_no_dependencies(name: str) -> None:
    """Building the app fails, and says what to import; a request would have been told 422."""
    app = FastAPI()
    function = getattr(stackauth_middleware, name)
    with pytest.raises(ConfigError, match=r"stackauth_middleware\.contrib\.fastapi"):

        @app.get("/")
        async def handler(user: Any = Depends(function)) -> None: ...  # noqa: B008


def test_the_same_names_from_here_are(stackauth: LocalStackAuth) -> None:
    with running("fastapi") as site:

        @site.application.get("/optional/by-name")
        def by_name(
            user: Annotated[User | None, Depends(contrib.get_user)],
            same: Annotated[User, Depends(contrib.require_user)],
        ) -> bool:
            return user is same

        assert site.get("/optional/by-name", stackauth.headers()).body is True
        assert site.get("/optional/by-name").body["code"] == "missing_token"


# -- handlers of the app's own --------------------------------------------------------------------


@pytest.mark.parametrize("key", [401, HTTPException, StarletteHTTPException])
def test_own_handler_of_any_kind_takes_refusal(key: Any, stackauth: LocalStackAuth) -> None:
    """Before and after another app has been answered for: what is put in a table of handlers is in no other's."""
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
