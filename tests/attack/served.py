"""What the servers serve: every site of their interface, chosen by a header, each built when it is first asked for.

Handlers that run are written to the file that the environment names, one line each.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Iterable
from typing import Any

from . import inprocess, table
from .sites import Site, makers


class _Written:
    """Takes the place of `table.runs`: another process reads what is appended."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def append(self, run: table.Run) -> None:
        os.write(self._file, json.dumps(run).encode() + b"\n")


table.runs = _Written(os.environ[table.LOG])
logging.disable(logging.CRITICAL)
_built: dict[str, Site] = {}
_lock = threading.Lock()
_tasks: list[asyncio.Task[Any]] = []


def _site(name: str) -> tuple[Site, bool]:
    """Return the site by its name, and whether it was built just now."""
    with _lock:
        if name in _built:
            return _built[name], False
        site = makers()[name]()
        site.active().__enter__()
        _built[name] = site
        return site, True


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    names = [value.decode("latin-1") for name, value in scope["headers"] if name == table.SITE_HEADER.encode()]
    site, is_new = _site(names[0])
    if is_new:
        _tasks.append(await inprocess.start(site.app))
    await site.app(scope, receive, send)


def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    site, _ = _site(environ["HTTP_X_ATTACK_SITE"])
    answered: Iterable[bytes] = site.app(environ, start_response)
    return answered
