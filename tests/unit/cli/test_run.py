"""``run``: the server that it chooses and starts, and what it says where it cannot. See also servers/test_serve."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from stackauth_middleware._cli import _run
from tests.unit.cli.ask import PROJECT, Runs

SHOP = """
async def app(scope, receive, send): ...
def wsgi(environ, start_response): ...
def either(*arguments): ...
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Return the command lines that replaced the process, which is in a folder with an app and has every server."""
    (tmp_path / "run_shop.py").write_text(SHOP, "utf-8")
    (tmp_path / "run_raises.py").write_text("def f():\n    import no_such_dependency\nf()", "utf-8")
    (tmp_path / "auth.toml").write_text(f'project_id = "{PROJECT}"', "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("run_shop", "run_raises"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("STACKAUTH_APP", "STACKAUTH_CONFIG"):
        monkeypatch.setenv(name, "")
    commands: list[list[str]] = []

    def execv(path: str, command: list[str]) -> NoReturn:
        commands.append(command)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(_run, "find_spec", lambda name: name)
    monkeypatch.setattr(_run, "_WINDOWS", False)
    return commands


@pytest.mark.parametrize(
    ("arguments", "kind", "command"),
    [
        ("run_shop:app", "an ASGI app", "uvicorn stackauth_middleware.serve:app"),
        ("run_shop:wsgi -- -w 2", "a WSGI app", "gunicorn stackauth_middleware.serve:application -w 2"),
        ("--server waitress run_shop:wsgi", "a WSGI app", "waitress stackauth_middleware.serve:application"),
        ("run_shop:either --server uvicorn -- --", "an ASGI app", "uvicorn -- stackauth_middleware.serve:app"),
        ("run_shop:app --server hypercorn", "an ASGI app", "hypercorn 'stackauth_middleware.serve:create_app()'"),
    ],
)
def test_server_fits_the_app_and_its_command_line_is_printed(
    run: Runs, started: list[list[str]], arguments: str, kind: str, command: str
) -> None:
    ran = run("run", "--config", "auth.toml", *arguments.split())
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(f"serving {kind}: STACKAUTH_APP=run_shop:")
    assert ran.out.endswith(f" STACKAUTH_CONFIG=auth.toml python -m {command}\n")
    assert [each[:2] for each in started] == [[sys.executable, "-m"]]
    assert started[0][2:] == command.replace("'", "").split()
    assert os.environ["STACKAUTH_CONFIG"] == "auth.toml"


def test_gunicorn_does_not_serve_an_app_among_its_options(run: Runs, started: list[list[str]]) -> None:
    """It takes the first app, and ignores the others."""
    run("run", "--config", "auth.toml", *"run_shop:wsgi -- run_shop:wsgi -w 2".split())
    assert started[0][3:] == ["stackauth_middleware.serve:application", "run_shop:wsgi", "-w", "2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run_shop:wsgi --server uvicorn", "APP is a WSGI app, which uvicorn does not serve; leave out --server"),
        ("run_shop:either", "APP takes any arguments and may be an ASGI or a WSGI app; name a server with --server"),
        ("run_shop:nothing", "APP is 'run_shop:nothing'; run_shop has no 'nothing'"),
        ("no_such_module:app", "APP is 'no_such_module:app'; there is no module 'no_such_module' to import"),
        ("run_shop:__name__", "APP is 'run_shop:__name__', and that is of the type str; it must be an ASGI"),
        ("run_shop:app --config other.toml", "STACKAUTH_CONFIG names 'other.toml'; there is no such file"),
        ("run_shop:app --server apache", "argument --server: invalid choice: 'apache'"),
        ("run_shop:app", "project_id is not set"),
    ],
)
def test_what_cannot_be_served_is_one_line(run: Runs, started: list[list[str]], arguments: str, message: str) -> None:
    ran = run("run", *arguments.split())
    assert (ran.status, ran.out, started) == (2, "", [])
    assert ran.err.startswith(f"stackauth-middleware: error: {message}")
    assert ran.err.count("\n") == 1


def test_exception_of_the_app_is_shown_with_its_own_frames(run: Runs, started: list[list[str]]) -> None:
    ran = run("run", "run_raises:app")
    assert (ran.status, started) == (2, [])
    first, *frames, last = ran.err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert [line.split(",")[0].rpartition(os.sep)[2] for line in frames if line.startswith("  File")] == [
        'run_raises.py"',
        'run_raises.py"',
    ]
    assert frames[-1] == "ModuleNotFoundError: No module named 'no_such_dependency'"
    assert last.startswith("stackauth-middleware: error: APP is 'run_raises:app'; importing run_raises raised Module")


@pytest.mark.parametrize(
    ("app", "missing", "windows", "message"),
    [
        ("run_shop:app", {"uvicorn", "hypercorn"}, False, "no server for this app is installed: pip install uvicorn"),
        ("run_shop:wsgi", {"gunicorn", "waitress"}, False, "no server for this app is installed: pip install gunicorn"),
        ("run_shop:wsgi", {"waitress"}, True, "no server for this app is installed: pip install waitress"),
        ("run_shop:wsgi --server gunicorn", set(), True, "gunicorn does not run on Windows; leave out --server"),
    ],
)
def test_no_server_fits(
    run: Runs,
    started: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    app: str,
    missing: set[str],
    windows: bool,
    message: str,
) -> None:
    monkeypatch.setattr(_run, "find_spec", lambda name: None if name in missing else name)
    monkeypatch.setattr(_run, "_WINDOWS", windows)
    ran = run("run", "--config", "auth.toml", *app.split())
    assert (ran.status, ran.err) == (2, f"stackauth-middleware: error: {message}\n")


def test_next_server_is_used_where_the_first_is_missing(
    run: Runs, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_run, "find_spec", lambda name: None if name == "gunicorn" else name)
    assert run("run", "--config", "auth.toml", "run_shop:wsgi").status == 0
    assert started[0][2] == "waitress"


def test_windows_runs_the_server_beside_and_waits_through_ctrl_c(
    run: Runs, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There ``execv`` ends the process at once, and the shell with its prompt would be back."""

    class Server:
        waits = iter([KeyboardInterrupt, KeyboardInterrupt])

        def __init__(self, command: list[str]) -> None:
            self.command = command

        def wait(self) -> int:
            for error in self.waits:
                raise error
            return 7

    monkeypatch.setattr(_run, "_WINDOWS", True)
    monkeypatch.setattr(subprocess, "Popen", Server)
    ran = run("run", "--config", "auth.toml", "run_shop:wsgi")
    assert (ran.status, started) == (7, [])
    assert "python -m waitress stackauth_middleware.serve:application" in ran.out


def test_console_that_cannot_show_a_character(tmp_path: Path) -> None:
    """A pipe of Windows has the code page 1252."""
    (tmp_path / "l\u00e4den_\u03b1.py").write_text(SHOP, "utf-8")
    (tmp_path / "auth.toml").write_text(f'project_id = "{PROJECT}"', "utf-8")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("STACK", "HEXCLAVE_", "NEXT_"))}
    for app, status, text in (("l\u00e4den_\u03b1:app", 0, "\\u03b1:app"), ("l\u00e4den_\u03b1:no", 2, "\\u03b1:no")):
        done = subprocess.run(
            [sys.executable, "-m", "stackauth_middleware", "run", "--config", "auth.toml", app, "--", "--version"],
            cwd=tmp_path,
            env=bare | {"PYTHONIOENCODING": "cp1252"},
            capture_output=True,
            check=False,
        )
        assert (done.returncode, text in (done.stdout + done.stderr).decode("cp1252")) == (status, True)
