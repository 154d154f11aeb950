"""Where the vector files are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.shared import shared_path


@pytest.fixture(scope="session")
def wycheproof() -> Path:
    """Return the folder of the Wycheproof files: `WYCHEPROOF_ROOT`, or the shared one."""
    given = os.environ.get("WYCHEPROOF_ROOT")
    return Path(given) if given else Path(shared_path("vectors", "wycheproof"))
