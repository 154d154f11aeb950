"""Options of the test suite. Fixtures live beside the tests that use them."""

from __future__ import annotations

import pytest

from tests import shared


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shared-root", metavar="DIR", help="the folder of shared data (env STACKAUTH_SHARED)")
    parser.addoption("--wycheproof-root", metavar="DIR", help="the folder of the vectors (env WYCHEPROOF_ROOT)")


def pytest_configure(config: pytest.Config) -> None:
    shared.settle(config.getoption("--shared-root"))
