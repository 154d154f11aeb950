"""Options of the test suite, and what every test would else pay for. Fixtures live beside the tests that use them."""

from __future__ import annotations

import os
import ssl
from functools import cache

import hypothesis
import pytest

from stackauth_middleware._core import reporting
from stackauth_middleware._io import network
from tests import shared

_made_anew = network.tls_context
_SETTINGS = "_hypothesis_internal_use_settings"
"""The attribute in which ``@settings`` leaves the settings of a property test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shared-root", metavar="DIR", help="the folder of shared data (env TESTS_SHARED)")
    parser.addoption("--wycheproof-root", metavar="DIR", help="the folder of the vectors (env WYCHEPROOF_ROOT)")


def pytest_configure(config: pytest.Config) -> None:
    shared.settle(config.getoption("--shared-root"))
    network.tls_context = _tls_context
    next(reporting._unexplained)  # its warning would be in the log of whichever test comes first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run fewer examples of each property test of tests/unit if ``TESTS_EXAMPLES`` says so; refuse ids that change."""
    if changing := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"an id has an address, so that the workers of xdist differ: {changing[0]}")
    limit = int(os.environ.get("TESTS_EXAMPLES", "0"))
    for test in [getattr(item, "obj", None) for item in items if "unit" in item.path.parts] if limit else []:
        if hypothesis.is_hypothesis_test(test):
            own: hypothesis.settings = getattr(test, _SETTINGS, hypothesis.settings.default)
            fewer = hypothesis.settings(own, max_examples=min(own.max_examples, limit), derandomize=True, database=None)
            setattr(test, _SETTINGS, fewer)


def _tls_context() -> ssl.SSLContext:
    """Return one context for each setting of the environment: to read all authorities takes longer than most tests."""
    return _remembered(*map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")))


@cache
def _remembered(*named: str | None) -> ssl.SSLContext:
    return _made_anew()
