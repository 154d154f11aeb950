"""``check``: the settings, the three key sets, the clock, the secret key, and a token."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any

import pytest

from stackauth_middleware._core.upstream import Call, NoReply, Reply
from stackauth_middleware._io import network
from stackauth_middleware._io.network import TransportOverride
from stackauth_middleware.testing import LocalStackAuth
from tests.unit.cli.ask import API, OTHER_PROJECT, PROJECT, SETTINGS, Ran, Runs
from tests.unit.io.loopback import closed_port

UNCHECKED = {"secret-key": "--", "token": "--"}
Change = Callable[[Call, Reply], "Reply | NoReply"]


class _Changed:
    """A transport override that changes each reply of another."""

    def __init__(self, behind: TransportOverride, change: Change) -> None:
        self._behind = behind
        self._change = change

    def send(self, call: Call, seconds: float) -> Reply | NoReply:
        reply = self._behind.send(call, seconds)
        assert isinstance(reply, Reply)
        return self._change(call, reply)

    async def asend(self, call: Call, seconds: float) -> Reply | NoReply:
        raise AssertionError("the command line does not run in an event loop")


@contextmanager
def changed(change: Change) -> Iterator[None]:
    before = network.transport_override
    assert before is not None
    network.transport_override = _Changed(before, change)
    try:
        yield
    finally:
        network.transport_override = before


def with_headers(**headers: str) -> Change:
    return lambda _call, reply: Reply(reply.status, {**reply.headers, **headers}, reply.body)


def kids_of(stackauth: LocalStackAuth, query: str) -> list[str]:
    answer = stackauth.answer("GET", f"/api/v1/projects/{PROJECT}/.well-known/jwks.json{query}")
    return [key["kid"] for key in json.loads(answer.body)["keys"]]


def test_healthy_project_passes(run: Runs, stackauth: LocalStackAuth) -> None:
    """Each key id is in the line of its user type, and each document is fetched once."""
    with changed(with_headers(date=formatdate(usegmt=True))):
        ran = run("check", *SETTINGS)
    assert (ran.status, ran.err) == (0, "")
    assert ran.marks() == {"normal": "ok", "restricted": "ok", "anonymous": "ok", "clock": "ok", **UNCHECKED}
    everything = kids_of(stackauth, "?include_anonymous=true")
    for at, user_type in enumerate(("normal", "restricted", "anonymous")):
        own, others = everything[2 * at : 2 * at + 2], everything[: 2 * at] + everything[2 * at + 2 :]
        assert all(kid in ran.text(user_type) for kid in own)
        assert not any(kid in ran.text(user_type) for kid in others)
    assert stackauth.requests.count("jwks") == len(stackauth.requests) == 3
    assert "fresh for 10 min" in ran.text("normal")
    assert ran.text("clock") == "within 1 s of Stack Auth's"


def test_settings_are_shown_and_secrets_are_not(
    run: Runs, stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACK_SECRET_SERVER_KEY", "ssk_must_not_be_printed")
    ran = run("check", *SETTINGS, "--issuer-url", "https://auth.example.com")
    shown = dict(line.split("  ", 1) for line in ran.out.splitlines() if not line.startswith(("ok", "--", "FAIL")))
    assert {name: value.strip() for name, value in shown.items()} == {
        "project id": PROJECT,
        "api url": API,
        "key sets": f"{API}/api/v1/projects/{PROJECT}/.well-known/jwks.json",
        "accepted issuers": f"https://auth.example.com/api/v1/projects/{PROJECT}",
        "secret key": "set",
        "publishable key": "not set",
    }
    assert "ssk_" not in ran.out + ran.err


def test_stack_auth_down(run: Runs, stackauth: LocalStackAuth) -> None:
    with stackauth.down():
        ran = run("check", *SETTINGS)
    assert (ran.status, ran.err) == (1, "")
    assert ran.marks() == {"normal": "FAIL", "restricted": "FAIL", "anonymous": "FAIL", "clock": "--", **UNCHECKED}
    assert ran.text("normal") == "connection refused"


def test_a_closed_port_is_named_with_the_setting_to_look_at(run: Runs) -> None:
    ran = run("check", "--project-id", PROJECT, "--api-url", f"http://127.0.0.1:{closed_port()}")
    assert ran.status == 1
    assert ran.text("normal").startswith("connection refused (check api_url")


def test_unknown_project(run: Runs, stackauth: LocalStackAuth) -> None:
    """A 404 is a matter of settings, and the line says which."""
    stackauth.remove_project(OTHER_PROJECT)
    ran = run("check", "--project-id", OTHER_PROJECT, "--api-url", API)
    assert ran.status == 1
    assert ran.text("normal") == "status 404 (check project_id and api_url)"


def test_server_error_gives_no_advice_on_settings(run: Runs, stackauth: LocalStackAuth) -> None:
    with stackauth.fail(500):
        ran = run("check", *SETTINGS)
    assert ran.status == 1
    assert ran.text("normal") == "status 500"


def test_older_server_without_restricted_users(run: Runs, stackauth: LocalStackAuth) -> None:
    """It answers 400 to the parameter; that is no fault, and the other types work."""
    normal = kids_of(stackauth, "")
    everything = stackauth.answer("GET", f"/api/v1/projects/{PROJECT}/.well-known/jwks.json?include_anonymous=true")

    def change(call: Call, reply: Reply) -> Reply:
        if "include_restricted" in call.url:
            return Reply(400, reply.headers, b"")
        return Reply(200, reply.headers, everything.body) if "include_anonymous" in call.url else reply

    with changed(change):
        ran = run("check", *SETTINGS)
    assert ran.status == 0
    assert ran.text("restricted") == "not supported by this older server, which has no restricted users"
    assert not any(kid in ran.text("anonymous") for kid in normal)


def test_only_one_set_fails(run: Runs, stackauth: LocalStackAuth) -> None:
    def change(call: Call, reply: Reply) -> Reply:
        return Reply(503, {}, b"") if "include_anonymous" in call.url else reply

    with changed(change):
        ran = run("check", *SETTINGS)
    assert ran.status == 1
    assert [ran.marks()[name] for name in ("normal", "restricted", "anonymous")] == ["ok", "ok", "FAIL"]


def test_key_sets_that_do_not_match(run: Runs, stackauth: LocalStackAuth) -> None:
    """A larger document has to hold the smaller one."""
    other = stackauth.answer("GET", f"/api/v1/projects/{OTHER_PROJECT}/.well-known/jwks.json?include_restricted=true")

    def change(call: Call, reply: Reply) -> Reply:
        return Reply(200, reply.headers, other.body) if "include_restricted" in call.url else reply

    with changed(change):
        ran = run("check", *SETTINGS)
    assert ran.status == 1
    assert ran.text("restricted") == "two key sets that do not fit each other"


def test_a_set_without_keys_of_its_own(run: Runs, stackauth: LocalStackAuth) -> None:
    plain = stackauth.answer("GET", f"/api/v1/projects/{PROJECT}/.well-known/jwks.json")
    with changed(lambda _call, reply: Reply(200, reply.headers, plain.body)):
        ran = run("check", *SETTINGS)
    assert ran.status == 1
    assert ran.marks()["normal"] == "ok"
    assert ran.text("restricted") == "no keys are published for these users"


def clock(run: Runs, **headers: str) -> Ran:
    with changed(with_headers(**headers)):
        return run("check", *SETTINGS)


@pytest.mark.parametrize(
    ("seconds", "mark", "text"),
    [
        (0, "ok", "within"),
        (-4, "ok", "within"),
        (4, "ok", "within"),
        (-3600, "FAIL", "ahead of Stack Auth's"),
        (3600, "FAIL", "behind Stack Auth's"),
    ],
)
def test_clock(run: Runs, stackauth: LocalStackAuth, seconds: float, mark: str, text: str) -> None:
    """`seconds` is by how much the server's clock is ahead of ours; its date is cut to whole seconds."""
    ran = clock(run, date=formatdate(time.time() + seconds, usegmt=True))
    assert ran.marks()["clock"] == mark
    assert text in ran.text("clock")
    assert ran.status == (0 if mark == "ok" else 1)
    if mark == "FAIL":
        assert "59 min 5" in ran.text("clock") or "1 h" in ran.text("clock")


def test_age_is_added_to_the_date_of_a_cached_answer(run: Runs, stackauth: LocalStackAuth) -> None:
    """A cached answer has an old date, and says by how much."""
    ran = clock(run, date=formatdate(time.time() - 600, usegmt=True), age="600")
    assert ran.status == 0
    assert "cached for 10 min" in ran.text("normal")
    assert ran.marks()["clock"] == "ok"


@pytest.mark.parametrize("date", [None, "", "yesterday", "Thu, 99 Foo 2026 00:00:00 GMT"])
def test_clock_is_not_compared_without_a_date(run: Runs, stackauth: LocalStackAuth, date: str | None) -> None:
    """That is no fault: the clocks are a hint."""
    ran = clock(run, **({} if date is None else {"date": date}), age="soon")
    assert ran.status == 0
    assert ran.marks()["clock"] == "--"


def test_wrong_settings(run: Runs, stackauth: Any) -> None:
    ran = run("check", "--project-id", "mine", "--api-url", API)
    assert (ran.status, ran.out) == (2, "")
    assert "project_id is 'mine'" in ran.err
    assert len(stackauth.requests) == 0


SECRET = "ssk_right"


def test_secret_key_that_stack_auth_accepts(
    run: Runs, stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    stackauth.add_project(PROJECT, secret_server_key=SECRET)
    monkeypatch.setenv("STACK_SECRET_SERVER_KEY", SECRET)
    ran = run("check", *SETTINGS)
    assert ran.status == 0
    assert ran.marks()["secret-key"] == "ok"


def test_secret_key_that_stack_auth_refuses(
    run: Runs, stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    stackauth.add_project(PROJECT, secret_server_key=SECRET)
    monkeypatch.setenv("STACK_SECRET_SERVER_KEY", "ssk_wrong")
    ran = run("check", *SETTINGS)
    assert ran.status == 1
    assert ran.marks()["secret-key"] == "FAIL"
    assert "refused by Stack Auth" in ran.text("secret-key")
    assert "ssk_" not in ran.out + ran.err


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{}", "code none"),
        (b"[]", "code none"),
        (b"<html>", "code none"),
        (b'{"code": 1}', "code none"),
        (b'{"code": "\\u001b"}', "code '\\x1b'"),
        (b'{"code": "NEW"}', "code NEW"),
    ],
)
def test_secret_key_with_an_unexpected_answer(
    run: Runs, stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch, body: bytes, text: str
) -> None:
    monkeypatch.setenv("STACK_SECRET_SERVER_KEY", SECRET)
    with changed(lambda call, reply: Reply(502, {}, body) if "users/me" in call.url else reply):
        ran = run("check", *SETTINGS)
    assert ran.status == 1
    assert ran.text("secret-key") == f"not checked: status 502, {text}"


def test_secret_key_while_stack_auth_is_down(
    run: Runs, stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACK_SECRET_SERVER_KEY", SECRET)
    with stackauth.down(only="users/me"):
        ran = run("check", *SETTINGS)
    assert ran.status == 1
    assert ran.text("secret-key") == "not checked: connection refused"


@pytest.mark.parametrize("user_type", ["normal", "restricted", "anonymous"])
def test_token_from_standard_input_is_verified(run: Runs, stackauth: LocalStackAuth, user_type: str) -> None:
    token = stackauth.token(project_id=PROJECT, issuer_url=API, user_type=user_type)
    ran = run("check", *SETTINGS, "--token", "-", stdin=token)
    assert ran.status == 0
    assert ran.marks()["outcome"] == "ok"
    assert token[:20] not in ran.out


def test_token_with_another_issuer_fails_the_check(run: Runs, stackauth: LocalStackAuth) -> None:
    token = stackauth.token(project_id=PROJECT, issuer_url="https://auth.example.com")
    ran = run("check", *SETTINGS, "--token", token)
    assert ran.status == 1
    assert ran.marks()["issuer"] == "FAIL"
    assert "issuer_url" in ran.text("issuer")
