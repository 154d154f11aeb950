"""The servers of the demo: they run within a ``with`` block only."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from stackauth_middleware._cli import _serve
from stackauth_middleware._cli._report import CommandError
from stackauth_middleware._cli._serve import serving_asgi, serving_wsgi


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"asgi"})


def wsgi(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"wsgi"]


@contextmanager
def nothing_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]
    for thread in left:
        thread.join(2)  # a thread of a connection ends with it, and is not waited for
    assert not [thread for thread in left if thread.is_alive()]


def fetched(url: str) -> bytes:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.mark.parametrize(("serve", "app"), [(serving_asgi, asgi), (serving_wsgi, wsgi)])
def test_serves_and_stops(serve: Any, app: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """On the loopback address, without output, and the port is closed afterwards."""
    with nothing_left():
        with serve(app) as url:
            assert urlsplit(url).hostname == "127.0.0.1"
            assert fetched(url) == app.__name__.encode()
        with pytest.raises(ConnectionError):
            fetched(url)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("serve", "app"), [(serving_asgi, asgi), (serving_wsgi, wsgi)])
def test_stops_when_the_block_raises(serve: Any, app: Any) -> None:
    with nothing_left(), pytest.raises(KeyError), serve(app) as url:
        raise KeyError(url)
    with pytest.raises(ConnectionError):
        fetched(url)


def test_disconnecting_client_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """A reset prints nothing, and the server keeps serving."""
    with nothing_left(), serving_wsgi(wsgi) as url:
        parts = urlsplit(url)
        for _ in range(3):
            with socket.create_connection((parts.hostname, parts.port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(b"GET / HTTP/1.1\r\n")
        assert fetched(url) == b"wsgi"
    assert capfd.readouterr().err == ""


async def broken(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": ""})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # uvicorn exits its thread
def test_failed_start_is_an_error() -> None:
    with nothing_left(), pytest.raises(CommandError, match="did not start"), serving_asgi(broken):
        raise AssertionError("it was said to have started")


def test_slow_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for a server that does not start is limited."""
    monkeypatch.setattr(_serve, "_START_WITHIN", 0.05)
    with pytest.raises(CommandError, match="did not start"):
        _serve._wait_for(SimpleNamespace(started=False), threading.current_thread())
