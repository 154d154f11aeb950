"""``verify``: the token sources that it reads, its findings, and what it never prints."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from stackauth_middleware import AuthServerError, ErrorCode, RefusedError, User, UserType, Verifier
from stackauth_middleware.testing import LocalStackAuth
from tests.unit.cli.ask import OTHER_PROJECT, PROJECT, SETTINGS, Ran, Runs

REFRESH = "refresh-token-that-must-stay-secret"
ISSUER = "http://127.0.0.1:9"


@pytest.fixture
def token(stackauth: LocalStackAuth) -> Callable[..., str]:
    """Make tokens of the project that `SETTINGS` name."""

    def make(**claims: Any) -> str:
        return stackauth.token(**{"project_id": PROJECT, "issuer_url": ISSUER, **claims})

    return make


def carried(token: str | None) -> str:
    return json.dumps({"accessToken": token, "refreshToken": REFRESH})


def wrapped(token: str | None) -> str:
    return base64.b64encode(carried(token).encode()).decode()


def assert_nothing_leaks(ran: Ran, token: str) -> None:
    """None of the three parts, nor 20 characters of any of them, nor the refresh token is printed."""
    for text in (ran.out, ran.err):
        for part in token.split("."):
            assert not any(part[at : at + 20] in text for at in range(max(1, len(part) - 19)))
        assert REFRESH not in text
        assert wrapped(token)[:40] not in text


TOKEN_SOURCES: dict[str, Callable[[str], str]] = {
    "bare": lambda token: token,
    "quoted": lambda token: f'"{token}"',
    "single-quoted": lambda token: f" '{token}' \n",
    "header": lambda token: f"x-stack-access-token: {token}",
    "hexclave-header": lambda token: f"X-Hexclave-Access-Token: {token}",
    "authorization": lambda token: f"Authorization: Bearer {token}",
    "authorization-wrapped": lambda token: f"authorization: bearer stackauth_{wrapped(token)}",
    "bearer": lambda token: f"Bearer {token}",
    "bearer-wrapped": lambda token: f"Bearer hexclave_{wrapped(token)}",
    "wrapped": lambda token: f"stackauth_{wrapped(token)}",
    "hexclave-wrapped": lambda token: f"hexclave_{wrapped(token)}",
    "json": carried,
    "token-response": lambda token: json.dumps({"refresh_token": REFRESH, "access_token": token}),
    "json-header": lambda token: f"x-stack-auth: {carried(token)}",
    "json-of-headers": lambda token: json.dumps({"x-stack-auth": carried(token), "accept": "*/*"}),
    "request": lambda token: f"GET /me HTTP/1.1\nHost: x\nx-stack-access-token: {token}\nAccept: */*\n",
    "curl-verbose": lambda token: f"> GET /me HTTP/1.1\n> Host: x\n> x-stack-access-token: {token}\n>\n",
}


@pytest.mark.parametrize("carry", TOKEN_SOURCES.values(), ids=TOKEN_SOURCES)
def test_every_token_source_is_read(run: Runs, token: Callable[..., str], carry: Callable[[str], str]) -> None:
    """From standard input and from arguments, and nothing secret is printed."""
    good = token()
    for ran in (run("verify", *SETTINGS, stdin=carry(good)), run("verify", *SETTINGS, "--", carry(good))):
        assert ran.status == 0, ran
        assert set(ran.marks().values()) == {"ok"}
        assert ran.err == ""
        assert_nothing_leaks(ran, good)


def test_dash_is_standard_input_and_words_are_joined(run: Runs, token: Callable[..., str]) -> None:
    good = token()
    assert run("verify", *SETTINGS, "-", stdin=good).status == 0
    assert run("verify", *SETTINGS, "Authorization:", "Bearer", good).status == 0


@pytest.mark.parametrize(
    ("carry", "text"),
    [
        (lambda token: "", "no token in an empty input; cookies"),
        (lambda token: f"cookie: stack-access={token}", "no token in cookie; cookies"),
        (lambda token: "authorization: Basic eDp5", "no token in authorization; cookies"),
        (lambda token: "Bearer sk_live_1", "no token in authorization; cookies"),
        (lambda token: carried(None), "no token in x-stack-auth; cookies"),
        (lambda token: '{"accessToken": 1}', "400 invalid_request: an access token that is not a string"),
        (lambda token: '{"accessToken": ', "400 invalid_request: a credential that is not one JSON object"),
        (lambda token: "{" * 100_000, "400 invalid_request: a credential over 8 KiB"),
        (lambda token: "stackauth_%%", "400 invalid_request: no base64 after the bearer prefix"),
        (
            lambda token: f"x-stack-access-token: {token}\nx-stack-access-token: {token}",
            "400 invalid_request: an access token header twice",
        ),
        (
            lambda token: f"x-stack-access-token: {token}\nx-hexclave-access-token: {token}",
            "400 invalid_request: one header in both brands",
        ),
    ],
)
def test_input_without_a_token_is_reported(
    run: Runs, stackauth: LocalStackAuth, token: Callable[..., str], carry: Callable[[str], str], text: str
) -> None:
    """The other steps are skipped, and Stack Auth is not called."""
    good = token()
    ran = run("verify", *SETTINGS, stdin=carry(good))
    assert ran.status == 1
    assert ran.text("source").startswith(text)
    marks = ran.marks()
    assert marks.pop("source") == "FAIL"
    assert len(marks) == 9
    assert set(marks.values()) == {"--"}
    assert_nothing_leaks(ran, good)
    assert len(stackauth.requests) == 0


def test_websocket_token_source_needs_the_setting(run: Runs, token: Callable[..., str]) -> None:
    ran = run("verify", *SETTINGS, stdin=f"Sec-WebSocket-Protocol: stackauth, {token()}")
    assert ran.status == 0
    assert "read only if the setting token_sources names it" in ran.text("source")


@pytest.mark.parametrize(
    ("claims", "step", "outcome"),
    [
        ({"expires_in": -60}, "times", "401 expired_token"),
        ({"project_id": OTHER_PROJECT}, "audience", "401 invalid_token"),
        ({"issuer_url": "https://evil.example.com"}, "issuer", "401 invalid_token"),
        ({"key": "foreign"}, "signature", "401 invalid_token"),
        ({"key": "anonymous"}, "key", "401 invalid_token"),
        ({"kid": "nobodys"}, "key", "401 invalid_token"),
        ({"branch_id": "other"}, "flags", "401 invalid_token"),
        ({"header": {"alg": "HS256"}}, "header", "401 invalid_token"),
    ],
)
def test_failed_step_is_named(
    run: Runs, token: Callable[..., str], claims: dict[str, Any], step: str, outcome: str
) -> None:
    """The step of the changed claim fails, and the verifier refuses the token too."""
    bad = token(**claims)
    ran = run("verify", *SETTINGS, stdin=bad)
    assert ran.status == 1
    assert ran.marks()[step] == "FAIL"
    assert ran.text("outcome").startswith(f"refused: {outcome}")
    assert_nothing_leaks(ran, bad)


@pytest.mark.parametrize(
    ("user_type", "option", "outcome"),
    [
        ("restricted", "--allow-restricted", "403 restricted_not_allowed"),
        ("anonymous", "--allow-anonymous", "401 anonymous_not_allowed"),
    ],
)
def test_user_types_that_the_settings_refuse(
    run: Runs, token: Callable[..., str], user_type: str, option: str, outcome: str
) -> None:
    """All steps pass, and the outcome is a refusal."""
    good = token(user_type=user_type)
    ran = run("verify", *SETTINGS, stdin=good)
    assert ran.status == 1
    marks = ran.marks()
    assert marks.pop("outcome") == "FAIL"
    assert set(marks.values()) == {"ok"}
    assert outcome in ran.text("outcome")
    assert run("verify", *SETTINGS, option, stdin=good).status == 0


def test_key_set_is_fetched_once(run: Runs, stackauth: LocalStackAuth, token: Callable[..., str]) -> None:
    """The steps and the outcome share the keys."""
    assert run("verify", *SETTINGS, stdin=token()).status == 0
    assert stackauth.requests.count("jwks") == len(stackauth.requests) == 1


def test_stack_auth_down(run: Runs, stackauth: LocalStackAuth, token: Callable[..., str]) -> None:
    with stackauth.down():
        ran = run("verify", *SETTINGS, stdin=token())
    assert ran.status == 1
    assert ran.text("key").startswith("not available")
    assert ran.marks()["signature"] == "--"
    assert "503 auth_server_error" in ran.text("outcome")
    assert ran.err == ""


@pytest.mark.parametrize(
    ("expires_in", "outcome"),
    [
        (600, RefusedError(ErrorCode.INVALID_TOKEN, "made up")),
        (600, RefusedError(ErrorCode.EXPIRED_TOKEN, "made up")),
        (-600, None),
    ],
)
def test_disagreement_with_the_verifier_is_an_error(
    run: Runs,
    token: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    expires_in: float,
    outcome: Exception | None,
) -> None:
    user = User("u", UserType.NORMAL, *[None] * 13)

    def verify(_self: Verifier, _token: str) -> User:
        if outcome is not None:
            raise outcome
        return user

    monkeypatch.setattr(Verifier, "verify", verify)
    ran = run("verify", *SETTINGS, stdin=token(expires_in=expires_in))
    assert ran.status == 2
    assert ran.err == (
        "stackauth-middleware: error: the steps and the verifier disagree about this token; please report it\n"
    )


def test_outage_after_the_steps_is_no_disagreement(
    run: Runs, token: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(_self: Verifier, _token: str) -> User:
        raise AuthServerError(ErrorCode.SERVER_ERROR, 1, "gone")

    monkeypatch.setattr(Verifier, "verify", verify)
    assert run("verify", *SETTINGS, stdin=token()).status == 1


def test_binary_standard_input_is_an_error(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_self: Any, _size: int) -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr(
        "tests.unit.cli.ask.io.StringIO", lambda _text: type("Input", (), {"isatty": bool, "read": read})()
    )
    ran = run("verify", *SETTINGS)
    assert ran == (2, "", "stackauth-middleware: error: standard input is not text\n")


def test_prompt_on_a_terminal(run: Runs, monkeypatch: pytest.MonkeyPatch, token: Callable[..., str]) -> None:
    good = token()
    terminal = type("Terminal", (), {"isatty": lambda _self: True, "read": lambda _self, _size: good})
    monkeypatch.setattr("tests.unit.cli.ask.io.StringIO", lambda _text: terminal())
    ran = run("verify", *SETTINGS)
    assert ran.status == 0
    assert ran.err.startswith("paste a token")
    assert sys.stdin.isatty()
