"""Demand that each module of the package is covered, all lines and branches, by its own test file alone.

A script: ``python tests/one_file_coverage.py [MODULE ...]``, where a module is named by its path below the package,
such as ``_core/rules.py`` or ``testing/_local.py``. Without names it measures all modules, and all combined as well.
``tests/unit`` mirrors the package; for `contrib` see `INTEGRATIONS`.

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
"""The tests of the modules of `contrib`: the conformance suite and the files beside it, selected by framework."""
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
    """Run the test file of `module` and send the outcome to `found`."""
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
            # Some modules were imported before pytest could rewrite their asserts.
            not_rewritten = "ignore::pytest.PytestAssertRewriteWarning"
            chosen = ["-k", _keyword(module)] if test == INTEGRATIONS else []
            arguments = ["-q", "-p", "no:cacheprovider", "-W", not_rewritten, *chosen, str(test.relative_to(ROOT))]
            failed = pytest.main(arguments)
        measured.save()
        sys.stdout.flush()
        printed = folder.joinpath("output").read_text()
    if failed:
        return found.send(Outcome(name, good=False, text=f"{test.name} failed\n{printed}"))
    report = io.StringIO()
    whole = coverage.Coverage(data_file=data_file)  # with the data of its subprocesses
    whole.combine()
    whole.save()
    if whole.report(include=[str(module)], file=report) < 100:
        text = f"is not covered by {test.name} alone\n{report.getvalue()}"
        return found.send(Outcome(name, good=False, text=text))
    last = printed.strip().splitlines()[-1]
    text = f"by {test.relative_to(ROOT)}: {last}; {sum(os.times()[:4]):.1f} s of CPU time"
    return found.send(Outcome(name, good=True, text=text))


def _keyword(module: Path) -> str:
    """Return the pytest ``-k`` expression that selects the tests of a contrib module: its framework."""
    name = module.relative_to(PACKAGE / "contrib").with_suffix("").parts[0].strip("_")
    return {"werkzeug": "flask or quart", "shared": "shared or bottle or falcon"}.get(name, name)


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
