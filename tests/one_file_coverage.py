"""Demand that each module of the package is covered, all lines and branches, by its own test file alone.

A script: ``python tests/one_file_coverage.py [MODULE ...]``, where a module is named by its path below the package,
such as ``_core/rules.py`` or ``testing/_local.py``. Without names it measures all modules, and all combined as well.
``tests/unit`` mirrors the package; all modules of `contrib` are measured together, see `INTEGRATIONS`.

Each test file runs in its own process, forked from one that has imported the third-party packages: importing them
again would take longer than most of the test files.
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
"""Imported before the fork. None of them may import the package, since its import has to be measured."""
INTEGRATIONS = TESTS / "integrations"
"""The tests of the modules of `contrib`: the conformance suite and the files beside it, in one process for all."""
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If, ast.For, ast.Try)


class Outcome(NamedTuple):
    """The result for one module: its path, whether it is covered, and a message."""

    module: str
    good: bool
    text: str


def modules() -> list[Path]:
    """Return the modules that have code. Any import runs all of the others, which have imports and constants only."""
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if any(isinstance(node, _CODE) for node in ast.parse(path.read_text("utf-8")).body)
    ]


def own_test(module: Path) -> Path:
    """Return the test file of `module`, or for a module of `contrib` the folder of its tests.

    Raises:
        LookupError: the file does not exist.
    """
    *folders, name = module.relative_to(PACKAGE).with_suffix("").parts
    if folders[:1] == ["contrib"]:
        return INTEGRATIONS
    if name == "__init__" and folders:
        name = folders[-1]
    test = TESTS.joinpath("unit", *(folder.strip("_") for folder in folders), f"test_{name.strip('_')}.py")
    if not test.is_file():
        raise LookupError(f"has no test file {test.relative_to(TESTS)}")
    return test


def outcomes(test: Path, measured: list[Path], data: Path) -> list[Outcome]:
    """Run `test` in a process of its own, and return the outcome of each module that it has to cover."""
    receiving, sending = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=measure, args=(test, measured, data, sending))
    process.start()
    sending.close()
    try:
        found: list[Outcome] = receiving.recv()
    except EOFError:
        process.join()
        found = [Outcome(_name(test, TESTS), good=False, text=f"its process ended by {process.exitcode}")]
    process.join()
    return found


def measure(test: Path, measured: list[Path], data: Path, found: Connection) -> None:
    """Run `test` and send the outcome of each module to `found`."""
    folder = data / _name(test, TESTS).replace(os.sep, "-")
    folder.mkdir()
    os.chdir(ROOT)
    sys.path[0] = str(ROOT)  # as ``python -m pytest`` has it
    with folder.joinpath("output").open("w+") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
        data_file = str(folder / ".coverage")
        measuring = coverage.Coverage(data_file=data_file)
        with measuring.collect():
            # Some modules were imported before pytest could rewrite their asserts.
            not_rewritten = "ignore::pytest.PytestAssertRewriteWarning"
            failed = pytest.main(["-q", "-p", "no:cacheprovider", "-W", not_rewritten, str(test.relative_to(ROOT))])
        measuring.save()
        sys.stdout.flush()
        printed = folder.joinpath("output").read_text()
    if failed:
        return found.send([Outcome(_name(test, TESTS), good=False, text=f"failed\n{printed}")])
    whole = coverage.Coverage(data_file=data_file)  # with the data of its subprocesses
    whole.combine()
    whole.save()
    last = f"{printed.strip().splitlines()[-1]}; {sum(os.times()[:4]):.1f} s of CPU time"
    return found.send([_outcome(whole, test, module, last) for module in measured])


def _outcome(whole: coverage.Coverage, test: Path, module: Path, last: str) -> Outcome:
    report = io.StringIO()
    if whole.report(include=[str(module)], file=report) < 100:
        text = f"is not covered by {test.name} alone\n{report.getvalue()}"
        return Outcome(_name(module), good=False, text=text)
    return Outcome(_name(module), good=True, text=f"by {test.relative_to(ROOT)}: {last}")


def _name(path: Path, root: Path = PACKAGE) -> str:
    return str(path.relative_to(root))


def combined(data: Path) -> int:
    """Report on all modules together, and return the exit status."""
    files = [str(path) for path in data.glob("*/.coverage")]
    environ = {**os.environ, "COVERAGE_FILE": str(data / ".coverage")}
    command = [sys.executable, "-m", "coverage"]
    subprocess.run([*command, "combine", "-q", "--keep", *files], cwd=ROOT, env=environ, check=True)
    return subprocess.run([*command, "report", "--fail-under=100"], cwd=ROOT, env=environ, check=False).returncode


def main(names: list[str]) -> int:
    """Measure the named modules, or all, and return the exit status."""
    by_test: dict[Path, list[Path]] = {}
    failed = 0
    for module in [PACKAGE / name for name in names] or modules():
        try:
            by_test.setdefault(own_test(module), []).append(module)
        except LookupError as error:
            print("FAIL", _name(module), error)
            failed += 1
    longest_first = sorted(by_test, key=lambda test: test != INTEGRATIONS)
    PROCESSES.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        data = Path(folder)
        covered = 0
        for future in as_completed(pool.submit(outcomes, test, by_test[test], data) for test in longest_first):
            for found in future.result():
                print("ok  " if found.good else "FAIL", found.module, found.text, flush=True)
                failed += not found.good
                covered += found.good
        print(f"{covered} modules are covered by their own test file; {failed} failed")
        return 1 if failed or (not names and combined(data)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
