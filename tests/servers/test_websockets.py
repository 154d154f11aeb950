"""WebSockets on real servers with a real client: accepted, refused before and after accepting, subprotocols.

Where the server has the extension for it, a refusal is the whole answer; else servers make a bare 403
of the close, and only middleware that accepts first can say more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from stackauth_middleware.testing import LocalStackAuth

from .processes import STARTUP, Served

JANE = "11111111-1111-4111-8111-111111111111"
UVICORN = ["uvicorn-websockets", "uvicorn-sansio", "uvicorn-wsproto"]
WITH_EXTENSION = [*UVICORN, "hypercorn-asyncio", "hypercorn-trio", "granian"]
WITHOUT = ["daphne"]


@pytest.fixture(scope="module", params=[*WITH_EXTENSION, *WITHOUT])
def served(request: pytest.FixtureRequest, server: Callable[[str], Served]) -> Served:
    return server(request.param)


@contextmanager
def opened(served: Served, path: str, headers: Any = None, subprotocols: Any = None) -> Iterator[ClientConnection]:
    with connect(
        f"ws://127.0.0.1:{served.port}{path}",
        additional_headers=headers,
        subprotocols=subprotocols,
        open_timeout=STARTUP,
        close_timeout=1,
        compression=None,
        proxy=None,
    ) as socket:
        yield socket


def seen_by_the_app(socket: ClientConnection) -> dict[str, Any]:
    """Return the first message of the app, after checking that it echoes."""
    seen: dict[str, Any] = json.loads(socket.recv(5))
    socket.send("still there?")
    assert socket.recv(5) == "still there?"
    return seen


def refusal(served: Served, path: str, headers: Any = None, subprotocols: Any = None) -> Any:
    """Return the response to a refused handshake."""
    with pytest.raises(InvalidStatus) as caught, opened(served, path, headers, subprotocols):
        pass
    return caught.value.response


@pytest.mark.parametrize("path", ["/plain", "/bare"])
def test_subprotocols_of_the_app_are_kept(served: Served, local: LocalStackAuth, path: str) -> None:
    """The app sees and chooses the same subprotocols as without the middleware."""
    seen = {}
    for each in (path, "/unguarded"):
        with opened(served, each, local.headers(), ["v2", "chat"]) as socket:
            assert socket.subprotocol == "chat"
            seen[each] = seen_by_the_app(socket)
    assert seen[path]["offered"] == ["v2", "chat"]
    assert seen[path] == seen["/unguarded"] | {"id": JANE}


def test_refused_where_the_server_has_no_extension(served: Served, local: LocalStackAuth) -> None:
    for headers in ({}, local.headers(expires_in=-60), local.headers(user_type="restricted")):
        assert refusal(served, "/bare", headers).status_code == 403


def test_stack_auth_down(served: Served, local: LocalStackAuth) -> None:
    response = refusal(served, "/unavailable", local.headers())
    if served.name in WITH_EXTENSION:
        assert response.status_code == 503
        assert json.loads(response.body)["code"] == "auth_server_error"
        assert int(response.headers["retry-after"]) >= 1
    else:
        assert response.status_code == 403


def test_refusals_after_accept_have_close_codes(served: Served, local: LocalStackAuth) -> None:
    """Scripts in a browser cannot read the status, but they can read the close code."""
    expected: list[tuple[str, int, Any]] = [
        ("/accepting", 3000, {}),
        ("/accepting", 3000, {"x-stack-access-token": "garbage"}),
        ("/accepting", 3000, {"x-stack-auth": "{"}),
        ("/accepting", 3003, local.headers(user_type="restricted")),
        ("/unavailable-accepting", 1013, local.headers()),
    ]
    for path, close_code, headers in expected:
        with opened(served, path, headers, ["chat"]) as socket:
            assert socket.subprotocol == "chat"
            with pytest.raises(ConnectionClosed):
                socket.recv(5)
            # daphne cannot send a code of that range, and closes with 1011
            fails = served.name == "daphne" and close_code == 1013
            assert socket.close_code == (1011 if fails else close_code)
    with opened(served, "/accepting", local.headers()) as socket:
        assert seen_by_the_app(socket)["id"] == JANE


def test_websocket_token_source(served: Served, local: LocalStackAuth) -> None:
    """The only way for a browser to send a token; the app does not see it, and only the marker is echoed."""
    token = local.token()
    with opened(served, "/token_source", subprotocols=["stackauth", token]) as socket:
        assert socket.subprotocol == "stackauth"
        assert seen_by_the_app(socket) == {"id": JANE, "offered": [], "header": []}
    with opened(served, "/token_source", subprotocols=["v2", "stackauth", token, "chat"]) as socket:
        assert socket.subprotocol == "chat"
        assert seen_by_the_app(socket) == {"id": JANE, "offered": ["v2", "chat"], "header": ["v2, chat"]}
    with opened(served, "/token_source", local.headers(), ["chat"]) as socket:
        assert socket.subprotocol == "chat"
        assert seen_by_the_app(socket)["id"] == JANE


def test_websocket_token_source_refused(served: Served, local: LocalStackAuth) -> None:
    expired = local.token(expires_in=-60)
    for offered, code in ((["stackauth", expired], "expired_token"), (["stackauth"], "invalid_request")):
        response = refusal(served, "/token_source", subprotocols=offered)
        if served.name in WITH_EXTENSION:
            assert json.loads(response.body)["code"] == code
        assert "sec-websocket-protocol" not in response.headers
        with opened(served, "/accepting", subprotocols=offered) as socket:
            assert socket.subprotocol == "stackauth"
            with pytest.raises(ConnectionClosed):
                socket.recv(5)
            assert socket.close_code == 3000


def test_websocket_token_source_is_ignored_by_default(served: Served, local: LocalStackAuth) -> None:
    response = refusal(served, "/plain", subprotocols=["stackauth", local.token()])
    if served.name in WITH_EXTENSION:
        assert json.loads(response.body)["code"] == "missing_token"


def test_log_has_no_traceback_and_no_token(served: Served, local: LocalStackAuth) -> None:
    """Run last on each server: the log has no traceback of ours and no token."""
    log = served.log()
    assert log.count("Traceback") == log.count("Exception: invalid close code 1013")  # daphne's, as above
    assert local.token().partition(".")[0] not in log
