"""API keys: what is refused without a call, the call, and what Stack Auth's answers mean."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.api_keys import ApiKey, form_of
from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.key_lookup import KeyLookup
from stackauth_middleware._core.policy import KeyType, Policy
from stackauth_middleware._core.upstream import Answer, Call
from stackauth_middleware.errors import AuthServerError, ErrorCode, RefusedError
from tests.data import load_recorded

from .helpers import API, BROKEN, PROJECT, WALL, Clock, FakeRunner, bounded, reply
from .test_api_keys import ID, OWNER, body, key

BOTH: frozenset[KeyType] = frozenset({"user", "team"})
PLAIN_400 = {"content_type": "text/plain; charset=utf-8"}


def policy(*api_keys: KeyType) -> Policy:
    return Policy("required", False, False, False, api_keys=frozenset(api_keys))


def valid(**changes: Any) -> Answer:
    return reply(body(**{"expires_at_millis": None, **changes}))


class Setup:
    """A lookup under test, a clock moved by hand, and the calls that it made."""

    def __init__(self, answer: Callable[[Call], Answer] | Answer, **settings: Any) -> None:
        config = StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_canary", **settings)
        self.clock, self.lookup, self.calls = Clock(), KeyLookup(config), list[Call]()
        self.answer = answer
        self._pump = FakeRunner(self.clock, self._answer)

    def _answer(self, call: Call) -> Answer:
        self.calls.append(call)
        return self.answer(call) if callable(self.answer) else self.answer

    def ask(self, value: str, *api_keys: KeyType) -> ApiKey:
        found: ApiKey = self._pump(self.lookup.key(value, policy(*(api_keys or BOTH)), self.clock.now))
        return found

    def code(self, value: str, *api_keys: KeyType) -> ErrorCode:
        with pytest.raises((RefusedError, AuthServerError)) as caught:
            self.ask(value, *api_keys)
        assert isinstance(caught.value, RefusedError | AuthServerError)
        assert len(value) < 20 or value not in repr(caught.value)
        return caught.value.code


# -- the call -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "owner"), [("user", {"user_id": OWNER}), ("team", {"team_id": OWNER})])
def test_key_is_checked_by_the_endpoint_of_its_type(kind: str, owner: dict[str, str]) -> None:
    setup = Setup(valid(type=kind, **owner))
    found = setup.ask(key(kind=kind))
    (call,) = setup.calls
    assert (found.id, found.type, found.user_id or found.team_id) == (ID, kind, OWNER)
    assert (call.method, call.url) == ("POST", f"{API}/api/v1/{kind}-api-keys/check")
    assert json.loads(call.body) == {"api_key": key(kind=kind)}
    assert call.headers.items() >= {
        ("x-stack-access-type", "server"),
        ("x-stack-secret-server-key", "ssk_canary"),
        ("content-type", "application/json"),
    }
    assert call.idempotent  # a check may be repeated if a pooled connection was dead
    assert key(kind=kind) not in repr(call)


@pytest.mark.parametrize(
    ("value", "api_keys", "code"),
    [
        ("hello", BOTH, ErrorCode.INVALID_API_KEY),
        (key()[:-1], BOTH, ErrorCode.INVALID_API_KEY),
        (key().replace("user", "team"), BOTH, ErrorCode.INVALID_API_KEY),
        ("é" * 102, BOTH, ErrorCode.INVALID_API_KEY),
        (key("pk", scanner="3"), BOTH, ErrorCode.INVALID_API_KEY),
        (key("pk", "team", scanner="2"), BOTH, ErrorCode.INVALID_API_KEY),
        (key(), ("team",), ErrorCode.FORBIDDEN),
        (key(kind="team"), ("user",), ErrorCode.FORBIDDEN),
    ],
)
def test_key_that_the_local_check_refuses_costs_no_call(value: str, api_keys: Any, code: ErrorCode) -> None:
    setup = Setup(BROKEN)
    assert setup.code(value, *api_keys) is code
    assert setup.calls == []


@bounded
@given(st.text(string.ascii_lowercase + string.digits + "_", max_size=110) | st.text(max_size=110))
def test_random_text_is_refused_without_a_call(value: str) -> None:
    setup = Setup(BROKEN)
    assert form_of(value) is None
    assert setup.code(value) is ErrorCode.INVALID_API_KEY
    assert setup.calls == []


# -- the answers --------------------------------------------------------------------------------------

RECORDED = [
    each
    for each in load_recorded("server-api")
    if each["request"]["path"].endswith("-api-keys/check") and each["request"]["body"].keys() == {"api_key"}
    if form_of(str(each["request"]["body"]["api_key"]))
    if not str(each["request"]["body"]["api_key"]).startswith("pk_")
]
WHEN = 1_795_807_300.0
"""About when they were recorded, before the recorded keys expired."""
MEANING = {
    "API_KEY_NOT_FOUND": ErrorCode.INVALID_API_KEY,
    "API_KEY_REVOKED": ErrorCode.INVALID_API_KEY,
    "API_KEY_EXPIRED": ErrorCode.EXPIRED_API_KEY,
    "WRONG_API_KEY_TYPE": ErrorCode.INVALID_API_KEY,
    "INVALID_SECRET_SERVER_KEY": ErrorCode.MISCONFIGURED,
    "SERVER_AUTHENTICATION_REQUIRED": ErrorCode.MISCONFIGURED,
    "CURRENT_PROJECT_NOT_FOUND": ErrorCode.MISCONFIGURED,
}


@pytest.mark.parametrize("each", RECORDED, ids=lambda each: each["name"])
def test_recorded_answer_means_what_stack_auth_decided(each: dict[str, Any]) -> None:
    value, answer = each["request"]["body"]["api_key"], each["response"]
    content = answer["body"] if isinstance(answer["body"], dict) else answer["body"].encode()
    headers = {name.replace("-", "_"): text for name, text in answer["headers"].items()}
    setup = Setup(reply(content, answer["status"], **headers))
    setup.clock.wall = WHEN
    if answer["status"] == 200:
        assert setup.ask(value).id == answer["body"]["id"]
    elif isinstance(answer["body"], str):
        assert setup.code(value) is ErrorCode.MISCONFIGURED  # API keys of this type are turned off
    else:
        assert setup.code(value) is MEANING[answer["body"]["code"]]
    assert len(setup.calls) == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply(b"off", 400, x_stack_request_id="1", **PLAIN_400), ErrorCode.MISCONFIGURED),
        (reply(b"off", 400, x_hexclave_request_id="1", **PLAIN_400), ErrorCode.MISCONFIGURED),
        (reply(b"Bad request", 400, **PLAIN_400), ErrorCode.SERVER_ERROR),
        (reply(b"<html>", 400, x_stack_request_id="1", content_type="text/html"), ErrorCode.SERVER_ERROR),
        (reply(b"busy", 429, x_stack_request_id="1", **PLAIN_400), ErrorCode.SERVER_ERROR),
        (reply({"code": "TOMORROW"}, 400), ErrorCode.SERVER_ERROR),
        (reply(b"<html>"), ErrorCode.SERVER_ERROR),
        (valid(id=OWNER), ErrorCode.SERVER_ERROR),
        (valid(is_public=True), ErrorCode.SERVER_ERROR),
        (BROKEN, ErrorCode.SERVER_ERROR),
    ],
)
def test_answer_that_does_not_judge_the_key_is_no_refusal(answer: Answer, code: ErrorCode) -> None:
    assert Setup(answer).code(key()) is code


def test_turned_off_api_keys_do_not_open_the_circuit_breaker() -> None:
    """Anybody can make up keys with a good checksum, and profiles share the breaker."""
    off = reply(b"off", 400, x_stack_request_id="1", **PLAIN_400)
    setup = Setup(lambda call: off if b"sk_a" in call.body else valid())
    for number in range(10):
        assert setup.code(key(secret=f"a{number}" + "0" * 43)) is ErrorCode.MISCONFIGURED
    assert setup.ask(key()).id == ID


# -- the cache ----------------------------------------------------------------------------------------


def test_key_is_cached_for_api_key_ttl_by_its_digest() -> None:
    setup = Setup(valid(), api_key_ttl=30)
    for _ in range(1000):
        setup.ask(key())
    assert len(setup.calls) == 1
    assert setup.code(key(), "team") is ErrorCode.FORBIDDEN  # on another path
    setup.clock.pass_by(30)
    setup.ask(key())
    assert len(setup.calls) == 2
    setup.ask(key(secret="1" * 45))
    assert len(setup.calls) == 3
    assert key() not in repr(vars(setup.lookup))


def test_key_is_not_accepted_beyond_its_expiry() -> None:
    setup = Setup(valid(expires_at_millis=int((WALL + 10) * 1000)), api_key_ttl=3600)
    assert setup.ask(key()).expires_at == WALL + 10
    setup.clock.pass_by(9.9)
    setup.ask(key())
    setup.clock.pass_by(0.1)
    assert setup.code(key()) is ErrorCode.EXPIRED_API_KEY
    assert len(setup.calls) == 1


def test_refused_key_is_cached_for_a_second() -> None:
    setup = Setup(reply({"code": "API_KEY_REVOKED"}, 401))
    for _ in range(1000):
        assert setup.code(key()) is ErrorCode.INVALID_API_KEY
    assert len(setup.calls) == 1
    setup.clock.pass_by(1)
    assert setup.code(key()) is ErrorCode.INVALID_API_KEY
    assert len(setup.calls) == 2
