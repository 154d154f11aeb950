"""The command line as a whole: exit status, and one-line errors on standard error."""

from __future__ import annotations

import argparse
import io
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stackauth_middleware import ConfigError, __version__, _cli
from stackauth_middleware._cli import main
from stackauth_middleware._cli._report import CommandError
from tests.unit.cli.ask import PROJECT, Runs

SECRET = "eyJhbGciOiJFUzI1NiIsImtpZCI6IkIxRTZnUG5nY2JzeiJ9"


def command(outcome: Any) -> SimpleNamespace:
    """Return a command that returns `outcome`, or raises it."""

    def run(_options: argparse.Namespace) -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        logging.getLogger("stackauth_middleware").warning("not for the terminal")
        logging.getLogger("uvicorn.error").error("nor this")
        return int(outcome)

    return SimpleNamespace(SUMMARY="s", DESCRIPTION="d", add=lambda _parser: None, run=run)


def with_command(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    monkeypatch.setattr(_cli, "COMMANDS", {"check": command(outcome)})


@pytest.mark.parametrize("status", [0, 1])
def test_status_is_that_of_the_command(run: Runs, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Log records of libraries are not printed."""
    with_command(monkeypatch, status)
    before = [[*logging.getLogger(name).handlers] for name in ("stackauth_middleware", "uvicorn")]
    assert run("check") == (status, "", "")
    assert [logging.getLogger(name).handlers for name in ("stackauth_middleware", "uvicorn")] == before


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("project_id is\nnot set"), "project_id is not set"),
        (CommandError("no such thing"), "no such thing"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (KeyError(SECRET), "internal error: KeyError in run, line "),
    ],
)
def test_errors_are_one_line(run: Runs, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str) -> None:
    """One line without a traceback, and without the text of an unexpected error, which could contain a token."""
    with_command(monkeypatch, error)
    ran = run("check")
    assert ran.status == 2
    assert ran.out == ""
    assert ran.err.startswith(f"stackauth-middleware: error: {line}")
    assert ran.err.count("\n") == 1
    assert SECRET not in ran.err


def test_standard_output_may_be_any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with_command(monkeypatch, 0)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main(["check"]) == 0


def test_ctrl_c_ends_quietly(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    with_command(monkeypatch, KeyboardInterrupt())
    assert run("check") == (130, "", "")


def test_closed_standard_output(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output without a file descriptor is left unchanged."""
    with_command(monkeypatch, BrokenPipeError())
    assert run("check") == (2, "", "")


def test_closed_pipe_does_not_fail_at_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file descriptor is redirected, so that the flush at exit does not fail."""
    with_command(monkeypatch, BrokenPipeError())
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["check"]) == 2
        out.write("x" * 100_000)
    assert (tmp_path / "out").read_text() == ""


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["verfy", SECRET],
        [SECRET],
        ["check", SECRET],
        ["verify", SECRET, f"--no-such-option={SECRET}"],
        ["check", "--project-id"],
        ["check", "--proj", PROJECT],
        ["demo", f"--check={SECRET}"],
    ],
)
def test_wrong_arguments_are_one_line(run: Runs, argv: list[str]) -> None:
    """Usage errors end with status 2, say where help is, and quote nothing that could be a token."""
    ran = run(*argv)
    assert ran.status == 2
    assert ran.out == ""
    assert ran.err.startswith("stackauth-middleware: error: ")
    assert ran.err.count("\n") == 1
    assert "--help" in ran.err
    assert SECRET not in ran.err


def test_version(run: Runs) -> None:
    assert run("--version") == (0, f"stackauth-middleware {__version__}\n", "")


@pytest.mark.parametrize("argv", [["--help"], ["demo", "--help"], ["verify", "--help"], ["check", "--help"]])
def test_help(run: Runs, argv: list[str]) -> None:
    ran = run(*argv)
    assert ran.status == 0
    assert "usage: stackauth-middleware" in ran.out
    assert all(name in run("--help").out for name in ("demo", "verify", "check", "Exit status"))


def test_settings_are_read_from_the_environment(run: Runs, monkeypatch: pytest.MonkeyPatch, stackauth: Any) -> None:
    monkeypatch.setenv("STACK_PROJECT_ID", PROJECT)
    monkeypatch.setenv("STACK_API_URL", "https://stack.example.com")
    ran = run("check")
    assert ran.status == 0
    assert "https://stack.example.com/api/v1/projects/" + PROJECT in ran.out


@pytest.mark.parametrize("argv", [("check",), ("verify", "x")])
def test_missing_settings(run: Runs, argv: tuple[str, ...]) -> None:
    ran = run(*argv)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("stackauth-middleware: error: project_id is not set")


def test_no_command_imports_what_it_does_not_need() -> None:
    """Neither ``--help`` nor the other commands need what only the demo's extra brings."""
    script = "import sys, stackauth_middleware._cli; print({'uvicorn', 'starlette', 'bottle'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
