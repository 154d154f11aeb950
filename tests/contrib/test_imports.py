"""The WSGI frameworks' modules: each imports its own framework, and needs nothing set up before that."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = {"fastapi", "starlette", "litestar", "falcon", "quart", "flask", "bottle", "django", "rest_framework"}


@pytest.mark.parametrize(
    ("module", "framework"), [("flask", "flask"), ("bottle", "bottle"), ("django", "django"), ("django.apps", "django")]
)
def test_a_module_imports_its_own_framework_only(module: str, framework: str) -> None:
    """Django's before there are settings, as a ``settings.py`` does that takes a name from it."""
    program = (
        f"import sys, stackauth_middleware.contrib.{module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) & FRAMEWORKS == {framework}
