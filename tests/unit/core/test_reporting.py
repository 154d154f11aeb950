"""Refusals are logged and reported, whatever the exception or the request holds."""

from __future__ import annotations

import itertools
import json
import logging
from typing import Any

import pytest

from stackauth_middleware._core import reporting
from stackauth_middleware._core.api_keys import api_key_from_json
from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.outcome import KeyAuthenticated, Outcome, Refused, Unauthenticated
from stackauth_middleware._core.records import RequestRecord, Response
from stackauth_middleware._core.reporting import Reporter
from stackauth_middleware._core.tokens import ForeignToken
from stackauth_middleware.errors import AuthServerError, ErrorCode, Event, RefusedError

from .helpers import NOW, PROJECT, USER_ID
from .test_api_keys import FORM, ID, body
from .test_outcome import CONFIG as KEY_CONFIG
from .test_outcome import POLICY, authenticated

REQUEST = RequestRecord("get", "/a", "", {})
KEY_AUTHENTICATED = KeyAuthenticated(
    api_key_from_json(body(), FORM), None, KEY_CONFIG, POLICY, REQUEST, in_event_loop=True
)
MISSING = RefusedError(ErrorCode.MISSING_TOKEN, "no token")


def reporter(*observers: Any) -> Reporter:
    return Reporter(StackAuthConfig(project_id=PROJECT, observers=observers))


def code_of(refused: Refused) -> str:
    code: str = json.loads(refused.response.body)["code"]
    return code


def test_refusal_is_logged_with_its_detail_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    events: list[Event] = []
    with caplog.at_level(logging.INFO, "stackauth_middleware"):
        refused = reporter(events.append).refuse(REQUEST, MISSING, NOW)
    assert (refused.response.status, code_of(refused)) == (401, "missing_token")
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (logging.INFO, "refused 'get' '/a': missing_token (no token)")
    ]
    assert events == [Event("GET", "/a", ErrorCode.MISSING_TOKEN, "no token")]


def test_refusal_is_not_formatted_below_level_info(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "stackauth_middleware"):
        reporter().refuse(REQUEST, MISSING, NOW)
    assert caplog.records == []


def test_first_refusal_of_a_process_tells_how_to_see_reasons(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, by whichever config, and not where reasons are logged anyway."""
    monkeypatch.setattr(reporting, "_unexplained", itertools.count())
    with caplog.at_level(logging.INFO, "stackauth_middleware"):
        reporter().refuse(REQUEST, MISSING, NOW)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "stackauth_middleware"):
        for _ in range(2):
            reporter().refuse(REQUEST, MISSING, NOW)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    shown = ("missing_token", "logger stackauth_middleware to INFO", "`stackauth-middleware verify`")
    assert all(part in record.getMessage() for part in shown)


def test_foreign_token_is_logged_with_what_is_foreign(caplog: pytest.LogCaptureFixture) -> None:
    foreign = ForeignToken(ErrorCode.INVALID_TOKEN, "a token of another issuer")
    foreign.advice = "iss is 'a', expected 'b'"
    refused = reporter().refuse(REQUEST, foreign, NOW)
    assert "or issuer: iss is 'a', expected 'b'" in caplog.records[0].getMessage()
    assert (refused.reason, refused.response.status) == ("a token of another issuer: iss is 'a', expected 'b'", 401)
    assert str(foreign) == f"invalid_token: {refused.reason}"


def test_unexpected_exception_fails_closed_as_503_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    refused = reporter().refuse(REQUEST, ZeroDivisionError(), NOW)
    assert (refused.response.status, code_of(refused)) == (503, "auth_server_error")
    assert dict(refused.response.headers)["Retry-After"] == "1"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_refusal_answers_head_without_body_and_allowed_origin_with_cors() -> None:
    made = Reporter(StackAuthConfig(project_id=PROJECT, cors_origins=["https://app.example"]))
    headers = {"origin": "https://app.example"}
    refused = made.refuse(RequestRecord("HEAD", "/", "", headers), AuthServerError(ErrorCode.SERVER_ERROR, 7, "x"), NOW)
    assert (refused.response.status, refused.response.body) == (503, b"")
    assert dict(refused.response.headers)["Retry-After"] == "7"
    assert dict(refused.response.headers)["Access-Control-Allow-Origin"] == "https://app.example"


CONFIG = StackAuthConfig(project_id=PROJECT)


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (authenticated(), Event("GET", "/a", user_id=USER_ID)),
        (KEY_AUTHENTICATED, Event("GET", "/a", api_key_id=ID)),
        (Unauthenticated(CONFIG, REQUEST), Event("GET", "/a")),
        (Unauthenticated(CONFIG, REQUEST, ErrorCode.SERVER_ERROR, 7), Event("GET", "/a", ErrorCode.SERVER_ERROR)),
        (Refused(CONFIG, Response.of(204, [], b"")), Event("GET", "/a", detail="a preflight was answered")),
    ],
    ids=["authenticated", "API key", "unauthenticated", "not verifiable", "preflight"],
)
def test_outcome_that_is_no_refusal_is_reported_and_not_logged(
    outcome: Outcome, event: Event, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    with caplog.at_level(logging.DEBUG):
        reporter(events.append).report(REQUEST, outcome)
    assert events == [event]
    assert caplog.records == []


def test_observer_that_raises_is_logged_and_the_next_is_notified(caplog: pytest.LogCaptureFixture) -> None:
    events: list[Event] = []

    def observer(_: Event) -> None:
        raise ZeroDivisionError

    made = reporter(observer, events.append)
    made.report(REQUEST, Unauthenticated(CONFIG, REQUEST))
    assert made.refuse(REQUEST, MISSING, NOW).response.status == 401
    assert [event.code for event in events] == [None, ErrorCode.MISSING_TOKEN]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert all(record.exc_info for record in errors)


def test_without_observers_nothing_is_reported() -> None:
    made = reporter()
    made.report(REQUEST, authenticated())
    assert made.refuse(REQUEST, MISSING, NOW).response.status == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/a\r\n2026-01-01 admitted everybody"),
        ("GET", "/\x1b[2J\u2028\u202e"),
        ("GET\r\n2026-01-01 admitted everybody", "/a"),
        ("\x1b[2J", "/a"),
    ],
    ids=["line end in path", "terminal control in path", "line end in method", "terminal control in method"],
)
def test_method_and_path_are_logged_escaped(method: str, path: str, caplog: pytest.LogCaptureFixture) -> None:
    """Servers check a method, but an ASGI scope can come from anything."""
    with caplog.at_level(logging.INFO, "stackauth_middleware"):
        reporter().refuse(RequestRecord(method, path, "", {}), MISSING, NOW)
    (record,) = caplog.records
    assert record.getMessage().startswith("refused ")
    assert record.getMessage().isprintable()
