"""An example under its server in a process of its own, and the local Stack Auth that it calls."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx

from stackauth_middleware.testing import LocalStackAuth

from .cases import PROJECT

EXAMPLES = Path(__file__).parents[2] / "examples"
_SERVERS = {
    "gunicorn": ["gunicorn", "--bind", "127.0.0.1:0", "--threads", "4"],
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:0"],
    "uvicorn": ["uvicorn", "--host", "127.0.0.1", "--port", "0"],
}
_READY = re.compile(r"(?:Listening at: |[Rr]unning on )(http://127\.0\.0\.1:\d+)")


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = False


class _Silent(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def served_stackauth() -> Iterator[LocalStackAuth]:
    """Serve a local Stack Auth over HTTP, with `PROJECT` in it. Its tokens have the URL of that server as issuer."""
    stackauth = LocalStackAuth(PROJECT)
    server = make_server("127.0.0.1", 0, stackauth.wsgi, _Server, _Silent)
    stackauth.api_url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield stackauth
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def example_served(server: str, app: str, stackauth: LocalStackAuth) -> Iterator[str]:
    """Run `server` with the example `app`, written as on its command line, and return its base URL."""
    settings = {
        "STACK_PROJECT_ID": PROJECT,
        "STACK_API_URL": str(stackauth.api_url),
        "STACK_SECRET_SERVER_KEY": "ssk_for_tests",
    }
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *_SERVERS[server], app],
            cwd=EXAMPLES,
            env={**os.environ, **settings, "PYTHONPATH": str(EXAMPLES)},
            stdout=log,
            stderr=log,
        )
        try:
            url = _ready(process, Path(log.name))
            httpx.get(f"{url}/healthz", timeout=60, trust_env=False)  # gunicorn listens before it has loaded the app
            yield url
        finally:
            process.terminate()
            process.wait(20)


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the URL that the server logs as its address."""
    while True:
        ended = process.poll() is not None
        output = log.read_text("utf-8")
        ready = _READY.search(output)
        if ready:
            return ready[1]
        assert not ended, output
        time.sleep(0.02)
