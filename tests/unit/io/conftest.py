"""Fixtures for tests of the runners and HTTP clients."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stackauth_middleware._core import key_set_cache
from stackauth_middleware._io.sync_runner import SyncRunner
from tests.unit.io.loopback import Skew, config_for

NAMES = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle", "netrc"),
)


@pytest.fixture
def make_runner() -> Iterator[Callable[..., SyncRunner]]:
    """Return a factory of runners that are closed after the test."""
    with contextlib.ExitStack() as stack:

        def make(url: str = "http://127.0.0.1:9", **settings: Any) -> SyncRunner:
            runner = SyncRunner(config_for(url, **settings))
            stack.callback(runner.close)
            return runner

        yield make


@pytest.fixture
def skew(monkeypatch: pytest.MonkeyPatch) -> Skew:
    """Replace the clocks, except for timeouts, which are long in case the machine is busy."""
    skew = Skew()
    monkeypatch.setattr(key_set_cache, "REFRESH_BUDGET", 30.0)
    for module in ("_io.async_runner", "_io.sync_runner", "_verifiers"):
        monkeypatch.setattr(f"stackauth_middleware.{module}.clocks", skew)
    return skew


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove proxies and certificates from the environment."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
