"""The apps and requests of the demo."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any
from wsgiref.util import setup_testing_defaults

import httpx
import pytest

from stackauth_middleware import StackAuthConfig
from stackauth_middleware._cli._demo_apps import RULES, Case, bottle_app, cases, starlette_app, with_variants
from stackauth_middleware.errors import ErrorCode
from stackauth_middleware.testing import LocalStackAuth
from tests.unit.cli.ask import PROJECT

NAMES = [case.name for case in cases(**with_variants(normal="a.b.c", restricted="d.e.f", anonymous="", expired=""))]


def case_of(stackauth: LocalStackAuth, name: str) -> Case:
    claims: dict[str, dict[str, Any]] = {
        "normal": {},
        "restricted": {"user_type": "restricted"},
        "anonymous": {"user_type": "anonymous"},
        "expired": {"expires_in": -60},
    }
    tokens = {kind: stackauth.token(project_id=PROJECT, **each) for kind, each in claims.items()}
    return next(case for case in cases(**with_variants(**tokens)) if case.name == name)


def through_starlette(case: Case) -> tuple[int, Any]:
    app = starlette_app(StackAuthConfig(project_id=PROJECT, rules=RULES))

    async def ask() -> tuple[int, Any]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            response = await client.get(case.path, headers=list(case.headers))
            return response.status_code, response.json()

    return asyncio.run(ask())


def through_bottle(case: Case) -> tuple[int, Any]:
    app = bottle_app(StackAuthConfig(project_id=PROJECT, rules=RULES))
    environ: dict[str, Any] = {"PATH_INFO": case.path, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    for name, value in case.headers:
        key = f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    statuses: list[str] = []
    body = b"".join(app(environ, lambda status, _headers, _error=None: statuses.append(status)))
    return int(statuses[0].split()[0]), json.loads(body)


@pytest.mark.parametrize("ask", [through_starlette, through_bottle])
@pytest.mark.parametrize("name", NAMES)
def test_each_case_gets_its_expected_response(stackauth: LocalStackAuth, name: str, ask: Any) -> None:
    case = case_of(stackauth, name)
    status, body = ask(case)
    assert (status, body.get("code", "")) == (case.status, case.code)
    if case.status == 200:
        assert body["app"] == ask.__name__.removeprefix("through_")


@pytest.mark.parametrize("ask", [through_starlette, through_bottle])
def test_the_app_knows_its_user(stackauth: LocalStackAuth, ask: Any) -> None:
    body = ask(case_of(stackauth, "a signed-in user"))[1]
    assert body["user"]["email"] == "jane@example.com"
    assert body["user"]["user_type"] == "normal"


@pytest.mark.parametrize("ask", [through_starlette, through_bottle])
def test_staff_is_let_in(stackauth: LocalStackAuth, ask: Any) -> None:
    token = stackauth.token(project_id=PROJECT, email="staff@example.com")
    assert ask(Case("", 200, "", (("x-stack-access-token", token),), "/staff"))[0] == 200


@pytest.mark.parametrize("ask", [through_starlette, through_bottle])
def test_unverified_address_does_not_make_staff(stackauth: LocalStackAuth, ask: Any) -> None:
    token = stackauth.token(project_id=PROJECT, email="staff@example.com", email_verified=False)
    status, body = ask(Case("", 403, "", (("x-stack-access-token", token),), "/staff"))
    assert (status, body["code"]) == (403, "forbidden")


def test_every_kind_of_refusal_is_shown() -> None:
    """All error codes of 400, 401 and 403 but those of API keys; an outage is not for a demo to make."""
    shown = {
        case.code
        for case in cases(**with_variants(normal="a.b.c", restricted="d.e.f", anonymous="", expired=""))
        if case.code
    }
    assert shown == {code.value for code in ErrorCode if code.status in (400, 401, 403) and "API_KEY" not in code.name}
