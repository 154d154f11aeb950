"""What both middlewares change in an answer of the app: that to a passed preflight, and that to a user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from stackauth_middleware import Rule, StackAuthWSGIMiddleware
from stackauth_middleware.testing import LocalStackAuth

from .drive import PROJECT, asgi, environ_of, http_scope, wsgi

PREFLIGHT = {"origin": "https://app.example", "access-control-request-method": "GET"}
RELAYED = [("Access-Control-Allow-Origin", "https://app.example"), ("Vary", "Origin")]
DROPPED = [("Content-Type", "text/plain"), ("Set-Cookie", "a=b"), ("Location", "/secret"), ("Content-Length", "6")]
ANSWER = {name.lower(): value for name, value in [*RELAYED, ("Content-Length", "0")]}


def octets(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers]


def preflight_scope() -> dict[str, Any]:
    return http_scope("/secret", octets(PREFLIGHT.items()), method="OPTIONS")


def preflight_environ() -> dict[str, Any]:
    return environ_of("/secret", PREFLIGHT, REQUEST_METHOD="OPTIONS")


# -- preflights ---------------------------------------------------------------------------------------

START = {"type": "http.response.start", "status": 202, "headers": octets([*RELAYED, *DROPPED]), "trailers": True}
BODIES: dict[str, list[dict[str, Any]]] = {
    "body": [START, {"type": "http.response.body", "body": b"secret"}],
    "stream": [START, *[{"type": "http.response.body", "body": b"secret", "more_body": True}] * 3],
    "file": [START, {"type": "http.response.pathsend", "path": "/etc/passwd"}],
    "descriptor": [START, {"type": "http.response.zerocopysend", "file": 0}],
    "trailers": [START, {"type": "http.response.trailers", "headers": [(b"x", b"secret")]}],
    "two responses": [START, {**START, "status": 200, "headers": [(b"x", b"secret")]}],
    "early messages": [
        {"type": "http.response.early_hint", "links": [b"secret"]},
        {"type": "http.response.push"},
        START,
    ],
}


@pytest.mark.parametrize("messages", BODIES.values(), ids=BODIES)
def test_asgi_relays_status_and_cors_headers_of_a_preflight(
    messages: list[dict[str, Any]], stackauth: LocalStackAuth
) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["stackauth.user"] is None
        for message in messages:
            await send(message)

    seen = asgi(preflight_scope(), app, sent=sent, pass_preflights=True)
    assert (seen.status, seen.headers, seen.body, len(seen.reached)) == (202, ANSWER, b"", 1)
    assert sent == [
        {"type": "http.response.start", "status": 202, "headers": octets([*RELAYED, ("Content-Length", "0")])},
        {"type": "http.response.body", "body": b""},
    ]


class Chunks:
    """The iterable of a WSGI app, which must be closed (PEP 3333)."""

    def __init__(self, start_response: Any, *, late: bool) -> None:
        self.start_response = start_response
        self.late = late
        self.taken = 0
        self.is_closed = False
        if not late:
            self.start()

    def start(self) -> None:
        write = self.start_response("202 Accepted", [*RELAYED, *DROPPED])
        write(b"secret")

    def __iter__(self) -> Iterator[bytes]:
        if self.late:
            self.start()
        while True:
            self.taken += 1
            yield b"secret"

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("late", [False, True], ids=["starts when called", "starts at its first chunk"])
def test_wsgi_relays_status_and_cors_headers_of_a_preflight(late: bool, stackauth: LocalStackAuth) -> None:
    """An endless body is neither read nor sent, and it is closed."""
    made: list[Chunks] = []

    def app(environ: Any, start_response: Any) -> Chunks:
        assert environ["stackauth.user"] is None
        made.append(Chunks(start_response, late=late))
        return made[0]

    seen = wsgi(preflight_environ(), app, pass_preflights=True)
    assert (seen.status, seen.headers, seen.body) == (202, ANSWER, b"")
    assert made[0].is_closed
    assert made[0].taken == (1 if late else 0)


def test_wsgi_relays_the_error_that_replaces_an_answer(stackauth: LocalStackAuth) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", RELAYED)
        start_response("500 Internal Server Error", DROPPED, (ValueError, ValueError("secret"), None))
        return [b"secret"]

    seen = wsgi(preflight_environ(), app, pass_preflights=True)
    assert (seen.status, seen.headers, seen.body) == (500, {"content-length": "0"}, b"")


def test_wsgi_app_that_never_answers_a_preflight_is_an_error(stackauth: LocalStackAuth) -> None:
    guarded = StackAuthWSGIMiddleware(lambda environ, start_response: [], project_id=PROJECT, pass_preflights=True)
    with pytest.raises(RuntimeError, match="did not call start_response"):
        guarded(preflight_environ(), lambda *_: None)


def test_preflight_on_a_public_route_is_untouched(stackauth: LocalStackAuth) -> None:
    rules = [Rule("/secret", "public")]
    each: list[dict[str, Any]] = [{"pass_preflights": True}, {"cors_origins": ["*"]}, {"private_responses": True}]
    for settings in each:
        ways = asgi(preflight_scope(), rules=rules, **settings), wsgi(preflight_environ(), rules=rules, **settings)
        assert [(seen.status, seen.headers, seen.body) for seen in ways] == [(200, {}, b"app")] * 2


def test_both_middlewares_answer_a_preflight_alike(stackauth: LocalStackAuth) -> None:
    asked = {**PREFLIGHT, "access-control-request-headers": "x-stack-access-token"}
    ways = (
        asgi(http_scope("/", octets(asked.items()), method="OPTIONS"), cors_origins=["*"]),
        wsgi(environ_of("/", asked, REQUEST_METHOD="OPTIONS"), cors_origins=["*"]),
    )
    assert ways[0].same() == ways[1].same()
    assert (ways[0].status, ways[0].body, ways[0].reached) == (204, b"", [])
    assert ways[0].headers["access-control-allow-headers"] == "x-stack-access-token"


# -- private answers ----------------------------------------------------------------------------------

VARY = "X-Stack-Access-Token, X-Hexclave-Access-Token, Authorization, X-Stack-Auth, X-Hexclave-Auth"
PRIVATE = {"vary": VARY, "cache-control": "private"}
RULES = [Rule("/public", "public"), Rule("/optional", "optional")]


def ask_both(path: str, headers: dict[str, str], app_headers: list[tuple[str, str]], **settings: Any) -> dict[str, str]:
    """Return the headers of an answer that streams, through either middleware."""

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": octets(app_headers)})
        for more in (True, True, False):
            await send({"type": "http.response.body", "body": b"x", "more_body": more})

    def wsgi_app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", app_headers)
        yield from (b"x", b"x", b"x")

    settings["rules"] = RULES
    ways = (
        asgi(http_scope(path, octets(headers.items())), asgi_app, **settings),
        wsgi(environ_of(path, headers), wsgi_app, **settings),
    )
    assert ways[0].same() == ways[1].same()
    assert (ways[0].status, ways[0].body) == (200, b"xxx")
    return ways[0].headers


@pytest.mark.parametrize("path", ["/", "/optional"])
def test_answers_to_users_are_private_where_the_setting_says_so(path: str, stackauth: LocalStackAuth) -> None:
    assert ask_both(path, stackauth.headers(), [], private_responses=True) == PRIVATE
    assert ask_both(path, stackauth.headers(), []) == {}


def test_answer_to_a_request_without_a_token_is_private_with_optional_access(stackauth: LocalStackAuth) -> None:
    """It must not be given to a user, whose answer may be another."""
    assert ask_both("/optional", {}, [], private_responses=True) == PRIVATE


def test_public_answer_is_untouched(stackauth: LocalStackAuth) -> None:
    said = [("Cache-Control", "max-age=60"), ("X", "1")]
    assert ask_both("/public", stackauth.headers(), said, private_responses=True) == {
        "cache-control": "max-age=60",
        "x": "1",
    }


def test_what_the_app_says_stands(stackauth: LocalStackAuth) -> None:
    said = [("Vary", "Accept"), ("Cache-Control", "public, s-maxage=60"), ("X", "1")]
    found = ask_both("/", stackauth.headers(), said, private_responses=True, token_sources=["x-stack-access-token"])
    assert found == {
        "vary": "Accept, X-Stack-Access-Token, X-Hexclave-Access-Token",
        "cache-control": "public, s-maxage=60",
        "x": "1",
    }


def test_refusals_are_not_stored_at_all(stackauth: LocalStackAuth) -> None:
    plain, private = (wsgi(environ_of(), private_responses=flag) for flag in (False, True))
    assert plain.same() == private.same()
    assert private.headers["cache-control"] == "no-store"
