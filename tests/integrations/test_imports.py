"""Imports of contrib modules: only their own framework, and without prior setup."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = {"fastapi", "starlette", "litestar", "falcon", "quart", "flask", "bottle", "django", "rest_framework"}
MADE_OF = {"fastapi": {"starlette"}, "quart": {"flask"}}


MODULES = ["", "_shared", *sorted(FRAMEWORKS - {"rest_framework"}), "django.apps"]


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_its_own_framework(module: str) -> None:
    """Django's can be imported before settings exist, as a ``settings.py`` may do."""
    name = f"stackauth_middleware.contrib.{module}".strip(".")
    program = f"import sys, {name}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    own = module.partition(".")[0].strip("_")
    expected = ({own} | MADE_OF.get(own, set())) & FRAMEWORKS
    assert set(run.stdout.split()) & FRAMEWORKS == expected
