"""Servers in processes of their own, on an inherited socket, so that no port is guessed.

The listener is open before the server starts: requests wait in its queue, and nothing polls for readiness.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import uvicorn

from stackauth_middleware.testing import LocalStackAuth

PROJECT = "6f0a2a55-6a54-4c5c-9a0e-0d5a3c2d9d11"
ROOT = Path(__file__).parents[2]
STARTUP = 30.0
"""Seconds until the first response of a server; a busy machine needs several."""


class Served(NamedTuple):
    """A running server.

    Attributes:
        port: on 127.0.0.1.
        log: returns what it has written so far.
    """

    name: str
    port: int
    log: Callable[[], str]


COMMANDS: Mapping[str, list[str]] = {
    "uvicorn": ["uvicorn", "--fd", "{fd}"],
    "uvicorn-h11": ["uvicorn", "--http", "h11", "--loop", "asyncio", "--ws", "wsproto", "--fd", "{fd}"],
    "uvicorn-httptools": [
        "uvicorn",
        "--http",
        "httptools",
        "--loop",
        "uvloop",
        "--ws",
        "websockets-sansio",
        "--fd",
        "{fd}",
    ],
    "uvicorn-websockets": ["uvicorn", "--ws", "websockets", "--fd", "{fd}"],
    "uvicorn-sansio": ["uvicorn", "--ws", "websockets-sansio", "--fd", "{fd}"],
    "uvicorn-wsproto": ["uvicorn", "--ws", "wsproto", "--fd", "{fd}"],
    "hypercorn": ["hypercorn", "--bind", "fd://{fd}"],
    "hypercorn-asyncio": ["hypercorn", "--worker-class", "asyncio", "--bind", "fd://{fd}"],
    "hypercorn-trio": ["hypercorn", "--worker-class", "trio", "--bind", "fd://{fd}"],
    "hypercorn-root-path": ["hypercorn", "--root-path", "/r1", "--bind", "fd://{fd}"],
    "uvicorn-root-path": ["uvicorn", "--root-path", "/r1", "--fd", "{fd}"],
    "daphne": ["daphne", "--fd", "{fd}"],
    "granian": ["granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"],
    "granian-wsgi": ["granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "{port}"],
    "waitress": ["tests.servers.embedded", "waitress", "{fd}"],
    "cheroot": ["tests.servers.embedded", "cheroot", "{fd}"],
    "gunicorn": ["gunicorn", "--bind", "fd://{fd}"],
    "gunicorn-threads": ["gunicorn", "--worker-class", "gthread", "--threads", "4", "--bind", "fd://{fd}"],
    "gunicorn-gevent": ["gunicorn", "--worker-class", "gevent", "--bind", "fd://{fd}"],
    "gunicorn-uvicorn": ["gunicorn", "--worker-class", "uvicorn_worker.UvicornWorker", "--bind", "fd://{fd}"],
    "gunicorn-asgi": ["gunicorn", "--worker-class", "asgi", "--bind", "fd://{fd}"],
    "uvicorn-factory": ["uvicorn", "--factory", "--fd", "{fd}"],
    "uwsgi": ["tests.servers.embedded", "uwsgi", "{fd}"],
    "gunicorn-preload": ["gunicorn", "--preload", "--workers", "4", "--bind", "fd://{fd}"],
}
"""Arguments of each server as a module; ``{fd}`` is its listener. Granian takes none: it shares the port."""


@contextmanager
def serving(name: str, target: str, environ: Mapping[str, str], folder: Path = ROOT) -> Iterator[Served]:
    """Run a server, as `COMMANDS` has it, for the length of the context.

    Args:
        name: a key of `COMMANDS`.
        target: what it serves, as ``module:attribute``.
        environ: added to the environment, which is otherwise without Stack Auth's names.
        folder: where it is run from.
    """
    with serving_by([*COMMANDS[name], target], environ, folder) as served:
        yield served._replace(name=name)


@contextmanager
def serving_by(command: list[str], environ: Mapping[str, str], folder: Path) -> Iterator[Served]:
    """Run a server as ``python -m COMMAND``, in which ``{fd}`` or ``{port}`` stands for its listener."""
    shares_port = "{port}" in command
    with tempfile.TemporaryFile("w+b") as log, socket.socket() as listener:
        if shares_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        if not shares_port:
            listener.listen(128)
        port = listener.getsockname()[1]
        arguments = [each.format(fd=listener.fileno(), port=port) for each in command]
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            pass_fds=[] if shares_port else [listener.fileno()],
            cwd=folder,
            env=clean_environ() | dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

        def so_far() -> str:
            log.seek(0)
            return log.read().decode(errors="replace")

        try:
            if shares_port:
                _until_it_listens(port, process)
            else:
                listener.close()  # or a server that died would leave its clients waiting
            yield Served(command[0], port, so_far)
        finally:
            _end(process)


def clean_environ() -> dict[str, str]:
    names = [name for name in os.environ if "STACK_" in name or "HEXCLAVE_" in name or "COV" in name]
    return {name: value for name, value in os.environ.items() if name not in names} | {"PYTHONUNBUFFERED": "1"}


def _until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTUP
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("the server does not listen")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a server and its children, at once: what a server does when asked to stop is its own business."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(5)


@contextmanager
def served_stack_auth() -> Iterator[LocalStackAuth]:
    """Serve a local Stack Auth in a thread."""
    local = LocalStackAuth(PROJECT)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        local.api_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(local.asgi, log_level="error", ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield local
        finally:
            server.should_exit = True
            thread.join()


def settings_for(local: LocalStackAuth) -> dict[str, str]:
    """Return the environment of an app that uses `local`."""
    assert local.api_url is not None
    return {"STACK_PROJECT_ID": PROJECT, "STACK_API_URL": local.api_url}
