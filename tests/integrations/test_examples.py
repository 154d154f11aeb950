"""Every example, under each server that its docstring names, in a process of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from stackauth_middleware.testing import LocalStackAuth

from .cases import JANE, PROJECT
from .processes import EXAMPLES, example_served, served_stackauth
from .serving import client

MISSING = (401, {"error": "Access token required", "code": "missing_token"})
SOURCES = {path.stem: path.read_text("utf-8") for path in sorted(EXAMPLES.glob("*.py"))}
COMMANDS = [
    (server, app)
    for source in SOURCES.values()
    for server, app in re.findall(
        r"^Run: STACK_PROJECT_ID=\S.* (\w+) (\w+:\w+)$", ast.get_docstring(ast.parse(source)) or "", re.MULTILINE
    )
]
"""Each server with the app that it is given."""
Get: TypeAlias = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def served() -> Iterator[LocalStackAuth]:
    with served_stackauth() as stackauth:
        yield stackauth


@pytest.mark.parametrize(("server", "app"), COMMANDS)
def test_example_behind_its_server(server: str, app: str, served: LocalStackAuth) -> None:
    with example_served(server, app, served) as url, client(url) as http:

        def get(path: str, headers: Any = None, method: str = "GET") -> tuple[int, Any]:
            response = http.request(method, path, headers=headers)
            return response.status_code, response.json()

        (check_profiles if app.startswith("hybrid") else check_paths)(get, served)
        if app.startswith(("flask", "bottle")):
            assert get("/hello/Bob") == MISSING
            assert get("/hello/Bob", served.headers()) == (200, {"hello": "Bob", "from": "Jane Doe"})
        if app.startswith(("fastapi", "litestar")):
            refusal = http.get("/me", headers={"origin": "http://localhost:3000"})
            assert refusal.headers["access-control-allow-origin"] == "http://localhost:3000"


def check_paths(get: Get, stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    assert get("/healthz") == (200, {"status": "ok"})
    assert get("/me") == MISSING
    assert get("/no-such-page")[0] in (401, 404)  # Litestar routes before it calls middleware
    for sent in (headers, {"authorization": f"Bearer {stackauth.token()}"}):
        status, user = get("/me", sent)
        assert (status, user["email"]) == (200, JANE["email"])
    assert get("/hello") == (200, {"hello": "stranger"})
    assert get("/hello", headers) == (200, {"hello": "Jane Doe"})
    assert get("/hello", {"x-stack-access-token": "garbage"})[1]["code"] == "invalid_token"


def check_profiles(get: Get, stackauth: LocalStackAuth) -> None:
    """Local verification where no profile is needed; current server metadata and restrictions where one is."""
    asked = stackauth.requests.count("users/me")
    user = stackauth.users.create(display_name="Jane", server_metadata={"plan": "free"})
    headers = stackauth.headers(user.id)
    for path in ("/me", "/account", "/plan"):
        assert get(path) == MISSING
    assert get("/me", headers) == (200, {"id": user.id})
    assert stackauth.requests.count("users/me") == asked
    status, body = get("/account", headers)
    assert (status, body["profile"]["display_name"]) == (200, "Jane")
    assert "server_metadata" not in body["profile"]
    assert get("/plan", headers) == (200, {"plan": "free"})
    assert stackauth.requests.count("users/me") == asked + 1
    stackauth.users.update(user.id, server_metadata={"plan": "pro"})
    assert get("/plan/refresh", headers, "POST") == (200, {"plan": "pro"})

    users = stackauth.users
    for change, code in ((users.delete, "invalid_token"), (users.restrict, "restricted_not_allowed")):
        other = users.create()
        headers = stackauth.headers(other.id)
        change(other.id)
        assert get("/me", headers) == (200, {"id": other.id})
        assert get("/account", headers)[1]["code"] == code


@pytest.mark.parametrize("name", SOURCES)
def test_example_is_short_and_contains_no_settings_of_a_deployment(name: str) -> None:
    source = SOURCES[name]
    assert any(app.startswith(f"{name}:") for _, app in COMMANDS)
    assert len(source.splitlines()) <= 55
    for setting in ("project_id", "api_url", "secret_server_key", "https://", PROJECT):
        assert setting not in source


def test_index_names_every_example_and_its_command() -> None:
    index = EXAMPLES.joinpath("README.md").read_text("utf-8")
    assert {name for name in SOURCES if f"[{name}.py]({name}.py)" in index} == set(SOURCES)
    commands = {tuple(each) for each in re.findall(r"`(\w+) (\w+:\w+)` \|", index)}
    assert commands <= set(COMMANDS)
    assert {app.partition(":")[0] for _, app in commands} == set(SOURCES)
