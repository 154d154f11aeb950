"""Teams of users: the call, and what recorded answers mean."""

from __future__ import annotations

from typing import Any

import pytest

from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.server_api.teams import Team
from stackauth_middleware._core.team_lookup import TeamLookup
from stackauth_middleware._core.upstream import Answer, Call
from stackauth_middleware.errors import AuthServerError, ErrorCode

from .helpers import API, BROKEN, PROJECT, USER_ID, Clock, FakeRunner, reply
from .test_permissions import OTHER_TEAM, RECORDED, TEAM


class Setup:
    """A lookup under test, a clock moved by hand, and the URLs that it called."""

    def __init__(self, answer: Answer) -> None:
        config = StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_canary", permission_ttl=30)
        self.clock, self.lookup, self.urls, self.answer = Clock(), TeamLookup(config), list[str](), answer

    def ask(self) -> tuple[Team, ...]:
        def answered(call: Call) -> Answer:
            assert call.headers["x-stack-secret-server-key"] == "ssk_canary"
            self.urls.append(call.url)
            return self.answer

        found: tuple[Team, ...] = FakeRunner(self.clock, answered)(self.lookup.teams(USER_ID, self.clock.now))
        return found


def test_recorded_teams_are_read_and_cached_for_permission_ttl() -> None:
    setup = Setup(reply(RECORDED["teams of a user"]["body"]))
    found = setup.ask()
    assert [(each.id, each.display_name) for each in found] == [(TEAM, "Alpha"), (OTHER_TEAM, "Beta")]
    assert setup.ask() is found
    assert setup.urls == [f"{API}/api/v1/teams?user_id={USER_ID}"]
    setup.clock.pass_by(30)
    setup.answer = reply(RECORDED["teams of a user without any"]["body"])
    assert setup.ask() == ()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (BROKEN, ErrorCode.SERVER_ERROR),
        (reply({}), ErrorCode.SERVER_ERROR),
        (reply({"items": [{"id": TEAM}]}), ErrorCode.SERVER_ERROR),
        (reply({"items": [], "is_paginated": True}), ErrorCode.SERVER_ERROR),
        (reply({"code": "INVALID_SECRET_SERVER_KEY"}, 401), ErrorCode.MISCONFIGURED),
    ],
)
def test_answer_without_teams_is_a_failure(answer: Any, code: ErrorCode) -> None:
    with pytest.raises(AuthServerError) as caught:
        Setup(answer).ask()
    assert caught.value.code is code
