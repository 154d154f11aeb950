"""The examples for the contrib modules, each under the server that it names, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from .cases import JANE
from .processes import example_served, served_stackauth
from .serving import client

MISSING = (401, {"error": "Access token required", "code": "missing_token"})


@pytest.mark.parametrize(
    ("server", "app"),
    [
        ("uvicorn", "contrib_fastapi:app"),
        ("uvicorn", "contrib_starlette:app"),
        ("uvicorn", "contrib_litestar:app"),
        ("uvicorn", "contrib_quart:app"),
        ("uvicorn", "contrib_falcon:application"),
        ("gunicorn", "contrib_flask:app"),
        ("gunicorn", "contrib_bottle:application"),
        ("gunicorn", "contrib_django:wsgi"),
        ("uvicorn", "contrib_django:asgi"),
    ],
)
def test_example_behind_its_server(server: str, app: str) -> None:
    with (
        served_stackauth() as stackauth,
        example_served(server, app, stackauth) as url,
        client(url) as http,
    ):
        headers = stackauth.headers()

        def get(path: str, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
            response = http.get(path, headers=headers)
            return response.status_code, response.json()

        assert get("/healthz") == (200, {"status": "ok"})
        assert get("/me") == MISSING
        status, user = get("/me", headers)
        assert (status, user["email"]) == (200, JANE["email"])
        assert get("/hello") == (200, {"hello": "stranger"})
        assert get("/hello", headers) == (200, {"hello": "Jane Doe"})
        if app.startswith(("contrib_flask", "contrib_bottle")):
            assert get("/hello/Bob") == MISSING
            assert get("/hello/Bob", headers) == (200, {"hello": "Bob", "from": "Jane Doe"})
        if app.startswith("contrib_starlette"):
            assert http.get("/secret").status_code == 401
            assert get("/secret", headers) == (200, {"for": "Jane Doe"})
        if app.startswith(("contrib_fastapi", "contrib_litestar")):
            refusal = http.get("/me", headers={"origin": "http://localhost:3000"})
            assert refusal.headers["access-control-allow-origin"] == "http://localhost:3000"
