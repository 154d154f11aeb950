"""Stack Auth down, in every way there is: 503 with Retry-After, no user let in or blamed, and soon no call at all."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, NamedTuple

import pytest

from stackauth_middleware import Rule
from stackauth_middleware._core.upstream import MAX_BYTES
from tests.unit.core.helpers import API
from tests.unit.io.loopback import Exchange

from .conftest import Attempts, Warp
from .sites import KINDS, Answer, Kind, Site, both_middlewares, every_runner
from .upstream import USERS_ME, Upstream, raw

BODY = {"error": "Authentication server error", "code": "auth_server_error"}
Me = Callable[[Exchange], None]


def profile(up: Upstream, exchange: Exchange) -> bytes:
    """Return the body of the regular response."""
    return up.local.answer("GET", USERS_ME, exchange.headers).body


class Way(NamedTuple):
    """A way for users/me to fail.

    Attributes:
        me: makes the answer to users/me.
        keeps_connection: whether an answer arrives, so that the connection goes back to the pool. Otherwise a call
            that went out on a pooled connection is sent once more, on a new one.
    """

    me: Callable[[Upstream], Me]
    keeps_connection: bool = True


def _said(text: str, then: str = "reset") -> Way:
    """Send `text` and then break the connection."""

    def me(exchange: Exchange) -> None:
        exchange.send(text)
        getattr(exchange, then)()

    return Way(lambda up: me, keeps_connection=False)


def _replied(body: Any, status: int = 200, **headers: str) -> Way:
    return Way(lambda up: lambda exchange: exchange.reply(body, status, **headers))


def _redirected(up: Upstream) -> Me:
    def me(exchange: Exchange) -> None:
        exchange.reply(b"", 302, Location=f"{up.server.url}/elsewhere")

    return me


def _compressed(up: Upstream) -> Me:
    def me(exchange: Exchange) -> None:
        exchange.reply(gzip.compress(profile(up, exchange)), Content_Encoding="gzip")

    return me


def _truncated(up: Upstream) -> Me:
    return lambda exchange: exchange.reply(profile(up, exchange)[:-1])


def _cut_off(up: Upstream, then: str) -> Me:
    def me(exchange: Exchange) -> None:
        body = profile(up, exchange)
        exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n", body[:-1])
        getattr(exchange, then)()

    return me


def _another(up: Upstream) -> Me:
    """Respond with the profile of another user, as a cache that ignores headers would."""
    other = up.local.users.create().read()
    return lambda exchange: exchange.reply(other)


LATE = 0.2
"""Timeout of requests in the tests about waiting, in seconds."""
WAITING = {"hanging", "hanging in the header", "hanging in the body", "dripping"}
WAYS = {
    "closed before an answer": Way(lambda up: lambda exchange: exchange.close(), keeps_connection=False),
    "reset": Way(lambda up: lambda exchange: exchange.reset(), keeps_connection=False),
    "hanging": Way(lambda up: lambda exchange: exchange.hold(), keeps_connection=False),
    "hanging in the header": _said("HTTP/1.1 200 OK\r\nContent-", then="hold"),
    "hanging in the body": Way(lambda up: _cut_off(up, "hold"), keeps_connection=False),
    "dripping": Way(lambda up: lambda exchange: exchange.drip("HTTP/1.1 200 OK\r\n\r\n{}"), keeps_connection=False),
    "500": _replied(b"Internal Server Error", 500),
    "502 in HTML": _replied(b"<html>Bad Gateway</html>", 502, Content_Type="text/html"),
    "503": _replied(b"", 503),
    "500 in JSON": _replied({"code": "INTERNAL", "error": "words"}, 500),
    "hidden 500": _replied({"error": "words"}, 200, x_stack_actual_status="500"),
    "403 of a firewall": _replied(b"<html>blocked</html>", 403),
    "404": _replied(b"Not found", 404),
    "401 without a code": _replied({"error": "Unauthorized"}, 401),
    "an unknown code": _replied({"code": "A_CODE_OF_TOMORROW", "error": "words"}, 401),
    "reset in mid body": Way(lambda up: _cut_off(up, "reset"), keeps_connection=False),
    "closed in mid body": Way(lambda up: _cut_off(up, "close"), keeps_connection=False),
    "HTML": _replied(b"<html>200 OK</html>", Content_Type="text/html"),
    "{}": _replied({}),
    "null": _replied(b"null"),
    "a list": _replied([{"id": "x"}]),
    "a foreign id": Way(_another),
    "flags that are no booleans": Way(
        lambda up: lambda exchange: exchange.reply(json.loads(profile(up, exchange)) | {"is_restricted": "false"})
    ),
    "204": _replied(b"", 204),
    "302": Way(_redirected),
    "304": _replied(b"", 304),
    "truncated JSON": Way(_truncated),
    "gzip": Way(_compressed),
}


def down(answer: Answer, retry_after: str = "1") -> None:
    """Assert that `answer` is exactly the response with the code ``auth_server_error``."""
    assert (answer.status, answer.json) == (503, BODY)
    assert answer.headers == {
        "content-type": "application/json",
        "content-length": str(len(answer.body)),
        "cache-control": "no-store",
        "retry-after": retry_after,
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in WAYS for kind in KINDS if kind != "trio" or name in ("reset", "hanging", "gzip")],
)
def test_every_failure_of_users_me_is_a_503(
    name: str, kind: Kind, up: Upstream, warp: Warp, attempts: Attempts
) -> None:
    """One user, then others until the circuit breaker opens, then the probe, then recovery."""
    way = WAYS[name]
    tokens = up.tokens(10)
    with Site(kind, up.config(timeout=LATE if name in WAITING else 5)) as site:
        assert site.ask(up.token()).status == 200
        up.me = way.me(up)
        attempts.since()
        down(site.ask(tokens[0]))
        # A failure on a pooled connection counts only with the second attempt, for which no time is left here.
        uncounted = name == "hanging in the body"
        assert attempts.since() == (1 if way.keeps_connection or uncounted or kind == "trio" else 2)
        for token in tokens[1:4]:
            down(site.ask(token))
        if uncounted:
            down(site.ask(tokens[7]))
        down(site.ask(tokens[4]), retry_after="10")
        assert attempts.since() == 4 + uncounted
        for token in tokens * 10:
            answer = site.ask(token)
            assert answer.status == 503
            assert 9 <= int(answer.headers["retry-after"]) <= 10
        assert attempts.since() == 0
        warp.pass_by(10)
        assert site.ask(tokens[5]).status == site.ask(tokens[6]).status == 503
        assert attempts.since() == 1
        warp.pass_by(10)
        up.me = None
        assert site.ask(tokens[0]).status == site.ask(tokens[1]).status == 200
        assert attempts.since() == 2
    assert not any(each.target == "/elsewhere" for each in up.server.requests)


@every_runner
def test_stopped_server_is_a_503(kind: Kind, up: Upstream, warp: Warp, attempts: Attempts) -> None:
    tokens = up.tokens(8)
    with Site(kind, up.config()) as site:
        assert site.ask(tokens[0]).status == 200
        up.server.__exit__()
        for token in tokens[1:5]:
            down(site.ask(token))
        down(site.ask(tokens[5]), retry_after="10")
        assert attempts.since() == 1 + 5
        for _ in range(50):
            down(site.ask(tokens[6]), retry_after="10")
        assert attempts.since() == 0
        assert site.ask(tokens[0]).user["display_name"] == "user 0"


@both_middlewares
def test_one_time_budget_covers_a_whole_request(kind: Kind, up: Upstream) -> None:
    """The key set takes most of the budget, and users/me gets the rest."""
    answers = up.server.answer

    def answer(exchange: Exchange) -> None:
        if exchange.target != USERS_ME:
            exchange.hold(0.2)
            answers(exchange)
        exchange.hold()

    up.server.answer = answer
    with Site(kind, up.config(timeout=0.4)) as site:
        started = time.monotonic()
        down(site.ask(up.token()))
        assert time.monotonic() - started < 1.5


# -- throttling ---------------------------------------------------------------------------------------


@both_middlewares
@pytest.mark.parametrize(("said", "held"), [("7", 7), ("0", 1), ("60", 60), ("3600", 60), ("date", 30)])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(
    said: str, held: int, status: int, kind: Kind, up: Upstream, warp: Warp, attempts: Attempts
) -> None:
    """Within 1 to 60 seconds, for all users, and nothing is sent until then."""
    tokens = up.tokens(4)
    with Site(kind, up.config()) as site:
        assert site.ask(tokens[0]).status == 200
        attempts.since()
        up.me = lambda exchange: exchange.reply(
            b"", status, Retry_After=formatdate(time.time() + 30, usegmt=True) if said == "date" else said
        )
        answer = site.ask(tokens[1])
        assert abs(int(answer.headers["retry-after"]) - held) <= (said == "date")
        up.me = None
        for token in tokens[1:] * 3:
            assert site.ask(token).status == 503
        assert site.ask(tokens[0], "/fresh").json["failed"] == "auth_server_error"
        assert site.ask(tokens[0]).status == 200
        assert attempts.since() == 1
        warp.pass_by(held - 0.9)
        assert site.ask(tokens[1]).status in ((503,) if said != "date" else (200, 503))
        warp.pass_by(0.9)
        assert site.ask(tokens[1]).status == site.ask(tokens[2]).status == 200


# -- failures of one user -------------------------------------------------------------------------------


# -- requests that pass --------------------------------------------------------------------------------------


@both_middlewares
def test_optional_route_passes_unauthenticated(kind: Kind, up: Upstream) -> None:
    up.me = lambda exchange: exchange.reply(b"", 500)
    with Site(kind, up.config(rules=[Rule("/public", "public"), Rule("/maybe", "optional")])) as site:
        answer = site.ask(up.token(), "/maybe")
        assert (answer.status, answer.json) == (200, {"user": None, "error": "auth_server_error"})
        assert site.ask(up.token(), "/public").json == {"user": None, "error": None}
        down(site.ask(up.token(), "/"))


@both_middlewares
def test_jwt_mode_needs_no_users_me(kind: Kind, up: Upstream) -> None:
    """Only requests that need the profile fail."""
    up.me = lambda exchange: exchange.reply(b"", 500)
    with Site(kind, up.config(mode="jwt", rules=[Rule("/whole", profile=True)])) as site:
        assert site.ask(up.token()).user["profile"] is None
        down(site.ask(up.token(), "/whole"))
        assert site.ask(up.token(), "/load").json["failed"] == "auth_server_error"
        assert site.ask(up.token(), "/load").json["retry_after"] == 1


@both_middlewares
def test_profile_just_under_the_size_limit_is_read(kind: Kind, up: Upstream) -> None:
    """A profile just under the limit, sent in chunks."""

    def me(exchange: Exchange) -> None:
        body = json.loads(profile(up, exchange))
        body["client_metadata"] = "x" * (MAX_BYTES - len(json.dumps(body)))
        octets = json.dumps(body).encode()
        assert MAX_BYTES - 10 < len(octets) <= MAX_BYTES
        pieces = [octets[at : at + 50_000] for at in range(0, len(octets), 50_000)]
        chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        raw(exchange, 200, [("transfer-encoding", "chunked")], chunked)

    up.me = me
    with Site(kind, up.config(issuer_url=[up.server.url, API])) as site:
        assert len(site.ask(up.token()).user["profile"]["client_metadata"]) > 1_000_000
