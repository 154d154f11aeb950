"""What the answers of the server API mean, and that calls share the circuit breaker of their config."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from stackauth_middleware import AuthServerError, ConfigError, ErrorCode, StackAuthConfig
from stackauth_middleware._core.api import MISCONFIGURED, Api
from stackauth_middleware._core.breaker import OPENS_AFTER
from stackauth_middleware._core.profiles import ProfileLookup
from stackauth_middleware._core.server_api import users
from stackauth_middleware._core.server_api.errors import ApiError, ConflictError, NotFoundError, PermissionDeniedError
from stackauth_middleware._core.server_api.paths import free_request
from stackauth_middleware._core.server_api.perform import MAX_BYTES, perform, server_config
from stackauth_middleware._core.server_api.request import Request, UnreadableError
from stackauth_middleware._core.upstream import CANCEL_GRACE, Share
from stackauth_middleware._core.users import user_from_claims
from tests.unit.core.helpers import (
    DEAD_POOLED,
    NO_REPLIES,
    NORMAL,
    NOW,
    PROJECT,
    TOO_LARGE,
    UNSENT,
    USER_ID,
    as_id,
    claims,
    reply,
)

from .recorded import JSON, KEY, RECORDED, TEXT, Server, known, reply_to

HTML = {"content_type": "text/html", "x_stack_request_id": "1"}
ROUTES = {each["request"]["path"]: each for each in RECORDED.values()}
CLASSES = {
    "USER_NOT_FOUND": NotFoundError,
    "TEAM_NOT_FOUND": NotFoundError,
    "TEAM_MEMBERSHIP_NOT_FOUND": NotFoundError,
    "TEAM_PERMISSION_NOT_FOUND": NotFoundError,
    "PERMISSION_NOT_FOUND": NotFoundError,
    "WRONG_PERMISSION_SCOPE": NotFoundError,
    "USER_ID_DOES_NOT_EXIST": NotFoundError,
    "API_KEY_NOT_FOUND": NotFoundError,
    "TEAM_MEMBERSHIP_ALREADY_EXISTS": ConflictError,
    "API_KEY_EXPIRED": PermissionDeniedError,
    "API_KEY_REVOKED": PermissionDeniedError,
    "INSUFFICIENT_ACCESS_TYPE": PermissionDeniedError,
    "WRONG_API_KEY_TYPE": ApiError,
    "CANNOT_GET_OWN_USER_WITHOUT_USER": ApiError,
    "SCHEMA_ERROR": ApiError,
}
"""The class of the exception for every code that was recorded and does not reject our key."""
GET = free_request("GET", "/teams", None, None)
POST = free_request("POST", "/teams", {}, None)


def raised_by(server: Server, request: Request[Any] = GET) -> Exception:
    with pytest.raises((ApiError, AuthServerError)) as raised:
        server.send(request)
    assert KEY not in repr(raised.value) + str(raised.value)
    return raised.value


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_answer_is_its_json_or_the_error_of_its_code(name: str) -> None:
    recorded = RECORDED[name]["response"]
    body, status = recorded["body"], recorded["status"]
    server = Server(reply_to(name))
    if status < 300:
        assert server.send(GET) == body
        return
    error = raised_by(server)
    code = body.get("code", "") if isinstance(body, dict) else ""
    if code in MISCONFIGURED:
        assert isinstance(error, AuthServerError)
        assert error.code is ErrorCode.MISCONFIGURED
        return
    assert isinstance(error, ApiError)
    by_status = NotFoundError if status == 404 else ApiError
    assert type(error) is (CLASSES[code] if code else by_status)
    assert (error.code, error.status, error.detail) == (code, status, "GET /teams")
    assert error.message == (body["error"] if code else body)


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (known("NEW_CODE", 404), NotFoundError, 404),
        (known("NEW_CODE", 409), ConflictError, 409),
        (known("NEW_CODE", 403), PermissionDeniedError, 403),
        (known("NEW_CODE", 418), ApiError, 418),
        (known("TEAM_PERMISSION_REQUIRED", 401), PermissionDeniedError, 401),
        (known("USER_EMAIL_ALREADY_EXISTS", 200, x_stack_actual_status="409"), ConflictError, 409),
        (reply(b"Client can only list teams", 403, **TEXT), PermissionDeniedError, 403),
        (reply(b"Session not found.", 404, content_type="text/plain", x_hexclave_request_id="1"), NotFoundError, 404),
        (reply({"error": "invalid_request"}, 400, **JSON), ApiError, 400),
        (reply({"code": "not a code", "error": 1}, 400, **JSON), ApiError, 400),
    ],
    ids=as_id,
)
def test_error_is_decided_by_the_code_and_else_by_the_status(answer: Any, kind: type[ApiError], status: int) -> None:
    error = raised_by(Server(answer))
    assert type(error) is kind
    assert isinstance(error, ApiError)
    assert error.status == status


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        *((each, each.reason) for each in NO_REPLIES),
        (reply(b"<html>", 200), "the answer is not JSON (check api_url)"),
        (reply(b"[" * 100_000, 200), "the answer is not JSON (check api_url)"),
        (reply(b"\xff", 200), "the answer is not JSON (check api_url)"),
        (reply(b"<html>404", 404, **HTML), "a status 404 not from Stack Auth (check api_url)"),
        (
            reply(b"404 page not found", 404, content_type="text/plain"),
            "a status 404 not from Stack Auth (check api_url)",
        ),
        (reply({"message": "no route"}, 404), "a status 404 not from Stack Auth (check api_url)"),
        (reply(b"", 500), "status 500"),
        (reply(b"", 308), "status 308"),
        (reply(b"slow down", 429, **TEXT), "status 429"),
        (known("NEW_CODE", 503), "status 503"),
    ],
    ids=as_id,
)
def test_unusable_answer_is_an_outage(answer: Any, detail: str) -> None:
    error = raised_by(Server(answer))
    assert isinstance(error, AuthServerError)
    assert (error.code, error.detail) == (ErrorCode.SERVER_ERROR, detail)
    assert error.retry_after == 1


def test_change_without_a_reply_is_said_to_be_possible() -> None:
    error = raised_by(Server(UNSENT), POST)
    assert str(error).endswith("; it may have been carried out")


def test_answer_of_another_form_is_an_outage_that_quotes_nothing() -> None:
    for name, detail in (("canary", "the answer is not of the form that Stack Auth sends"), ("fixed", "fixed")):

        def read(_body: Any, name: str = name) -> None:
            raise UnreadableError(name) if name == "fixed" else ValueError(name)

        error = raised_by(Server(reply({})), Request("GET", "/teams", read))
        assert isinstance(error, AuthServerError)
        assert error.detail == detail


def test_message_is_masked_bounded_and_no_part_of_the_text_of_the_error() -> None:
    error = raised_by(Server(known("SCHEMA_ERROR", 400, "body has ssk_canary of jane@example.com" + "x" * 5000)))
    assert isinstance(error, ApiError)
    assert error.message.startswith("body has ssk_*** of jane@example.com")
    assert len(error.message) <= 1000
    assert "jane" not in str(error) + repr(error)
    assert str(error) == "SCHEMA_ERROR (status 400): GET /teams"


# -- the circuit breaker ------------------------------------------------------------------------------


def test_outages_open_the_breaker_of_the_config_and_errors_do_not() -> None:
    server = Server(UNSENT)
    for _ in range(OPENS_AFTER):
        raised_by(server)
    error = raised_by(server)
    assert len(server.calls) == OPENS_AFTER
    assert isinstance(error, AuthServerError)
    assert (error.detail, error.retry_after) == ("the circuit breaker is open", 10)
    refused = Server(known("USER_NOT_FOUND", 404))
    for _ in range(2 * OPENS_AFTER):
        raised_by(refused)
    assert len(refused.calls) == 2 * OPENS_AFTER


def test_route_that_fails_alone_does_not_open_the_breaker(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(reply(b"", 500))
    for number in range(2 * OPENS_AFTER):
        raised_by(server, free_request("GET", f"/emails/{number}", None, None))
    assert server.config.get_or_create(Api).breaker.record.failures == 1
    assert "GET /emails/0 failed: status 500" in caplog.text


def test_retry_after_pauses_all_calls() -> None:
    server = Server(reply(b"", 429, retry_after="7"))
    assert [raised_by(server).retry_after for _ in range(2)] == [7, 7]
    assert len(server.calls) == 1


def test_rejected_key_pauses_all_calls_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(reply_to("users: user by id, wrong key"))
    errors = [raised_by(server) for _ in range(2)]
    assert [(type(each), each.code) for each in errors] == [(AuthServerError, ErrorCode.MISCONFIGURED)] * 2
    assert len(server.calls) == 1
    assert [each.levelno for each in caplog.records] == [logging.ERROR]
    assert KEY not in caplog.text


def test_outage_of_the_server_api_pauses_the_profiles_of_middlewares() -> None:
    server = Server(UNSENT)
    profiles = ProfileLookup(server.config)
    script = profiles.profile(user_from_claims(claims(), NORMAL, b"{}"), "to.ke.n", b"digest", server.clock.now)
    for _ in range(OPENS_AFTER):
        raised_by(server, free_request("POST", "/user-api-keys/check", {"api_key": "x"}, None))
    with pytest.raises(AuthServerError, match="circuit breaker is open"):
        server.runner(script)
    assert len(server.calls) == OPENS_AFTER


def test_large_answer_and_dead_connection_do_not_count() -> None:
    server = Server(TOO_LARGE, DEAD_POOLED)
    raised_by(server)
    raised_by(server, POST)
    assert server.config.get_or_create(Api).breaker.record.failures == 0
    assert server.calls[0].max_bytes == MAX_BYTES


def test_only_a_get_is_sent_again() -> None:
    server = Server(DEAD_POOLED, reply({"items": []}))
    assert server.send(GET) == {"items": []}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        server = Server(DEAD_POOLED, reply({}))
        raised_by(server, free_request(method, "/teams", None, None))
        assert len(server.calls) == 1


def test_call_is_not_shared_and_outlives_its_caller_for_a_while() -> None:
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=KEY)
    first, second = (next(perform(config, users.get(USER_ID), NOW)) for _ in range(2))
    assert isinstance(first, Share)
    assert isinstance(second, Share)
    assert first.key != second.key
    assert first.cancel_grace == CANCEL_GRACE


# -- the config ---------------------------------------------------------------------------------------


def test_client_needs_the_secret_server_key() -> None:
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=KEY)
    assert server_config(config, {}) is config
    assert server_config(None, {"project_id": PROJECT, "secret_server_key": KEY}).secret_server_key == KEY
    with pytest.raises(ConfigError, match="secret_server_key is not set"):
        server_config(None, {"project_id": PROJECT, "publishable_client_key": "pck_x"})
