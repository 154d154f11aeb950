"""Settings that are read from environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from stackauth_middleware._core.environment import from_environment


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("STACK_", "HEXCLAVE_", "NEXT_PUBLIC_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variables", "setting", "value"),
    [
        ({}, "project_id", ""),
        ({"STACK_PROJECT_ID": "a"}, "project_id", "a"),
        ({"HEXCLAVE_PROJECT_ID": "a"}, "project_id", "a"),
        ({"NEXT_PUBLIC_STACK_PROJECT_ID": "a"}, "project_id", "a"),
        ({"NEXT_PUBLIC_HEXCLAVE_PROJECT_ID": "a"}, "project_id", "a"),
        ({"NEXT_PUBLIC_STACK_PROJECT_ID": "c", "HEXCLAVE_PROJECT_ID": "b", "STACK_PROJECT_ID": "a"}, "project_id", "a"),
        ({"NEXT_PUBLIC_STACK_PROJECT_ID": "c", "HEXCLAVE_PROJECT_ID": "b"}, "project_id", "b"),
        ({"NEXT_PUBLIC_STACK_PROJECT_ID": "c", "NEXT_PUBLIC_HEXCLAVE_PROJECT_ID": "d"}, "project_id", "c"),
        ({"STACK_PROJECT_ID": "", "HEXCLAVE_PROJECT_ID": "b"}, "project_id", "b"),
        ({"NEXT_PUBLIC_STACK_API_URL": "u"}, "api_url", "u"),
        ({"STACK_PUBLISHABLE_CLIENT_KEY": "p"}, "publishable_client_key", "p"),
        ({"HEXCLAVE_SECRET_SERVER_KEY": "s"}, "secret_server_key", "s"),
        ({"stack_project_id": "a"}, "project_id", "" if os.name != "nt" else "a"),
    ],
    ids=str,
)
def test_first_variable_that_is_set_wins(
    monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str], setting: str, value: str
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert from_environment(setting) == value


@pytest.mark.parametrize("name", ["NEXT_PUBLIC_STACK_SECRET_SERVER_KEY", "NEXT_PUBLIC_HEXCLAVE_SECRET_SERVER_KEY"])
def test_secret_in_a_public_variable_is_ignored(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Next.js puts such variables into the pages of the site: using one would hide the leak."""
    monkeypatch.setenv(name, "s")
    assert from_environment("secret_server_key") == ""
