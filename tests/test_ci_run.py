"""`.ci/run`: it runs the README's command, fails where that fails, and sums up what was tested."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "run"
MARKER = "<!-- command: all checks -->"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the script is for bash")


class Ran(NamedTuple):
    """What the script left behind."""

    status: int
    lines: list[str]
    err: str


def ran(folder: Path, command: str, marker: str = MARKER) -> Ran:
    """Run the script in a checkout whose README says `command`."""
    checkout = folder / "checkout"
    (checkout / ".ci").mkdir(parents=True)
    (checkout / ".ci" / "run").write_text(SCRIPT.read_text("utf-8"), "utf-8")
    (checkout / "README.md").write_text(
        f"# x\n\n```sh\nexit 9\n```\n\n{marker}\n```sh\n{command}\n```\n\n```sh\nexit 8\n```\n"
    )
    environ = {**os.environ, "PYENV_ROOT": str(folder / "no-pyenv")}
    environ.pop("CI", None)
    environ.pop("TESTS_SHARED", None)
    done = subprocess.run(
        ["bash", str(checkout / ".ci" / "run")],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout.splitlines(), done.stderr)


def test_sums_up_all_sessions(tmp_path: Path) -> None:
    """Colours, skips and long runs are read; what a session prints beside them is not."""
    command = (
        r"printf '== \033[32m12 passed\033[0m, 1 skipped in 3.45s ==\n7 passed in 75.31s (0:01:15)\n"
        r"ok  _wire.py by test_wire.py: 99 passed in 1s\n'"
    )
    done = ran(tmp_path, command)
    assert (done.status, done.lines[-1]) == (0, "19 passed, 0 failed")
    assert done.lines[0] == f"+ {command}"


@pytest.mark.parametrize(
    ("command", "status", "last"),
    [
        ("echo '== 2 failed, 3 passed, 1 error in 1.00s =='; exit 4", 4, "3 passed, 3 failed"),
        ("echo '== 3 passed in 1.00s =='; exit 1", 1, "3 passed, 1 failed"),
        ("exit 7", 7, "0 passed, 1 failed"),
        ("true", 1, "0 passed, 0 failed"),
        ("echo '== no tests ran in 0.01s =='", 1, "0 passed, 0 failed"),
        ("echo '== 1 failed, 3 passed in 1.00s =='", 1, "3 passed, 1 failed"),
        ("false && echo '== 3 passed in 1.00s =='", 1, "0 passed, 1 failed"),
    ],
)
def test_fails_where_anything_fails(tmp_path: Path, command: str, status: int, last: str) -> None:
    """Also where nothing was tested, and where a failure was counted but not reported."""
    done = ran(tmp_path, command)
    assert (done.status, done.lines[-1]) == (status, last)


def test_a_readme_without_the_command(tmp_path: Path) -> None:
    done = ran(tmp_path, "echo '== 3 passed in 1.00s =='", marker="")
    assert done.status == 1
    assert "README.md no longer has the command" in done.err


def test_what_the_command_sees(tmp_path: Path) -> None:
    """It runs at the top of the checkout, as continuous integration, and knows where the shared folder is."""
    (tmp_path / "shared").mkdir()
    done = ran(tmp_path, 'echo "$CI|$PWD|$TESTS_SHARED"; echo "1 passed in 0.10s"')
    assert done.lines[1:] == [
        f"true|{tmp_path / 'checkout'}|{tmp_path / 'shared'}",
        "1 passed in 0.10s",
        "1 passed, 0 failed",
    ]


def test_pyenv_is_asked_for_what_it_has(tmp_path: Path) -> None:
    """Only versions that are there are named: pyenv refuses a list with one that is not."""
    for version in ("3.10.13", "3.13.0", "3.9.18"):
        python = tmp_path / "no-pyenv" / "versions" / version / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text("#!/bin/sh\n")
        python.chmod(0o755)
    done = ran(tmp_path, 'echo "$PYENV_VERSION|${PATH%%:*}"; echo "1 passed in 0.10s"')
    assert done.lines[1] == f"3.10.13:3.13.0|{tmp_path / 'no-pyenv' / 'shims'}"
