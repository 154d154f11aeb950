"""The servers under load, in processes of their own, on a listener that is handed over."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .watch import children_of

ROOT = Path(__file__).parents[2]
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Has glibc give back each of asyncio's reading buffers of 256 KiB, which leave holes in its heap. Without this the
resident set of uvicorn grew by 7 MiB in four minutes at 225 requests a second, of which mallinfo2 called 6 free: a leak
could hide there."""
COMMANDS: Mapping[str, list[str]] = {
    "asgi": ["uvicorn", "--fd", "{fd}", "--log-level", "warning", "--timeout-keep-alive", "75", "tests.load.apps:asgi"],
    "wsgi": [
        "gunicorn",
        "--preload",
        *("--workers", "2", "--worker-class", "gthread", "--threads", "4", "--keep-alive", "75"),
        *("--log-level", "warning", "--bind", "fd://{fd}", "tests.load.apps:wsgi"),
    ],
}


class Served(NamedTuple):
    """A server that runs.

    Attributes:
        pid: of its first process.
        log: returns what it has written so far.
    """

    middleware: str
    port: int
    pid: int
    log: Callable[[], str]

    def workers(self) -> list[int]:
        """Return the processes that answer."""
        return children_of(self.pid) if self.middleware == "wsgi" else [self.pid]


@contextmanager
def serving(middleware: str, environ: Mapping[str, str]) -> Iterator[Served]:
    """Run the server of a middleware for the length of the context.

    Args:
        middleware: a key of `COMMANDS`.
        environ: added to the environment, which is otherwise without Stack Auth's names.
    """
    kept = {name: value for name, value in os.environ.items() if not _is_ours(name)}
    with tempfile.TemporaryFile("w+b") as log, socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        port, fd = listener.getsockname()[1], listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", *(each.format(fd=fd) for each in COMMANDS[middleware])],
            pass_fds=[fd],
            cwd=ROOT,
            env={**kept, **ALLOCATOR, "PYTHONUNBUFFERED": "1", **environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        listener.close()  # or a server that died would leave its clients waiting

        output = ""

        def so_far() -> str:
            return output if log.closed else os.pread(log.fileno(), 1 << 24, 0).decode(errors="replace")

        try:
            yield Served(middleware, port, process.pid, so_far)
        finally:
            _end(process)
            output = so_far()


def _is_ours(name: str) -> bool:
    return any(mark in name for mark in ("STACK_", "HEXCLAVE_", "COV"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and whatever it started."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(8)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(8)
