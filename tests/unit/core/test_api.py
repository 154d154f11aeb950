"""Calls with server access, and the circuit breaker that all calls of a config share."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from stackauth_middleware import ErrorCode, StackAuthConfig
from stackauth_middleware._core.api import Api, server_call
from stackauth_middleware._core.breaker import OPENS_AFTER
from stackauth_middleware._core.upstream import Answer, Call, Failure, Resume
from stackauth_middleware._version import __version__

from .helpers import API, DEAD_POOLED, PROJECT, UNSENT, Clock, FakeRunner, reply

SECRET = "ssk_canary"
CONFIG = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET)
OUTAGE = Failure(ErrorCode.SERVER_ERROR, "status 503")


def call(method: str = "GET") -> Call:
    return server_call(CONFIG, method, "/teams")


# -- calls --------------------------------------------------------------------------------------------


def test_server_call_has_exactly_these_headers() -> None:
    made = server_call(CONFIG, "GET", "/users/1", {"query": "a&b=c é"}, max_bytes=7)
    assert (made.method, made.body, made.max_bytes) == ("GET", b"", 7)
    assert made.url == f"{API}/api/v1/users/1?query=a%26b%3Dc+%C3%A9"
    assert made.headers == {
        "accept": "application/json",
        "x-stack-project-id": PROJECT,
        "x-stack-client-version": f"python @stackauth/middleware@{__version__}",
        "x-stack-access-type": "server",
        "x-stack-secret-server-key": SECRET,
    }
    assert SECRET not in repr(made)


def test_body_is_sent_as_json() -> None:
    made = server_call(CONFIG, "POST", "/teams", body={"display_name": "Zürich"})
    assert json.loads(made.body) == {"display_name": "Zürich"}
    assert made.headers["content-type"] == "application/json"
    assert server_call(CONFIG, "POST", "/teams", body={}).body == b"{}"


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_body_that_is_not_json_is_an_error(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        server_call(CONFIG, "POST", "/teams", body={"display_name": value})


# -- the circuit breaker ------------------------------------------------------------------------------


class Driven:
    """An `Api`, and the answers that its calls get."""

    def __init__(self, *answers: Answer) -> None:
        self.api = Api(CONFIG)
        self.clock = Clock()
        self.calls: list[Call] = []
        self.answers = list(answers)

    def send(self, method: str = "GET") -> Resume | Failure:
        def answer(made: Call) -> Answer:
            self.calls.append(made)
            return self.answers.pop(0)

        result: Resume | Failure = FakeRunner(self.clock, answer)(self.api.send(lambda: call(method), self.clock.now))
        return result

    def report(self, failure: Failure | None, resume: Resume | Failure, key: object = "key") -> None:
        assert isinstance(resume, Resume)
        self.api.report(failure, key, self.clock.now, resume, "no team")


@pytest.mark.parametrize(("method", "sent"), [("GET", 2), ("POST", 1), ("PATCH", 1), ("PUT", 1), ("DELETE", 1)])
def test_only_a_get_is_sent_again_after_a_failure_on_a_pooled_connection(method: str, sent: int) -> None:
    driven = Driven(DEAD_POOLED, reply())
    driven.send(method)
    assert [made.fresh for made in driven.calls] == [False, True][:sent]


def test_breaker_opens_after_consecutive_failures_and_closes_after_a_success(caplog: pytest.LogCaptureFixture) -> None:
    driven = Driven(*[UNSENT] * OPENS_AFTER, reply())
    for _ in range(OPENS_AFTER):
        driven.report(OUTAGE, driven.send())
    assert driven.send() == Failure(ErrorCode.SERVER_ERROR, "the circuit breaker is open")
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert "no team: status 503" in caplog.text
    driven.clock.pass_by(10)
    driven.report(None, driven.send())
    assert driven.api.breaker.record.failures == 0
    assert len(driven.calls) == OPENS_AFTER + 1


def test_rejected_key_opens_the_breaker_at_once_and_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    driven = Driven(reply(status=401))
    driven.report(Failure(ErrorCode.MISCONFIGURED, "INVALID_SECRET_SERVER_KEY"), driven.send())
    assert driven.send() == Failure(ErrorCode.MISCONFIGURED, "the circuit breaker is open")
    assert [each.levelno for each in caplog.records] == [logging.ERROR]


def test_failure_on_a_pooled_connection_and_a_large_reply_are_no_evidence() -> None:
    driven = Driven(DEAD_POOLED, reply())
    driven.report(OUTAGE, driven.send("POST"))
    driven.report(Failure(ErrorCode.SERVER_ERROR, "too large", is_outage=False), driven.send())
    assert driven.api.breaker.record.failures == 0


def test_probe_whose_caller_has_gone_leaves_room_for_another() -> None:
    driven = Driven(*[UNSENT] * OPENS_AFTER, reply())
    for _ in range(OPENS_AFTER):
        driven.report(OUTAGE, driven.send())
    driven.clock.pass_by(10)
    probe = driven.api.send(call, driven.clock.now)
    next(probe)
    assert isinstance(driven.send(), Failure)
    probe.close()
    assert isinstance(driven.send(), Resume)
