"""Threats G1 to G12 through real sockets, as far as tests/network does not cover them: replies of users/me."""

from __future__ import annotations

import base64
import json
import logging
import socket
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from stackauth_middleware import Rule, StackAuthConfig
from stackauth_middleware._core.flow import Flow
from tests.network.conftest import Attempts
from tests.network.sites import Kind, Site, both_middlewares
from tests.network.upstream import SECRET, USERS_ME, Upstream
from tests.unit.core.helpers import LEFT_OUT, without
from tests.unit.io.loopback import Exchange, Loopback

from .published import EXPIRED, INVALID, LET_IN, OURS, Result, down, result_of

ANONYMOUS_NOT_ALLOWED = Result(401, "anonymous_not_allowed")
RESTRICTED_NOT_ALLOWED = Result(403, "restricted_not_allowed")
OTHER_ID = "99999999-9999-4999-8999-999999999999"
WAYS: dict[str, dict[str, Any]] = {
    "rest": {"mode": "rest"},
    "rule": {"mode": "jwt", "rules": [Rule("/**", profile=True)]},
}
both_modes = pytest.mark.parametrize("mode", WAYS)


def perfect(up: Upstream, exchange: Exchange, **changes: Any) -> Any:
    """Return the correct profile with `changes`."""
    return without({**json.loads(up.local.answer("GET", USERS_ME, exchange.headers).body), **changes})


def ask_once(kind: Kind, up: Upstream, mode: str = "rest", **settings: Any) -> Result:
    """Send a request of a new user and return the result; only a request with a user reaches the app."""
    (token,) = up.tokens(1)
    before = len(up.calls)
    with Site(kind, up.config(**WAYS[mode], **settings)) as site:
        answer = result_of(site.ask(token))
        assert len(site.reached) == (answer == LET_IN)
    assert len(up.calls) - before == 1
    assert up.calls[-1].headers["x-stack-access-token"] == token
    return answer


# -- statuses and codes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "hidden", "expected"),
    [
        (200, "200", LET_IN),
        (200, "401", down(1)),
        (200, "500", down(1)),
        (200, "teapot", down(1)),
        (200, "204", down(1)),
        (201, "200", down(1)),
        (206, "200", down(1)),
        (302, "200", down(1)),
        (401, "200", down(1)),
        (500, "200", down(1)),
    ],
)
@pytest.mark.parametrize("name", ["X-Stack-Actual-Status", "X-Hexclave-Actual-Status"])
@both_middlewares
def test_g1_a_hidden_status_only_ever_lowers(
    status: int, hidden: str, expected: Result, name: str, kind: Kind, up: Upstream
) -> None:
    """A valid profile under another status than 200 authenticates no one; without a code it is no refusal either."""
    up.me = lambda exchange: exchange.reply(perfect(up, exchange), status, **{name: hidden})
    assert ask_once(kind, up) == expected


@both_middlewares
def test_g1_worse_of_two_hidden_statuses_counts(kind: Kind, up: Upstream) -> None:
    worse = {"X-Stack-Actual-Status": "200", "X-Hexclave-Actual-Status": "401"}
    up.me = lambda exchange: exchange.reply(perfect(up, exchange), 200, **worse)
    assert ask_once(kind, up) == down(1)


CODES: dict[str, tuple[int, Result]] = {
    "UNPARSABLE_ACCESS_TOKEN": (401, INVALID),
    "ACCESS_TOKEN_EXPIRED": (401, EXPIRED),
    "INVALID_PROJECT_FOR_ACCESS_TOKEN": (401, INVALID),
    "ANONYMOUS_AUTHENTICATION_NOT_ALLOWED": (401, ANONYMOUS_NOT_ALLOWED),
    "RESTRICTED_USER_NOT_ALLOWED": (403, RESTRICTED_NOT_ALLOWED),
    "CANNOT_GET_OWN_USER_WITHOUT_USER": (400, INVALID),
    "INVALID_SECRET_SERVER_KEY": (401, OURS),
    "INVALID_PUBLISHABLE_CLIENT_KEY": (401, OURS),
    "INSUFFICIENT_ACCESS_TYPE": (401, OURS),
    "CURRENT_PROJECT_NOT_FOUND": (400, OURS),
    "BRANCH_DOES_NOT_EXIST": (400, OURS),
    "SCHEMA_ERROR": (400, OURS),
    "A_CODE_OF_TOMORROW": (401, down(1)),
}


@pytest.mark.parametrize(("mode", "hidden"), [("rest", False), ("rest", True), ("rule", False)])
@pytest.mark.parametrize("code", CODES)
@both_middlewares
def test_g2_to_g4_each_known_error_has_its_error_code(
    mode: str, code: str, hidden: bool, kind: Kind, up: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Also hidden behind a 200. A misconfiguration is logged as an error and is no 401."""
    status, expected = CODES[code]
    headers = {"X-Stack-Known-Error": code} | ({"X-Stack-Actual-Status": str(status)} if hidden else {})
    body = {"code": code, "error": "words", "details": {}}
    up.me = lambda exchange: exchange.reply(body, 200 if hidden else status, **headers)
    assert ask_once(kind, up, mode) == expected
    errors = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    assert [code in each for each in errors] == [True] * (expected == OURS)


# -- no answer ----------------------------------------------------------------------------------------


@both_middlewares
def test_g5_unresolvable_name_opens_the_circuit_breaker(
    kind: Kind, up: Upstream, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The circuit breaker opens after five calls, none of which is retried: no connection was made."""
    one, *others = up.tokens(30)
    look_up = socket.getaddrinfo
    name = up.server.url.replace("127.0.0.1", "localhost")
    with Site(kind, up.config(api_url=name, issuer_url=up.server.url)) as site:
        assert result_of(site.ask(one)) == LET_IN
        attempts.since()

        def fails(host: Any, *args: Any, **kwargs: Any) -> Any:
            if host in ("localhost", b"localhost"):
                raise socket.gaierror(-2, "Name or service not known")
            return look_up(host, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", fails)
        up.server.drop_connections()
        answers = [result_of(site.ask(token)) for token in others]
        assert answers[:4] == [down(1)] * 4
        assert {(each.status, each.code) for each in answers[4:]} == {(503, "auth_server_error")}
        assert {each.retry_after for each in answers[4:]} <= {9, 10}
        assert attempts.since() == 5
        assert result_of(site.ask(one)) == LET_IN
        assert len(site.reached) == 2


# -- bodies -------------------------------------------------------------------------------------------

IDS: dict[str, Callable[[str], Any]] = {
    "missing": lambda user_id: LEFT_OUT,
    "null": lambda user_id: None,
    "a number": lambda user_id: 1,
    "true": lambda user_id: True,
    "a list": lambda user_id: [user_id],
    "an object": lambda user_id: {"id": user_id},
    "empty": lambda user_id: "",
    "upper case": lambda user_id: user_id.upper(),
    "with a blank": lambda user_id: f"{user_id} ",
    "with a NUL": lambda user_id: f"{user_id}\0",
    "half of it": lambda user_id: user_id[:18],
    "another's": lambda user_id: OTHER_ID,
}


@pytest.mark.parametrize("what", IDS)
@both_modes
@both_middlewares
def test_g6_and_g7_profile_without_id_or_of_another_user_is_503(
    what: str, mode: str, kind: Kind, up: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """503, never another user and never one without an id; no part of it is cached, returned or logged."""
    (token,) = up.tokens(1)

    def me(exchange: Exchange) -> None:
        profile = perfect(up, exchange, display_name="Mallory")
        user_id = profile.pop("id")
        exchange.reply(without({**profile, "id": IDS[what](user_id)}))

    up.me = me
    caplog.set_level(logging.DEBUG)
    with Site(kind, up.config(**WAYS[mode])) as site:
        answer = site.ask(token)
        assert result_of(answer) == down(1)
        assert site.reached == []
        assert "Mallory" not in caplog.text
        assert OTHER_ID not in caplog.text
        assert "a 200 that is not the profile of this user" in caplog.text
        up.me = None
    with Site(kind, up.config(**WAYS[mode])) as site:
        assert site.ask(token).user["display_name"] == "user 0"


@both_middlewares
def test_g7_profile_of_another_user_is_unauthenticated_on_an_optional_route(kind: Kind, up: Upstream) -> None:
    other = up.local.users.create(display_name="Mallory").read()
    up.me = lambda exchange: exchange.reply(other)
    with Site(kind, up.config(default_access="optional")) as site:
        (token,) = up.tokens(1)
        assert site.ask(token).json == {"user": None, "error": "auth_server_error"}
    with Site(kind, up.config(mode="jwt")) as site:
        answer = site.ask(up.token(), "/load").json
        assert (answer["failed"], "profile" in answer) == ("auth_server_error", False)
    assert len(up.calls) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@both_middlewares
def test_g9_redirect_receives_neither_key_nor_token(status: int, kind: Kind, up: Upstream) -> None:
    """Redirects to the same host are not followed either."""
    with Loopback(lambda exchange: exchange.reply({"id": "x"})) as other:
        for place in (f"{other.url}{USERS_ME}", f"//127.0.0.1:{other.port}/", f"{up.server.url}/elsewhere", USERS_ME):
            up.me = lambda exchange, to=place: exchange.reply(perfect(up, exchange), status, Location=to)
            assert ask_once(kind, up) == down(1)
    assert other.connections == 0
    assert "/elsewhere" not in up.server.targets


# -- caches -------------------------------------------------------------------------------------------


def test_g10_bad_tokens_leave_no_cache_entries(up: Upstream) -> None:
    """Two thousand different tokens, refused before or after the signature check."""
    good = up.token()
    header, payload, signature = good.split(".")
    data = bytearray(base64.urlsafe_b64decode(signature + "=="))

    def bad(number: int) -> str:
        data[8:12] = number.to_bytes(4, "big")
        forged = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
        return f"{header}.{payload}.{forged}" if number % 5 == 0 else f"{header[:-1]}.{payload}{number}.{forged}"

    config: StackAuthConfig = up.config()
    with Site("wsgi", config) as site:
        assert result_of(site.ask(good)) == LET_IN
        for number in range(200):
            assert result_of(site.ask(bad(number))) == INVALID
        tracemalloc.start()
        for number in range(200, 2200):
            if site.ask(bad(number)).status != 401:
                raise AssertionError(number)
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(site.reached) == 1
    flow = config.get_or_create(Flow)
    profiles = flow._profiles
    kept = [len(each._values) for each in (flow._tokens, profiles._kept, profiles._failed, profiles._refused)]
    assert kept == [1, 1, 0, 0]
    assert grown < 100_000
    assert len(up.calls) == 1


# -- secrets ------------------------------------------------------------------------------------------


def no_http(exchange: Exchange) -> None:
    exchange.send("SSH-2.0-OpenSSH\r\n\r\n")
    exchange.close()


CONDUCTS: dict[str, Callable[[Exchange], None]] = {
    "an echo": lambda exchange: exchange.reply(exchange.headers, 500),
    "404": lambda exchange: exchange.reply(exchange.headers, 404),
    "no HTTP": no_http,
    "reset": lambda exchange: exchange.reset(),
    "no key set": lambda exchange: exchange.reply(exchange.headers),
}


@pytest.mark.parametrize("conduct", CONDUCTS)
@both_middlewares
def test_g12_key_set_calls_carry_no_secret(
    conduct: str, kind: Kind, up: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """No log or response holds one when the call fails; tests/network/test_canaries.py covers the rest."""
    caplog.set_level(logging.DEBUG)
    token = up.token()
    up.server.answer = CONDUCTS[conduct]
    with Site(kind, up.config()) as site:
        answers = [site.ask(token), site.ask(token, path="/load")]
        assert [answer.status for answer in answers] == [500 if conduct == "404" else 503] * 2
        assert site.reached == []
    assert up.calls == []
    sent = [f"{each.target} {each.headers}" for each in up.server.requests]
    seen = [caplog.text, *map(str, answers), *(str(vars(record)) for record in caplog.records), *sent]
    for secret in (SECRET, token, token.rpartition(".")[2]):
        assert not any(secret in text for text in seen)
    assert caplog.records
    assert sent
