"""Where the vector files are, and an issuer in place of the network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackauth_middleware import StackAuthConfig
from tests.core.helpers import PROJECT
from tests.shared import shared_path

from .issuer import CountingIssuer, issuer_in_place


@pytest.fixture(scope="session")
def wycheproof(pytestconfig: pytest.Config) -> Path:
    """Return the folder of the Wycheproof files: ``--wycheproof-root``, `WYCHEPROOF_ROOT`, or the shared one.

    Raises:
        pytest.UsageError: a place was named and there is no folder.
    """
    named = pytestconfig.getoption("--wycheproof-root") or os.environ.get("WYCHEPROOF_ROOT")
    if not named:
        return shared_path("vectors", "wycheproof")
    if not Path(named).is_dir():
        raise pytest.UsageError(f"the Wycheproof files were said to be in {named}, where there is no folder")
    return Path(named)


@pytest.fixture
def issuer() -> Iterator[CountingIssuer]:
    """Stand in for the network, with the keys that sign the corpus; nothing is remembered before or after."""
    with issuer_in_place() as issuer:
        yield issuer


@pytest.fixture
def config() -> StackAuthConfig:
    return StackAuthConfig(project_id=PROJECT)
