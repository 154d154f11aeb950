"""Each contrib module imports its own framework alone, and needs nothing set up before that."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = {"fastapi", "starlette", "litestar", "falcon", "quart", "flask", "bottle", "django", "rest_framework"}
MADE_OF = {"fastapi": {"starlette"}, "quart": {"flask"}}


MODULES = ["", "_shared", *sorted(FRAMEWORKS - {"rest_framework"}), "django.apps"]


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_its_own_framework_alone(module: str) -> None:
    """Django's before there are settings, as a ``settings.py`` does that takes a name from it."""
    name = f"stackauth_middleware.contrib.{module}".strip(".")
    program = f"import sys, {name}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    own = module.partition(".")[0].strip("_")
    expected = ({own} | MADE_OF.get(own, set())) & FRAMEWORKS
    assert set(run.stdout.split()) & FRAMEWORKS == expected
