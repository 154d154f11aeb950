"""Fixtures: the vector files, an issuer that replaces the network, clocks, and real sockets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackauth_middleware import StackAuthConfig
from tests.network.conftest import Attempts, attempts_counted, patch_clocks
from tests.network.upstream import Upstream, upstream_serving
from tests.shared import shared_path
from tests.unit.core.helpers import PROJECT, Clock

from .issuer import CountingIssuer, issuer_in_place
from .published import Published, published


@pytest.fixture(scope="session")
def wycheproof(pytestconfig: pytest.Config) -> Path:
    """Return the folder of the Wycheproof files: ``--wycheproof-root``, `WYCHEPROOF_ROOT`, or the shared one.

    Raises:
        pytest.UsageError: the named folder does not exist.
    """
    named = pytestconfig.getoption("--wycheproof-root") or os.environ.get("WYCHEPROOF_ROOT")
    if not named:
        return shared_path("vectors", "wycheproof")
    if not Path(named).is_dir():
        raise pytest.UsageError(f"{named}, the folder of the Wycheproof files, does not exist")
    return Path(named)


@pytest.fixture
def issuer() -> Iterator[CountingIssuer]:
    """Replace the network by an issuer with the keys of the corpus, with empty caches before and after."""
    with issuer_in_place() as issuer:
        yield issuer


@pytest.fixture
def config() -> StackAuthConfig:
    return StackAuthConfig(project_id=PROJECT)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop both clocks as the package reads them. Time budgets still use the real clock."""
    clock = Clock()
    patch_clocks(monkeypatch, lambda: clock.now)
    return clock


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow real sockets, without the proxies and certificates of the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir", "netrc"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def keys(network: None, clock: Clock) -> Iterator[Published]:
    with published() as keys:
        yield keys


@pytest.fixture
def up(network: None) -> Iterator[Upstream]:
    with upstream_serving() as upstream:
        yield upstream


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    return attempts_counted(monkeypatch)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    """Count the calls for key sets when they are sent: a server may not receive one that hangs in time."""
    return attempts_counted(monkeypatch, "/jwks.json")
