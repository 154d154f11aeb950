"""A wrong setting by `add_middleware`, which makes the middleware only when the server calls the app."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .processes import clean_environ, serving_by
from .wire import ask

APP = """
from starlette.applications import Starlette
from stackauth_middleware import StackAuthASGIMiddleware
app = Starlette()
app.add_middleware(StackAuthASGIMiddleware, project_id="internal", leeway=400)
"""
MESSAGE = "leeway is 400; it must be from 0 to 300 seconds"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP, "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "uvicorn --port 0",
        "hypercorn --bind 127.0.0.1:0",
        "granian --interface asgi --port 0",
        "gunicorn --worker-class asgi --bind 127.0.0.1:0",
    ],
)
def test_server_with_a_lifespan_does_not_start_and_says_why(folder: Path, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), "shop:app"],
        cwd=folder,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0 or "hypercorn" in command  # which ends with 0 after any failed start
    assert MESSAGE in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["uvicorn --lifespan off --fd {fd} shop:app", "daphne --fd {fd} shop:app"])
def test_server_without_a_lifespan_answers_500_and_logs_the_error(folder: Path, command: str) -> None:
    with serving_by(command.split(), {}, folder) as served:
        answer = ask(served.port, "/")
        assert (answer.status, answer.code) == (500, "auth_misconfigured")
        assert b"leeway" not in answer.body
        assert f"the settings of the middleware are wrong: {MESSAGE}" in served.log()
