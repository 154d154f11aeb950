"""``python -m tests.transparency [SUITE ...]``: run suites plain, ``public`` and ``required``; exit 1 if any differs.

Each suite gets an environment of its own in a temporary folder; its source distribution comes from the package index.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]


class Suite(NamedTuple):
    """A source distribution that carries its tests.

    Attributes:
        package: its name on the index, with the version.
        needs: what its tests import besides.
        arguments: for pytest.
    """

    package: str
    needs: tuple[str, ...]
    arguments: tuple[str, ...] = ("tests",)


SUITES = {
    "werkzeug": Suite(
        "werkzeug",
        ("pytest-timeout", "ephemeral-port-reserve", "cryptography", "watchdog"),
        ("tests", "-m", "not dev_server"),
    ),
    "flask": Suite("flask", ("asgiref", "python-dotenv")),
    "webob": Suite("webob", ("legacy-cgi; python_version >= '3.13'",)),
    "starlette": Suite(
        "starlette",
        ("httpx2", "opentelemetry-sdk", "trio", "itsdangerous", "jinja2", "python-multipart", "pyyaml", "websockets"),
    ),
}


def _download(package: str, folder: Path) -> Path:
    """Return the folder of the unpacked source distribution."""
    command = ["pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "--dest", str(folder), package]
    subprocess.run([sys.executable, "-m", *command], check=True)
    archive = next(folder.glob("*.tar.gz"))
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return next(each for each in folder.iterdir() if each.is_dir())


def _outcomes(python: Path, suite: Suite, source: Path, mode: str) -> dict[str, str]:
    """Run the suite in one mode and return the outcome of each test."""
    report = source.parent / f"{mode or 'plain'}.xml"
    plugin = ["-p", "stackauth_wrapping"] if mode else []
    environ = {**os.environ, "TRANSPARENCY": mode, "PYTHONPATH": str(Path(__file__).parent)}
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:stackauth", *plugin]
    command += ["-W", "ignore", f"--junitxml={report}", *suite.arguments]
    with (source.parent / f"{mode or 'plain'}.log").open("w") as log:
        subprocess.run(command, cwd=source, env=environ, check=False, stdout=log, stderr=subprocess.STDOUT)
    found: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        ended = [each.tag for each in case if each.tag in ("failure", "error", "skipped")]
        found[f"{case.get('classname')}::{case.get('name')}"] = ended[0] if ended else "passed"
    return found


def run(name: str) -> int:
    """Run one suite and print its counts and differences; return the number of differences."""
    suite, differences = SUITES[name], 0
    with tempfile.TemporaryDirectory() as folder:
        source = _download(suite.package, Path(folder))
        environment = Path(folder, "environment")
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        python = environment / "bin" / "python"
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, str(source), str(ROOT), "pytest", *suite.needs], check=True)
        plain = _outcomes(python, suite, source, "")
        print(f"{source.name}, plain: {_counted(plain)}", flush=True)
        if "passed" not in plain.values():
            sys.exit(f"{name}: no test passed; a package that its tests import may be missing from SUITES")
        for mode in ("public", "required"):
            wrapped = _outcomes(python, suite, source, mode)
            differ = [each for each in sorted({*plain, *wrapped}) if plain.get(each) != wrapped.get(each)]
            differences += len(differ)
            print(f"{source.name}, {mode}: {_counted(wrapped)}; {len(differ)} differ", flush=True)
            for each in differ:
                print(f"  {each}: {plain.get(each)}, wrapped {wrapped.get(each)}", flush=True)
    return differences


def _counted(outcomes: dict[str, str]) -> str:
    ended = list(outcomes.values())
    return ", ".join(f"{ended.count(each)} {each}" for each in dict.fromkeys(ended))


if __name__ == "__main__":
    sys.exit(1 if sum([run(name) for name in sys.argv[1:] or SUITES]) else 0)
