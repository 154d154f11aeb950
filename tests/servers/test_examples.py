"""Every example under the server that its first lines name, with a local Stack Auth over HTTP."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from stackauth_middleware.testing import LocalStackAuth

from .processes import COMMANDS, PROJECT, ROOT, Served, serving, settings_for
from .wire import ask

EXAMPLES = ROOT / "examples"
NAMES = ["starlette_app", "fastapi_app", "quart_app", "falcon_asgi", "falcon_wsgi", "flask_app", "bottle_app"]
JANE = {"id": "11111111-1111-4111-8111-111111111111", "email": "jane@example.com"}


@pytest.fixture(scope="module", params=NAMES)
def example(request: pytest.FixtureRequest, local: LocalStackAuth) -> Iterator[Served]:
    source = (EXAMPLES / f"{request.param}.py").read_text()
    told = ast.get_docstring(ast.parse(source)) or ""
    run = re.search(r"^Run: STACK_PROJECT_ID=\S.* (\w+) (\S+:\w+)$", told, re.MULTILINE)
    assert run is not None, "the example does not say how it is run"
    assert run[1] in COMMANDS
    with serving(run[1], run[2], settings_for(local), EXAMPLES) as served:
        yield served


def test_an_example(example: Served, local: LocalStackAuth) -> None:
    """Public routes are open, others need a user, and the user is the one of the token."""
    assert ask(example.port, "/healthz").json == {"status": "ok"}
    for headers in (
        [("X-Stack-Access-Token", local.token())],
        [("Authorization", f"Bearer {local.token()}")],
    ):
        answer = ask(example.port, "/me", headers)
        assert (answer.status, answer.json) == (200, JANE)
    assert ask(example.port, "/hello", headers).json == {"hello": "Jane Doe"}
    assert ask(example.port, "/hello").json == {"hello": "stranger"}

    expected = {
        None: (401, "missing_token", 'Bearer realm="stack-auth"'),
        "garbage": (401, "invalid_token", 'Bearer realm="stack-auth", error="invalid_token"'),
        local.token(expires_in=-60): (401, "expired_token", 'Bearer realm="stack-auth", error="invalid_token"'),
        local.token(key="foreign"): (401, "invalid_token", 'Bearer realm="stack-auth", error="invalid_token"'),
        local.token(user_type="anonymous"): (
            401,
            "anonymous_not_allowed",
            'Bearer realm="stack-auth", error="invalid_token"',
        ),
        local.token(user_type="restricted"): (
            403,
            "restricted_not_allowed",
            'Bearer realm="stack-auth", error="insufficient_scope"',
        ),
    }
    for token, wanted in expected.items():
        refused = ask(example.port, "/me", [("X-Stack-Access-Token", token)] if token else [])
        assert (refused.status, refused.code, refused.headers["www-authenticate"]) == wanted
        assert refused.headers["content-length"] == str(len(refused.body))
    assert ask(example.port, "/hello", [("X-Stack-Access-Token", "garbage")]).status == 401
    assert ask(example.port, "/no-such-page").status == 401
    assert "Traceback" not in example.log()


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_and_holds_no_setting(name: str) -> None:
    """It reads as documentation, and what differs between two deployments comes from the environment."""
    source = (EXAMPLES / f"{name}.py").read_text()
    assert len(source.splitlines()) <= 40
    for setting in ("project_id", "api_url", "secret_server_key", "http://", "https://", PROJECT):
        assert setting not in source
