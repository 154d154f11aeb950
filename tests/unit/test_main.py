"""``python -m stackauth_middleware`` and the script, as processes of their own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = [sys.executable, "-m", "stackauth_middleware"]
SCRIPT = [str(Path(sys.executable).with_name("stackauth-middleware"))]


@pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["module", "script"])
def test_runs_as_a_process(command: list[str]) -> None:
    """The token comes by standard input, and neither it nor a traceback shows."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("STACK_", "HEXCLAVE_", "NEXT_"))}
    settings = ["--project-id", "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063", "--api-url", "http://127.0.0.1:9"]
    token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."
    done = subprocess.run(
        [*command, "verify", *settings], input=token, capture_output=True, text=True, timeout=120, env=bare, check=False
    )
    assert done.returncode == 1
    assert "FAIL  form" in done.stdout
    assert done.stderr == ""
    assert token not in done.stdout


def test_status_and_line_of_an_error() -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("STACK_", "HEXCLAVE_", "NEXT_"))}
    done = subprocess.run([*MODULE, "check"], capture_output=True, text=True, timeout=120, env=bare, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("stackauth-middleware: error: project_id is not set")
    assert done.stderr.count("\n") == 1


def test_importing_it_runs_nothing() -> None:
    """As tools do that import every module there is."""
    assert importlib.import_module("stackauth_middleware.__main__").main
