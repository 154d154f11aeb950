"""Fixtures of the framework tests."""

from __future__ import annotations

import warnings

import pytest

from stackauth_middleware import StackAuthConfig

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have a successor of httpx, where it is installed
    import pyramid.config  # noqa: F401  (WebOb imports cgi, which Python 3.13 has dropped)
    import starlette.testclient  # noqa: F401 - its import warns

PROJECT = "6f0a2a55-6a54-4c5c-9a0e-0d5a3c2d9d11"


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name the project in the environment, as apps have it, and return it."""
    for name in ("STACK_API_URL", "STACK_SECRET_SERVER_KEY", "STACK_PUBLISHABLE_CLIENT_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STACK_PROJECT_ID", PROJECT)
    return PROJECT


@pytest.fixture
def auth(project: str) -> StackAuthConfig:
    """Settings from the environment alone."""
    return StackAuthConfig()
