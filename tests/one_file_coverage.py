"""Demand that each module of the package is covered, all lines and branches, by its own test file alone.

A script: ``python tests/one_file_coverage.py [MODULE ...]``, where a module is named by its path
below the package, such as ``_keyset.py`` or ``testing/plugin.py``; without names it takes all, and
reports on them combined as well. The own test file of ``_name.py`` is the one ``test_name.py``
below ``tests``, in the folder of the same name where the module is in a sub-package.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "stackauth_middleware"
TESTS = ROOT / "tests"
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If, ast.For, ast.Try)


class Outcome(NamedTuple):
    """What came of one module: its path, whether it is covered, and what there is to say."""

    module: str
    good: bool
    text: str


def modules() -> list[Path]:
    """Return the modules that hold code: those of imports and constants alone are run by any import."""
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if any(isinstance(node, _CODE) for node in ast.parse(path.read_text("utf-8")).body)
    ]


def own_test(module: Path) -> Path:
    """Return the test file of `module`.

    Raises:
        LookupError: there is none, or more than one.
    """
    inner = module.relative_to(PACKAGE)
    folders = [each.strip("_") for each in inner.parent.parts]
    name = folders[-1] if inner.name == "__init__.py" and folders else inner.stem.strip("_")
    if folders:
        found = list(TESTS.joinpath(*folders).glob(f"test_{name}.py"))
    else:
        taken = {path.name.strip("_") for path in PACKAGE.iterdir() if path.is_dir()}
        found = [path for path in TESTS.rglob(f"test_{name}.py") if path.relative_to(TESTS).parts[0] not in taken]
    if len(found) != 1:
        raise LookupError(f"has {len(found)} files of its own named test_{name}.py")
    return found[0]


def measure(module: Path, data: Path) -> Outcome:
    """Run the test file of `module` and say whether it covers it."""
    name = str(module.relative_to(PACKAGE))
    try:
        test = own_test(module)
    except LookupError as error:
        return Outcome(name, good=False, text=str(error))
    data_file = data / name.replace(os.sep, "-") / ".coverage"
    data_file.parent.mkdir()
    environ = {**os.environ, "COVERAGE_FILE": str(data_file)}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )

    tested = run("coverage", "run", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test.relative_to(ROOT)))
    if tested.returncode:
        return Outcome(name, good=False, text=f"{test.name} failed\n{tested.stdout}{tested.stderr}")
    run("coverage", "combine", "-q")
    report = run("coverage", "report", "--fail-under=100", f"--include={module}")
    if report.returncode:
        return Outcome(name, good=False, text=f"is not covered by {test.name} alone\n{report.stdout}{report.stderr}")
    return Outcome(name, good=True, text=f"by {test.relative_to(ROOT)}: {tested.stdout.strip().splitlines()[-1]}")


def combined(data: Path) -> int:
    """Report on all modules together, and return the exit status."""
    files = [str(path) for path in data.glob("*/.coverage")]
    environ = {**os.environ, "COVERAGE_FILE": str(data / ".coverage")}
    command = [sys.executable, "-m", "coverage"]
    subprocess.run([*command, "combine", "-q", "--keep", *files], cwd=ROOT, env=environ, check=True)
    return subprocess.run([*command, "report", "--fail-under=100"], cwd=ROOT, env=environ, check=False).returncode


def main(names: list[str]) -> int:
    """Measure the named modules, or all, and return the exit status."""
    chosen = [PACKAGE / name for name in names] or modules()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        data = Path(folder)
        failed = 0
        for future in as_completed(pool.submit(measure, module, data) for module in chosen):
            outcome = future.result()
            print("ok  " if outcome.good else "FAIL", outcome.module, outcome.text, flush=True)
            failed += not outcome.good
        print(f"{len(chosen) - failed} of {len(chosen)} modules are covered by their own test file")
        return 1 if failed or (not names and combined(data)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
