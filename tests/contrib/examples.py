"""The examples, run as they stand."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from .cases import PROJECT

_FOLDER = Path(__file__).parents[2] / "examples"


def example(name: str, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Run an example as a server would import it, and return its names."""
    monkeypatch.setenv("STACK_PROJECT_ID", PROJECT)
    return SimpleNamespace(**runpy.run_path(str(_FOLDER / name), run_name=name.removesuffix(".py")))
