"""What the tests of the doors share."""

from __future__ import annotations

import pytest

from stackauth_middleware import StackAuthConfig

from .drive import PROJECT


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the proxies and certificates of the machine out of the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir", "netrc"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def config_made_last() -> StackAuthConfig:
    """Keep a config with the usual issuers alive: the fixture's tokens are for the one made last in the process."""
    return StackAuthConfig(project_id=PROJECT)
