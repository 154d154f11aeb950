"""Servers start when a test first uses them, and stop at the end of the run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from stackauth_middleware.testing import LocalStackAuth

from .processes import Served, served_stack_auth, serving, settings_for


@pytest.fixture(scope="session")
def local() -> Iterator[LocalStackAuth]:
    """A local Stack Auth that is served over HTTP."""
    with served_stack_auth() as local:
        yield local


@pytest.fixture(scope="session")
def server(local: LocalStackAuth) -> Iterator[Callable[[str], Served]]:
    """Return a function that starts a server by its name, once."""
    running: dict[str, Served] = {}
    with ExitStack() as stack:

        def find(name: str) -> Served:
            if name not in running:
                if name == "wsgiref":
                    running[name] = stack.enter_context(_wsgiref(local))
                else:
                    target = f"tests.servers.app:{'wsgi' if name.startswith('gunicorn') else 'asgi'}"
                    running[name] = stack.enter_context(serving(name, target, settings_for(local)))
            return running[name]

        yield find


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def _wsgiref(local: LocalStackAuth) -> Iterator[Served]:
    """Run the standard library's server in a thread of this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings_for(local).items():
            patch.setenv(name, value)
        from .app import wsgi
    with make_server("127.0.0.1", 0, wsgi, handler_class=_Silent) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Served("wsgiref", httpd.server_port, str)
        finally:
            httpd.shutdown()
            thread.join()
