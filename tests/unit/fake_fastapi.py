"""Stands for the module ``fastapi``, which unit tests do without. Only `root_path` of its apps matters here."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


class FastAPI:
    """An app that states its root path."""

    root_path = ""


@pytest.fixture(scope="module", autouse=True)
def fake_fastapi() -> Iterator[None]:
    """Put this module in the place of ``fastapi``, for the tests of each module that imports this fixture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "fastapi", sys.modules[__name__])
        yield
