"""The hybrid examples, under the servers that they name: fast by default, the whole profile where it is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.integrations.processes import example_served, served_stackauth


@pytest.mark.parametrize(("server", "app"), [("uvicorn", "hybrid_fastapi:app"), ("gunicorn", "hybrid_flask:app")])
def test_a_hybrid_example(server: str, app: str) -> None:
    with (
        served_stackauth() as stackauth,
        example_served(server, app, stackauth) as url,
        httpx.Client(base_url=url, trust_env=False) as http,
    ):
        user = stackauth.users.create(display_name="Jane", server_metadata={"plan": "free"})
        signed_in = stackauth.headers(user.id)

        def get(path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
            response = http.request(method, path, headers=signed_in if headers is None else headers)
            return response.status_code, response.json()

        for path in ("/me", "/account", "/plan"):
            assert get(path, headers={}) == (401, {"error": "Access token required", "code": "missing_token"})
        for _ in range(5):
            assert get("/me") == (200, {"id": user.id})
        assert stackauth.requests.count("users/me") == 0

        status, whole = get("/account")
        assert (status, whole["profile"]["display_name"]) == (200, "Jane")
        assert "server_metadata" not in whole["profile"]
        assert stackauth.requests.count("users/me") == 1
        assert get("/plan") == (200, {"plan": "free"})
        stackauth.users.update(user.id, server_metadata={"plan": "pro"})
        assert get("/plan/refresh", method="POST") == (200, {"plan": "pro"})

        gone = stackauth.users.create(display_name="John")
        signed_in = stackauth.headers(gone.id)
        stackauth.users.delete(gone.id)
        assert get("/me") == (200, {"id": gone.id})
        assert get("/account") == (401, {"error": "Invalid or expired access token", "code": "invalid_token"})

        restricted = stackauth.users.create()
        signed_in = stackauth.headers(restricted.id)
        stackauth.users.restrict(restricted.id)
        assert get("/me") == (200, {"id": restricted.id})
        assert get("/account")[1]["code"] == "restricted_not_allowed"
