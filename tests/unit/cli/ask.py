"""Runs the command line in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from stackauth_middleware._cli import main

PROJECT = "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063"
OTHER_PROJECT = "11111111-2222-4333-8444-555555555555"
API = "http://127.0.0.1:9"
SETTINGS = ("--project-id", PROJECT, "--api-url", API)


class Ran(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str

    def marks(self) -> dict[str, str]:
        """Return the mark of each subject among the findings."""
        lines = [line.split(None, 2) for line in self.out.splitlines()]
        return {line[1]: line[0] for line in lines if line and line[0] in ("ok", "FAIL", "--")}

    def text(self, subject: str) -> str:
        """Return what the finding on `subject` says."""
        (found,) = [line for line in self.out.splitlines() if line.split(None, 2)[1:2] == [subject]]
        return found.split(None, 2)[2]


Runs = Callable[..., Ran]


def runner(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Return the function that runs a command line with a standard input."""

    def run(*argv: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        try:
            status = main(argv)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else -1
        return Ran(status, *capsys.readouterr())

    return run
