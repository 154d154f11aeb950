"""Wrong uses that mypy and pyright have to report, each on its line with its error code.

The other files of this folder hold correct uses; the ordinary runs of both checkers cover them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("wrong_uses.py.txt")
MARK = re.compile(r"# mypy: (?P<mypy>\S+); pyright: (?P<pyright>\S+)$")


def expected(checker: str) -> list[tuple[int, str]]:
    """Return the line and the code of each error that is marked."""
    lines = enumerate(SOURCE.read_text().splitlines(), 1)
    return [(number, mark[checker]) for number, line in lines if (mark := MARK.search(line))]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("typing") / "wrong_uses.py"
    path.write_text(SOURCE.read_text())
    return path


def _run(copy: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", *arguments, str(copy)]
    done = subprocess.run(command, cwd=copy.parent, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_mypy_reports_each_wrong_use(copy: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed here; the lint environment has it")
    output = _run(copy, "mypy", "--strict", "--hide-error-context", "--no-pretty", "--cache-dir", str(copy.parent))
    found = re.findall(r"^wrong_uses\.py:(\d+): error: .*\[([a-z-]+)\]$", output, re.MULTILINE)
    assert sorted((int(line), code) for line, code in found) == expected("mypy"), output


def test_pyright_reports_each_wrong_use(copy: Path) -> None:
    pytest.importorskip("pyright", reason="pyright is not installed here; the lint environment has it")
    output = json.loads(_run(copy, "pyright", "--outputjson", "--pythonpath", sys.executable))
    found = [
        (each["range"]["start"]["line"] + 1, each["rule"])
        for each in output["generalDiagnostics"]
        if each["severity"] == "error"
    ]
    assert sorted(set(found)) == expected("pyright"), output


def test_every_wrong_use_is_marked() -> None:
    lines = SOURCE.read_text().splitlines()
    first = lines.index("# a name that no setting has")
    uses = [line for line in lines[first:] if line and not line.startswith("#")]
    assert len(uses) == len(expected("mypy")) == len(expected("pyright")) > 30
