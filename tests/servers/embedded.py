"""``python -m tests.servers.embedded SERVER FD MODULE:ATTRIBUTE``: servers without a command line for sockets."""

from __future__ import annotations

import socket
import sys
from importlib import import_module
from typing import Any


def waitress(listener: socket.socket, app: Any) -> None:
    from waitress import serve

    serve(app, sockets=[listener], threads=4, clear_untrusted_proxy_headers=False)


def cheroot(listener: socket.socket, app: Any) -> None:
    from cheroot.wsgi import Server

    class Given(Server):
        def bind(self, family: Any, type: Any, proto: Any = 0) -> Any:  # noqa: A002
            self.socket = listener
            return listener

    Given(listener.getsockname(), app, numthreads=4).safe_start()


def uwsgi(listener: socket.socket, target: str) -> None:
    """Run uWSGI in this process, by the command line that it takes."""
    import pyuwsgi

    options = ["--die-on-term", "--need-app", "--disable-logging", "--http11-socket", f"fd://{listener.fileno()}"]
    pyuwsgi.run([*options, "--enable-threads", "--threads", "4", "--module", target])


if __name__ == "__main__":
    name, fd, target = sys.argv[1:]
    module, _, attribute = target.partition(":")
    if name == "uwsgi":
        uwsgi(socket.socket(fileno=int(fd)), target)
    else:
        {"waitress": waitress, "cheroot": cheroot}[name](
            socket.socket(fileno=int(fd)), getattr(import_module(module), attribute)
        )
