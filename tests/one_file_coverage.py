"""Demand that each module of the package is covered, all lines and branches, by its own test file alone.

A script: ``python tests/one_file_coverage.py [MODULE ...]``, where a module is named by its path
below the package, such as ``_keyset.py`` or ``testing/plugin.py``; without names it takes all, and
reports on them combined as well. The own test file of ``_name.py`` is the one ``test_name.py``
below ``tests``, in the folder of the same name where the module is in a sub-package; for `contrib` see `INTEGRATIONS`.

Each test file runs in a process of its own. It is forked from one that has imported what is not the
package's: to do so anew would take longer than most of the files themselves.
"""

from __future__ import annotations

import ast
import io
import multiprocessing
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import coverage
import pytest

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "stackauth_middleware"
TESTS = ROOT / "tests"
PROCESSES = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
IMPORTED = ["pytest", "coverage", "hypothesis", "cryptography.x509", "jwt", "joserfc", "requests", "httpx", "trio"]
"""Before the fork. Nothing here may import the package: what its import runs has to be measured."""
INTEGRATIONS = TESTS / "integrations"
"""For the modules of `contrib`: the conformance suite and the files beside it, as far as they name the module."""
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
    if folders[:1] == ["contrib"]:
        return INTEGRATIONS
    name = folders[-1] if inner.name == "__init__.py" and folders else inner.stem.strip("_")
    if folders:
        found = list(TESTS.joinpath(*folders).glob(f"test_{name}.py"))
    else:
        taken = {path.name.strip("_") for path in PACKAGE.iterdir() if path.is_dir()}
        found = [path for path in TESTS.rglob(f"test_{name}.py") if path.relative_to(TESTS).parts[0] not in taken]
    if len(found) != 1:
        raise LookupError(f"has {len(found)} files of its own named test_{name}.py")
    return found[0]


def outcome(module: Path, data: Path) -> Outcome:
    """Measure `module` in a process of its own."""
    receiving, sending = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=measure, args=(module, data, sending))
    process.start()
    sending.close()
    try:
        found: Outcome = receiving.recv()
    except EOFError:
        process.join()
        return Outcome(_name(module), good=False, text=f"its process ended by {process.exitcode}")
    process.join()
    return found


def measure(module: Path, data: Path, found: Connection) -> None:
    """Run the test file of `module` and tell `found` whether it covers it."""
    name = _name(module)
    try:
        test = own_test(module)
    except LookupError as error:
        return found.send(Outcome(name, good=False, text=str(error)))
    folder = data / name.replace(os.sep, "-")
    folder.mkdir()
    os.chdir(ROOT)
    sys.path[0] = str(ROOT)  # as ``python -m pytest`` has it
    with folder.joinpath("output").open("w+") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
        data_file = str(folder / ".coverage")
        measured = coverage.Coverage(data_file=data_file)
        with measured.collect():
            # The warning is of modules that were imported before pytest could rewrite their asserts.
            unwritten = "ignore::pytest.PytestAssertRewriteWarning"
            chosen = ["-k", _keyword(module)] if test == INTEGRATIONS else []
            arguments = ["-q", "-p", "no:cacheprovider", "-W", unwritten, *chosen, str(test.relative_to(ROOT))]
            failed = pytest.main(arguments)
        measured.save()
        sys.stdout.flush()
        said = folder.joinpath("output").read_text()
    if failed:
        return found.send(Outcome(name, good=False, text=f"{test.name} failed\n{said}"))
    report = io.StringIO()
    whole = coverage.Coverage(data_file=data_file)  # with what its sub-processes left
    whole.combine()
    whole.save()
    if whole.report(include=[str(module)], file=report) < 100:
        text = f"is not covered by {test.name} alone\n{report.getvalue()}"
        return found.send(Outcome(name, good=False, text=text))
    return found.send(Outcome(name, good=True, text=f"by {test.relative_to(ROOT)}: {said.strip().splitlines()[-1]}"))


def _keyword(module: Path) -> str:
    """Return what chooses the tests of a contrib module: its framework."""
    name = module.relative_to(PACKAGE / "contrib").with_suffix("").parts[0].strip("_")
    return {"werkzeug": "flask or quart"}.get(name, name)


def _name(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


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
    PROCESSES.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        data = Path(folder)
        failed = 0
        for future in as_completed(pool.submit(outcome, module, data) for module in chosen):
            found = future.result()
            print("ok  " if found.good else "FAIL", found.module, found.text, flush=True)
            failed += not found.good
        print(f"{len(chosen) - failed} of {len(chosen)} modules are covered by their own test file")
        return 1 if failed or (not names and combined(data)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
