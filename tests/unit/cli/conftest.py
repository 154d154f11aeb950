"""A command line that runs in this process, in an environment without settings."""

from __future__ import annotations

import os

import pytest

from tests.unit.cli.ask import Runs, runner


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runs:
    for name in list(os.environ):
        if name.startswith(("STACK_", "HEXCLAVE_", "NEXT_PUBLIC_")):
            monkeypatch.delenv(name)
    return runner(capsys, monkeypatch)
