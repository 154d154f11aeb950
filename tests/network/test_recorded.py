"""Every recorded response of users/me leads to its error code."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from stackauth_middleware import ErrorCode, UserType
from tests.data import load_recorded
from tests.unit.testing.helpers import claims_of

from .recorded import CASES, Case, Recorded, answered_locally
from .sites import Answer, Kind, Site, both_middlewares
from .upstream import USERS_ME, Upstream, raw


@cache
def recordings() -> dict[str, Recorded]:
    """Return the recorded responses to a GET of users/me, by name."""
    every = load_recorded("recordings")
    return {
        each["name"]: Recorded(
            _user_id(each),
            each["response"]["status"],
            list(each["response"]["headers"].items()),
            each["response"]["body"].encode(),
        )
        for each in every
        if each["request"]["method"] == "GET" and each["request"]["url"].partition("?")[0].endswith(USERS_ME)
    }


def _user_id(recording: dict[str, Any]) -> str:
    """Return the user id of the recorded token; a default one if it has none."""
    token = recording["request"]["headers"].get("x-stack-access-token", "")
    if token.count(".") == 2 and not token.startswith("aaa"):
        user_id: str = claims_of(token.removeprefix("Bearer "))["sub"]
        return user_id
    return "22222222-2222-4222-8222-222222222222"


def test_every_recording_has_an_expectation() -> None:
    assert recordings().keys() == CASES.keys()


def answer_of(name: str) -> Recorded:
    """Return the recorded response if the recordings are available, else the local one to the same request."""
    try:
        return recordings()[name]
    except pytest.skip.Exception:
        return answered_locally(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_local_response_equals_the_recorded_one(name: str) -> None:
    """So that the tests below mean the same without the recordings."""
    local, real = answered_locally(CASES[name]), recordings()[name]
    told, known = dict(local.headers), dict(real.headers)
    assert local.status == real.status
    for header in ("x-stack-known-error", "x-stack-actual-status", "retry-after"):
        assert told.get(header) == known.get(header)


@both_middlewares
@pytest.mark.parametrize("name", CASES)
def test_every_recorded_response_leads_to_its_code(name: str, kind: Kind, up: Upstream) -> None:
    """Send two requests: one to a config that accepts all users, one to the default config."""
    case, recorded = CASES[name], answer_of(name)
    up.me = lambda exchange: raw(exchange, recorded.status, recorded.headers, recorded.body)
    up.local.users.create(recorded.user_id)
    token = up.local.token(recorded.user_id, user_type=case.user_type)
    with Site(kind, up.config(allow_anonymous=True)) as site:
        answer = site.ask(token)
        check(answer, case, recorded, case.means)
        if case.means is ErrorCode.RESTRICTED_NOT_ALLOWED:
            assert answer.json["restricted_reason"] == case.reason
    assert len(up.calls) == 1
    refused = refused_by_default(case.user_type)
    with Site(kind, up.config()) as site:
        restricted_since = ErrorCode.RESTRICTED_NOT_ALLOWED if case.state == "restricted since" else None
        answer = site.ask(token)
        check(answer, case, recorded, refused or case.means or restricted_since)
        if restricted_since:
            assert answer.json["restricted_reason"] == case.reason
    assert len(up.calls) == (1 if refused else 2)


def refused_by_default(user_type: UserType) -> ErrorCode | None:
    """Return the error code of a token that is refused by the local check."""
    return {
        UserType.NORMAL: None,
        UserType.RESTRICTED: ErrorCode.RESTRICTED_NOT_ALLOWED,
        UserType.ANONYMOUS: ErrorCode.ANONYMOUS_NOT_ALLOWED,
    }[user_type]


def check(answer: Answer, case: Case, recorded: Recorded, code: ErrorCode | None) -> None:
    if code is None:
        body, user = json.loads(recorded.body), answer.user
        assert (user["user_id"], user["is_anonymous"]) == (recorded.user_id, case.reason == "anonymous")
        assert (user["is_restricted"], user["restricted_reason"]) == (case.reason is not None, case.reason)
        assert user["email"] == body["primary_email"]
        assert user["profile"]["signed_up_at_millis"] == body["signed_up_at_millis"]
        assert user["profile"]["raw"] == {}
        assert (user["profile"]["risk_scores"] is None) == (case.access == "client")
        return
    assert (answer.status, answer.code) == (code.status, code.value)
    assert answer.json["error"] == code.message
    seconds = "5" if case.outage == "throttled for 5" else "1"
    assert answer.headers.get("retry-after") == (seconds if code is ErrorCode.SERVER_ERROR else None)
