"""Refused uploads, by clients that send the whole body before they read. docs/howto/deployment.md has the table."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from stackauth_middleware.testing import LocalStackAuth

from .processes import COMMANDS, Served, serving, settings_for
from .wire import ask

SIZES = {"1 KB": 1_000, "1 MB": 1_000_000, "20 MB": 20_000_000}
OPEN = dict.fromkeys(SIZES, "open")
SHORT = {"1 KB": "open", "1 MB": "open", "20 MB": "broken"}
TABLE: dict[str, dict[str, str]] = {
    "uvicorn-h11": OPEN,
    "uvicorn-httptools": OPEN,
    "daphne": OPEN,
    "hypercorn-asyncio": SHORT,
    "hypercorn-trio": SHORT,
    "granian": SHORT,
    "waitress": OPEN,
    "cheroot": OPEN,
    "gunicorn": {"1 KB": "closed", "1 MB": "closed", "20 MB": "broken"},
    "gunicorn-threads": {"1 KB": "open", "1 MB": "broken", "20 MB": "broken"},
    "granian-wsgi": dict.fromkeys(SIZES, "broken"),
}
"""For each server and size of the body: the connection stays open, or is closed once the client has sent everything,
or breaks while the client sends, or resets, so that a browser may report a network error and not the refusal."""
BUFFERING = ("daphne", "waitress", "cheroot")
WSGI = ("waitress", "cheroot", "gunicorn", "gunicorn-threads", "granian-wsgi")


@pytest.fixture(scope="module", params=TABLE)
def served(request: pytest.FixtureRequest, local: LocalStackAuth) -> Iterator[Served]:
    if not COMMANDS.get(request.param):
        pytest.skip(f"the server {request.param} is not in COMMANDS")
    target = f"tests.servers.app:{'wsgi' if request.param in WSGI else 'asgi'}"
    with serving(request.param, target, settings_for(local)) as served:
        assert ask(served.port, "/healthz").status == 200  # the first response waits for the server to start
        yield served


def upload(port: int, size: int) -> str:
    """Send a request with a body of `size` bytes, then read: return "open", "closed" or "broken"."""
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        try:
            client.sendall(b"POST /me HTTP/1.1\r\nHost: testserver\r\nContent-Length: %d\r\n\r\n" % size)
            time.sleep(0.05)  # so that the server may answer before the body
            client.sendall(b"x" * size)
            assert _status(client) == 401
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: testserver\r\n\r\n")
            return "open" if _status(client) == 200 else "closed"
        except (ConnectionResetError, BrokenPipeError):
            return "broken"
        except http.client.RemoteDisconnected:
            return "closed"


def _status(client: socket.socket) -> int:
    with closing(http.client.HTTPResponse(client)) as response:
        response.begin()
        response.read()
        return response.status


@pytest.mark.parametrize("size", SIZES)
def test_refused_upload(served: Served, size: str) -> None:
    """A row may be better than the table says: whether a close becomes a reset is a matter of timing."""
    began = time.monotonic()
    found, expected = upload(served.port, SIZES[size]), TABLE[served.name][size]
    assert time.monotonic() - began < 10
    if expected == "open":
        assert found == "open"


def test_slow_upload_is_refused_within_seconds(served: Served) -> None:
    """A stranger that sends nothing of an announced body does not hold a worker."""
    if served.name in BUFFERING:
        pytest.skip("the server itself waits for the body, within its own timeout")
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", served.port), 30) as client:
        client.sendall(b"POST /me HTTP/1.1\r\nHost: testserver\r\nContent-Length: 1000\r\n\r\nx")
        assert _status(client) == 401
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("name", ["hypercorn-asyncio", "granian"])
def test_refused_upload_leaves_the_http2_connection_open(name: str, local: LocalStackAuth) -> None:
    """hypercorn closes the connection, and with it every other request on it, where a body is left unread."""
    with serving(name, "tests.servers.app:asgi", settings_for(local)) as served:
        base = f"http://127.0.0.1:{served.port}"
        with httpx.Client(http1=False, http2=True, base_url=base, timeout=30) as client:
            statuses, connections = [], set()
            for size in (0, 1000, 1_000_000, 0):
                answer = client.post("/me", content=b"x" * size) if size else client.get("/healthz")
                statuses.append(answer.status_code)
                connections.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert statuses == [200, 401, 401, 200]
    assert len(connections) == 1
