"""Unusual requests to real servers: the middleware or the server refuses them, never with a 5xx."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stackauth_middleware.testing import LocalStackAuth

from .processes import Served
from .wire import ask

JANE = "11111111-1111-4111-8111-111111111111"
NAMES = ["uvicorn-websockets", "hypercorn-asyncio", "granian", "daphne", "gunicorn-threads", "wsgiref"]
DROPS = "gunicorn-threads"
"""Drops headers with an underscore; other WSGI servers let them pass for those with a hyphen."""


@pytest.fixture(scope="module", params=NAMES)
def served(request: pytest.FixtureRequest, server: Callable[[str], Served]) -> Served:
    return server(request.param)


@pytest.fixture(scope="module", params=["uvicorn-websockets", "gunicorn-threads", "wsgiref"])
def told_apart(request: pytest.FixtureRequest, server: Callable[[str], Served]) -> Served:
    return server(request.param)


# -- repeated and look-alike headers (threats E1, E2, E3, E5, E6, E7) ---------------------------------


def test_repeated_headers_are_ambiguous(served: Served, local: LocalStackAuth) -> None:
    """Repeated headers of one or both brands are refused, so that no server decides by choosing one."""
    token, another = local.token(), local.token(sub="99999999-9999-4999-8999-999999999999")
    for headers in (
        [("X-Stack-Access-Token", token), ("X-Stack-Access-Token", token)],
        [("X-Stack-Access-Token", token), ("x-stack-access-token", another)],
        [("X-Stack-Access-Token", token), ("X-Hexclave-Access-Token", token)],
        [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {another}")],
    ):
        answer = ask(served.port, "/me", headers)
        assert (answer.status, answer.code) == (400, "invalid_request"), headers
        assert not answer.reached_the_app


def test_first_token_source_decides(served: Served, local: LocalStackAuth) -> None:
    good = ("Authorization", f"Bearer {local.token()}")
    answer = ask(served.port, "/me", [good, ("X-Stack-Access-Token", "garbage")])
    assert (answer.status, answer.code) == (401, "invalid_token")
    answer = ask(served.port, "/me", [good, ("X-Stack-Access-Token", "")])
    assert (answer.status, answer.json["id"]) == (200, JANE)


def test_an_underscore_for_a_hyphen(told_apart: Served, local: LocalStackAuth) -> None:
    """Ignored under ASGI. Under WSGI the server decides: gunicorn drops it, others make it the very same key."""
    alone = ask(told_apart.port, "/me", [("X_Stack_Access_Token", local.token())])
    beside = ask(told_apart.port, "/me", [("X-Stack-Access-Token", "garbage"), ("X_Stack_Access_Token", local.token())])
    if told_apart.name == "wsgiref":
        assert (alone.status, alone.json["id"]) == (200, JANE)
        assert (beside.status, beside.code) == (400, "invalid_request")
    else:
        assert (alone.status, alone.code) == (401, "missing_token")
        assert (beside.status, beside.code) == (401, "invalid_token")


def test_headers_cannot_spoof_the_user(served: Served, local: LocalStackAuth) -> None:
    names = ("Remote-User", "Stackauth.User", "stackauth-user", "X-Stack-User-Id", "X-User", "Stackauth-Presented")
    answer = ask(served.port, "/hello", [(name, JANE) for name in names])
    assert (answer.status, answer.json["id"]) == (200, None)


# -- values ------------------------------------------------------------------------------------------


VALUES: dict[str, str | bytes] = {
    "8193 characters": "a" * 8193,
    "20 kB": "a." * 10_000,
    "60 kB": "a" * 60_000,
    "1 MB": "a" * 1_000_000,
    "dots": "." * 8000,
    "latin-1": b"\xff\xfe\x80",
    "utf-8": "\u00fc.\u20ac.\U0001f600".encode(),
    "folded": b"aaa\r\n bbb",
    "NUL": b"a\x00b",
    "bare carriage return": b"a\rb",
    "tab": b"a\tb",
    "quotes": "\"'\\",
    "comma": ",",
    "JSON": '{"accessToken": "a"}',
    "undefined": "undefined",
    "null": "null",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("name", ["X-Stack-Access-Token", "Authorization", "X-Stack-Auth"])
def test_a_value_that_is_no_token(served: Served, local: LocalStackAuth, name: str, value: str | bytes) -> None:
    """Refused by the middleware or the server. A server may also close the connection."""
    value = value if isinstance(value, bytes) else value.encode()
    if name == "Authorization":
        value = b"Bearer " + value
    try:
        answer = ask(served.port, "/me", [(name, value)])
    except OSError:
        assert len(value) > 16_000 or set(value) & set(b"\0\r"), "the server has no cause to hang up"
        return
    assert 400 <= answer.status < 500
    assert not answer.reached_the_app
    assert ask(served.port, "/healthz").status == 200


def test_blanks_around_a_token(served: Served, local: LocalStackAuth) -> None:
    assert ask(served.port, "/me", [("X-Stack-Access-Token", f"  {local.token()}\t ")]).json["id"] == JANE


# -- targets (threats E8, E10, E11) -------------------------------------------------------------------


TARGETS: list[str | bytes] = [
    "/me",
    "//me",
    "/me%0A",
    "/healthz/../me",
    "/healthz/..%2fme",
    "/healthz%2f..%2fme",
    "/healthz/..;/me",
    "/healthz%00",
    "/healthz%0A",
    "/healthz/",
    "//healthz",
    "/./healthz",
    "/HEALTHZ",
    "/healthz%20",
    "/healthz;x",
    "/%ff",
    "/%c0%ae",
    "/\\me",
    "/" + "a/" * 3000,
    "*",
    "me",
    "http://testserver/me",
    "http://healthz/me",
    "http://testserver//me",
    b"/\xff",
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: ascii(target)[:30])
def test_no_target_reaches_the_app_without_a_token(served: Served, target: str | bytes) -> None:
    """However the server reads it, only the path ``/healthz`` reaches the app.

    Some servers make it of ``//healthz``: they take off all leading slashes but one.
    """
    for headers in ([], [("Host", "a/healthz?x=")], [("X-Original-URL", "/healthz"), ("X-Forwarded-Prefix", "/me")]):
        try:
            answer = ask(served.port, target, headers)
        except OSError:
            continue  # the server hung up
        assert not answer.reached_the_app or (answer.json["path"] == "/healthz" and target == "//healthz")
        assert answer.status < 500


def test_public_path(served: Served) -> None:
    """An escaped letter is not plain where the middleware sees it, which is under ASGI."""
    for target in ("/healthz", "/healthz?x=/me"):
        answer = ask(served.port, target)
        assert (answer.status, answer.json["path"]) == (200, "/healthz")
    is_asgi = served.name.startswith(("uvicorn", "hypercorn", "granian", "daphne"))
    assert ask(served.port, "/%68ealthz").status == (401 if is_asgi else 200)


def test_log_has_no_traceback_and_no_token(served: Served, local: LocalStackAuth) -> None:
    """Run last on each server: the log has no traceback and no token."""
    assert "Traceback" not in served.log()
    assert local.token().partition(".")[0] not in served.log()
