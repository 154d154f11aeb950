"""A client for the app of an adapter, with the scopes and environs that servers make."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.frameworks.ask import Ask, Loop, ask_wsgi, scope_of

from . import cases
from .adapters import ADAPTERS, Adapter, App
from .cases import Answer


class Site:
    """The app of one adapter, running.

    Attributes:
        adapter: the adapter of the app.
        application: the application that a server would run.
    """

    def __init__(self, adapter: Adapter, app: App, application: Any, loop: Loop) -> None:
        self.adapter = adapter
        self.application = application
        self._app = app
        self._loop = loop

    @property
    def ran(self) -> list[Any]:
        """Values noted by handlers that ran."""
        return self._app.ran

    def get(self, path: str, headers: Mapping[str, str] = {}, method: str = "GET", root_path: str = "") -> Answer:
        """Return the response; the body as JSON, or else as text. A repeated header is joined by a comma."""
        ask = Ask(path, method, headers, root_path)
        found = self._loop.ask(self.application, ask) if self.adapter.asgi else ask_wsgi(self.application, ask)
        try:
            body = json.loads(found.body) if found.body else None
        except ValueError:
            body = found.body.decode()
        return Answer(found.status, found.headers, body)

    def wait_for_work(self) -> list[Any]:
        """Return what handlers noted, once one has noted something."""
        until = time.monotonic() + 5
        while not self.ran and time.monotonic() < until:
            self._loop._loop.run_until_complete(asyncio.sleep(0.001))
        return self.ran

    def connect(self, path: str, headers: Mapping[str, str] = {}, *, extension: bool = True) -> list[dict[str, Any]]:
        """Open a WebSocket and return the messages that the app sends to the server until it returns.

        Args:
            path: path of the request.
            headers: headers of the handshake.
            extension: whether the server can send a response instead of accepting.
        """
        sent: list[dict[str, Any]] = []
        scope = scope_of(Ask(path, headers=headers)) | {"type": "websocket", "scheme": "ws", "subprotocols": []}
        scope |= {"extensions": {"websocket.http.response": {}}} if extension else {}
        del scope["method"]

        async def ask() -> None:
            arriving = iter([{"type": "websocket.connect"}])

            async def receive() -> Any:
                for message in arriving:
                    return message
                await asyncio.sleep(5)
                return {"type": "websocket.disconnect", "code": 1006}

            async def send(message: Any) -> None:
                sent.append(message)

            await asyncio.wait_for(self.application(scope, receive, send), 10)

        self._loop._loop.run_until_complete(ask())
        return sent


@contextmanager
def running(
    name: str, *, mounted: bool = True, own: bool = False, cors: bool = False, **settings: Any
) -> Iterator[Site]:
    """Run the app of the adapter `name`. `App` documents the other arguments."""
    adapter = ADAPTERS[name]
    app = App(cases.config(**settings) if mounted else None, own=own, cors=cors)
    loop = Loop()
    try:
        with adapter.serve(app) as application:
            yield Site(adapter, app, application, loop)
    finally:
        loop.close()
