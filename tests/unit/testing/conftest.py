"""Fixtures that several test files of `stackauth_middleware.testing` share."""

from __future__ import annotations

import pytest

from stackauth_middleware._core import config as config_module
from stackauth_middleware.testing import LocalStackAuth
from tests.unit.testing.helpers import PROJECT


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the newest config, and the project ids of the environment."""
    monkeypatch.setattr(config_module, "newest_config", lambda: None)
    for prefix in ("STACK", "HEXCLAVE", "NEXT_PUBLIC_STACK", "NEXT_PUBLIC_HEXCLAVE"):
        monkeypatch.delenv(f"{prefix}_PROJECT_ID", raising=False)


@pytest.fixture
def local() -> LocalStackAuth:
    """Return a local Stack Auth whose projects all exist and accept any key."""
    return LocalStackAuth(PROJECT)
