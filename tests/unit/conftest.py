"""Fixtures of the tests that send requests through a middleware. Modules ask for them by name."""

from __future__ import annotations

import pytest

from stackauth_middleware import StackAuthConfig

from .drive import PROJECT

_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir", "netrc")


@pytest.fixture
def isolated_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the proxies and certificates of the machine."""
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def newest_config() -> StackAuthConfig:
    """Keep a config with the default issuers alive: local tokens are issued for the newest config of the process."""
    return StackAuthConfig(project_id=PROJECT)
