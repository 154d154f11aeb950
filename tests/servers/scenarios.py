"""What is asked of every server and framework: a scenario returns `WORKS`, or the key of a documented limit.

Anything else that happens fails the test.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from stackauth_middleware.testing import LocalStackAuth

from . import wire
from .processes import STARTUP

WORKS = "yes"
LIMITS = {
    "cut": "The server closes the connection or stops reading while the client still sends. A client that does not "
    "read meanwhile sees a broken connection instead of the refusal.",
    "closes": "The server closes the connection after the refusal.",
    "bare 403": 'The server answers a bare 403; `websocket_refusal="accept"` gives the client a close code.',
    "prefix": "The framework does not take the mount point off a path: register its routes with the prefix.",
}
JANE = "11111111-1111-4111-8111-111111111111"
ORIGIN = "https://app.example.com"
LARGE = 20_000_000
"""Bytes of a refused upload."""
PATIENCE = 2.0
"""Seconds without progress after which an upload is given up."""


class Site(Protocol):
    """A running site of the matrix."""

    @property
    def local(self) -> LocalStackAuth:
        """The Stack Auth that signs its tokens."""
        ...

    def ask(
        self, target: str, headers: Iterable[wire.Header] = (), *, method: str = "GET", body: bytes = b""
    ) -> wire.Answer:
        """Send one request and return the answer."""
        ...


class Served(NamedTuple):
    """A site behind a real server."""

    local: LocalStackAuth
    port: int
    name: str

    def ask(
        self, target: str, headers: Iterable[wire.Header] = (), *, method: str = "GET", body: bytes = b""
    ) -> wire.Answer:
        return wire.ask(self.port, target, [("X-Site", self.name), *headers], method=method, body=body)

    @property
    def token(self) -> list[wire.Header]:
        return [("X-Site", self.name), ("X-Stack-Access-Token", self.local.token())]


def user_arrives(site: Site) -> str:
    """A user by each header, and no user on a public path."""
    token = site.local.token()
    for header in (("X-Stack-Access-Token", token), ("Authorization", f"Bearer {token}")):
        answer = site.ask("/me", [header])
        assert (answer.status, answer.json) == (200, {"id": JANE}), answer
    assert site.ask("/healthz").json == {"id": None}
    return WORKS


def refusals(site: Site) -> str:
    """Each kind of refusal: status, code, headers and body; the app is not called."""
    local = site.local
    expected: list[tuple[int, str, str, list[wire.Header]]] = [
        (401, "missing_token", "/me", []),
        (401, "invalid_token", "/me", [("X-Stack-Access-Token", "garbage")]),
        (401, "expired_token", "/me", [("X-Stack-Access-Token", local.token(expires_in=-60))]),
        (400, "invalid_request", "/me", [("X-Stack-Auth", "{")]),
        (403, "restricted_not_allowed", "/me", [("X-Stack-Access-Token", local.token(user_type="restricted"))]),
        (403, "forbidden", "/admin", [("X-Stack-Access-Token", local.token())]),
        (503, "auth_server_error", "/me", [("X-Stack-Access-Token", local.token()), ("X-Outage", "1")]),
    ]
    for status, code, path, headers in expected:
        answer = site.ask(path, headers)
        assert (answer.status, answer.code) == (status, code), answer
        assert not answer.reached_the_app
        assert answer.headers["content-type"] == "application/json"
        assert int(answer.headers["content-length"]) == len(answer.body)
        assert answer.headers["cache-control"] == "no-store"
        assert ("www-authenticate" in answer.headers) == (status in (400, 401, 403)), answer
        assert ("retry-after" in answer.headers) == (status == 503)
    return WORKS


def streamed_response(site: Site) -> str:
    answer = site.ask("/stream", [("X-Stack-Access-Token", site.local.token())])
    assert (answer.status, answer.body) == (200, b"one\ntwo\nthree\n")
    return WORKS


def request_body_is_intact(site: Site) -> str:
    body = bytes(range(256)) * 2000
    answer = site.ask("/echo", [("X-Stack-Access-Token", site.local.token())], method="POST", body=body)
    expected = {"id": JANE, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert (answer.status, answer.json) == (200, expected), answer
    return WORKS


def head(site: Site) -> str:
    """No body, and for a refusal the headers of the one to GET."""
    refused, to_get = site.ask("/me", method="HEAD"), site.ask("/me")
    assert (refused.status, refused.body) == (401, b"")
    assert refused.headers["www-authenticate"] == to_get.headers["www-authenticate"]
    answer = site.ask("/me", [("X-Stack-Access-Token", site.local.token())], method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.reached_the_app
    return WORKS


def preflight(site: Site) -> str:
    """Answered for a named origin, refused for another; never by the app."""
    for origin, status in ((ORIGIN, 204), ("https://evil.example", 401)):
        headers = [("Origin", origin), ("Access-Control-Request-Method", "GET")]
        answer = site.ask("/me", headers, method="OPTIONS")
        assert answer.status == status, answer
        assert not answer.reached_the_app
        assert answer.headers.get("access-control-allow-origin") == (origin if status == 204 else None)
    return WORKS


def mounted_under_a_prefix(site: Site) -> str:
    """Rules hold below the prefix, and the app finds its routes there."""
    token = [("X-Stack-Access-Token", site.local.token())]
    assert site.ask("/mnt/me").code == "missing_token"
    assert site.ask("/mnt/admin", token).code == "forbidden"
    answer = site.ask("/mnt/me", token)
    assert answer.reached_the_app
    if answer.status == 404:
        return "prefix"
    assert answer.json == {"id": JANE}
    assert site.ask("/mnt/healthz").json == {"id": None}
    return WORKS


def _upload(site: Served, *, chunked: bool) -> str:
    """Send a large body as a client that reads only afterwards, unless the server stops reading."""
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {LARGE}"
    piece = b"x" * 100_000
    framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
    with wire.connection(site.port) as opened:
        opened.send(f"POST /echo HTTP/1.1\r\nHost: x\r\nX-Site: {site.name}\r\n{length}\r\n\r\n".encode())
        outcome = WORKS
        try:
            for _ in range(LARGE // len(piece)):
                opened.send(framed, patience=PATIENCE)
            opened.send(b"0\r\n\r\n" if chunked else b"", patience=PATIENCE)
        except OSError:
            outcome = "cut"
        try:
            answer = opened.read("POST")
        except (OSError, ValueError):
            assert outcome == "cut"
            return outcome
        assert answer.code == "missing_token", answer
        assert not answer.reached_the_app
    return outcome


def refused_upload(site: Served) -> str:
    return _upload(site, chunked=False)


def refused_chunked_upload(site: Served) -> str:
    return _upload(site, chunked=True)


def connection_after_a_refusal(site: Served) -> str:
    """The connection can be used again, and the body of the refused request is not taken for a request."""
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    with wire.connection(site.port) as opened:
        try:
            for _ in range(2):
                refused = opened.ask("/echo", [("X-Site", site.name)], method="POST", body=smuggled)
                assert refused.code == "missing_token"
                assert opened.ask("/me", site.token).json == {"id": JANE}
        except OSError:
            assert site.ask("/healthz").json == {"id": None}
            return "closes"
    return WORKS


def websocket(site: Served) -> str:
    with connect(f"ws://127.0.0.1:{site.port}/ws", additional_headers=site.token, **_WEBSOCKET) as opened:
        assert json.loads(opened.recv(10)) == {"id": JANE}
        opened.send("still there?")
        assert opened.recv(10) == "still there?"
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            opened.recv(0.5)  # an app that closes the connection does so first: else it writes a traceback
    return WORKS


def refused_websocket(site: Served) -> str:
    """A refusal before the handshake, with status, code and headers."""
    for headers, status, code in (
        ([], 401, "missing_token"),
        ([("X-Stack-Access-Token", site.local.token(user_type="restricted"))], 403, "restricted_not_allowed"),
        ([("X-Stack-Auth", "{")], 400, "invalid_request"),
    ):
        try:
            with connect(
                f"ws://127.0.0.1:{site.port}/ws",
                additional_headers=[("X-Site", site.name), *headers],
                **_WEBSOCKET,
            ):
                raise AssertionError("it was accepted")
        except InvalidStatus as error:
            response = error.response
        if response.status_code == 403 and code.encode() not in (response.body or b""):
            return "bare 403"
        assert (response.status_code, json.loads(response.body)["code"]) == (status, code)
        assert response.headers["www-authenticate"].startswith('Bearer realm="stack-auth"')
    return WORKS


_WEBSOCKET = {"open_timeout": STARTUP, "close_timeout": 1, "compression": None, "proxy": None}


def http2_beside_a_refusal(site: Served) -> str:
    """Three requests on one connection: one is refused with its body unread, the others are answered."""
    from h2.connection import H2Connection
    from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded

    def headers(method: str, path: str, more: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        pseudo = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "testserver")]
        return [*pseudo, *((name.lower(), value) for name, value in more)]

    token: list[tuple[str, str]] = [("X-Site", site.name), ("X-Stack-Access-Token", site.local.token())]
    h2 = H2Connection()
    h2.initiate_connection()
    h2.send_headers(1, headers("GET", "/stream", token), end_stream=True)
    h2.send_headers(3, headers("POST", "/echo", token[:1]))
    h2.send_data(3, b"x" * 1000, end_stream=True)
    h2.send_headers(5, headers("GET", "/me", token), end_stream=True)
    statuses: dict[int, str] = {}
    bodies: dict[int, bytes] = {}
    ended: set[int] = set()
    with socket.create_connection(("127.0.0.1", site.port), STARTUP) as opened:
        opened.sendall(h2.data_to_send())
        while len(ended) < 3:
            received = opened.recv(65536)
            for event in h2.receive_data(received) if received else [ConnectionTerminated()]:
                if isinstance(event, ConnectionTerminated):
                    raise AssertionError("the server ended the connection")
                if isinstance(event, ResponseReceived):
                    statuses[event.stream_id] = dict(event.headers)[b":status"].decode()
                elif isinstance(event, DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                elif isinstance(event, StreamEnded):
                    ended.add(event.stream_id)
            opened.sendall(h2.data_to_send())
    assert statuses == {1: "200", 3: "401", 5: "200"}
    assert (bodies[1], json.loads(bodies[5])) == (b"one\ntwo\nthree\n", {"id": JANE})
    assert json.loads(bodies[3])["code"] == "missing_token"
    return WORKS


ANYWHERE: Mapping[str, Callable[[Site], str]] = {
    "user": user_arrives,
    "refusals": refusals,
    "streaming": streamed_response,
    "body": request_body_is_intact,
    "HEAD": head,
    "preflight": preflight,
    "prefix": mounted_under_a_prefix,
}
"""The scenarios that need no socket, by the column of the table."""
OVER_SOCKETS: Mapping[str, Callable[[Served], str]] = {
    "upload": refused_upload,
    "chunked": refused_chunked_upload,
    "keep-alive": connection_after_a_refusal,
    "WebSocket": websocket,
    "refused WebSocket": refused_websocket,
    "HTTP/2": http2_beside_a_refusal,
}
"""The scenarios that need a connection to a server."""
RACES = ("upload", "chunked", "keep-alive")
"""Scenarios in which a limit depends on who is faster, the server or the client: it may also work."""
