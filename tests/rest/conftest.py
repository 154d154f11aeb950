"""What the tests of the profiles over a network share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from stackauth_middleware import _async, _door, _edge, _sync, _verifiers, asgi, wsgi
from stackauth_middleware._wire import Clocks

from .upstream import Upstream, upstream_serving

_CLOCK_READERS = (_async, _door, _sync, _verifiers, asgi, wsgi)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the keys, proxies and certificates of the machine out of the tests."""
    for name in list(os.environ):
        if name.lower().endswith(("_proxy", "ssl_cert_file", "ssl_cert_dir")) or "STACK_" in name or "HEXCLAVE_" in name:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="session")
def one_tls_context() -> Iterator[None]:
    """Load the authorities once and not for each config: nothing here speaks TLS."""
    context = _edge.tls_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_edge, "tls_context", lambda: context)
        yield


@pytest.fixture
def up() -> Iterator[Upstream]:
    with upstream_serving() as upstream:
        yield upstream


class Warp:
    """Both clocks, as the package reads them, set forward by hand. Budgets of time are not."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds

    def __call__(self) -> Clocks:
        wall, mono = _edge.clocks()
        return Clocks(wall + self.seconds, mono + self.seconds)


@pytest.fixture
def warp(monkeypatch: pytest.MonkeyPatch) -> Warp:
    warp = Warp()
    for module in _CLOCK_READERS:
        monkeypatch.setattr(module, "clocks", warp)
    return warp
