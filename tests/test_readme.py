"""The README: its length, its links, and the two commands. Its code is run by test_docs.py."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
MAX_LINES = 250


def command(name: str) -> str:
    """Return the one-line command behind the marker `name`."""
    (found,) = re.findall(rf"^<!-- command: {name} -->\n```sh\n(.+)\n```$", TEXT, re.MULTILINE)
    return str(found)


def test_readme_is_short() -> None:
    assert len(TEXT.splitlines()) <= MAX_LINES


def test_ci_runs_the_command_of_the_readme() -> None:
    """The line that .ci/run takes out of the README is the whole command."""
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    (extract,) = re.findall(r"^command=\$\((.*)\)$", script, re.MULTILINE)
    done = subprocess.run(["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == command("all checks")
    assert 'bash -c "$command"' in script


def test_commands_install_what_pyproject_declares() -> None:
    assert len(re.findall("^<!-- command: ", TEXT, re.MULTILINE)) == 2
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extra, script = re.findall(r'"\.\[(\w+)\]".*\.venv/bin/(\S+) demo', command("demo"))[0]
    assert extra in project["optional-dependencies"]
    assert project["scripts"][script] == "stackauth_middleware._cli:main"
    assert "nox" in command("all checks")
    assert (ROOT / "noxfile.py").exists()


def test_links_of_the_readme_lead_to_files() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert [target for target in targets if not (ROOT / target).exists()] == []
