"""Sessions: what is sent, and what the recorded answers are read as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stackauth_middleware import AuthServerError
from stackauth_middleware._core.server_api import sessions
from stackauth_middleware._core.server_api.errors import NotFoundError
from stackauth_middleware._core.server_api.request import Request
from stackauth_middleware._core.server_api.sessions import Session
from tests.unit.core.helpers import BROKEN, reply

from .recorded import RECORDED, Server, known, recorded_request, reply_to

USER, SESSION = "9f4a214a-8050-4159-bda7-6e39f5a53d4d", "daf5b027-1a4a-4120-9ab9-23be987813f4"
LIST = "sessions: sessions of a user, server"


@pytest.mark.parametrize(
    "name", [name for name in RECORDED if name.startswith("sessions: sessions ") and "no user_id" not in name]
)
def test_sessions_are_listed_as_recorded(name: str) -> None:
    request, items = recorded_request(name), RECORDED[name]["response"]["body"]["items"]
    server = Server(reply_to(name))
    found = server.send(sessions.list_of(dict(request[2])["user_id"]))
    assert [(each.id, each.user_id, each.is_impersonation, each.raw) for each in found] == [
        (each["id"], each["user_id"], False, {}) for each in items
    ]
    assert [each.created_at for each in found] == [each["created_at"] / 1000 for each in items]
    assert [each.last_used_at for each in found] == [each["last_used_at"] / 1000 for each in items]
    assert server.sent == [request]


@pytest.mark.parametrize(("name", "fails"), [("session: delete by id, server", False), ("session: delete again", True)])
def test_session_is_revoked_as_recorded(name: str, fails: bool) -> None:
    server = Server(reply_to(f"sessions: {name}"))
    if fails:
        with pytest.raises(NotFoundError) as raised:
            server.send(sessions.revoke(USER, SESSION))
        assert (raised.value.code, raised.value.message) == ("", "Session not found.")
    else:
        assert server.send(sessions.revoke(USER, SESSION)) is None
    assert server.sent == [recorded_request(f"sessions: {name}")]


def test_all_sessions_are_revoked_one_after_the_other() -> None:
    gone = reply_to("sessions: session: delete again")
    server = Server(reply_to(LIST), reply({"success": True}), gone, reply({"success": True}))
    assert server.send_all(sessions.revoke_all(USER)) == 2
    ids = [each["id"] for each in RECORDED[LIST]["response"]["body"]["items"]]
    deleted = [("DELETE", f"/api/v1/auth/sessions/{each}", [("user_id", USER)], None) for each in ids]
    assert server.sent == [recorded_request(LIST), *deleted]


@pytest.mark.parametrize("answer", [BROKEN, known("INSUFFICIENT_ACCESS_TYPE", 401)], ids=["outage", "refused"])
def test_other_failure_ends_the_revocation(answer: Any) -> None:
    server = Server(reply_to(LIST), reply({"success": True}), answer)
    with pytest.raises(Exception, match=r"(?i)broke off|INSUFFICIENT"):
        server.send_all(sessions.revoke_all(USER))
    assert len(server.calls) == 3


@pytest.mark.parametrize(
    "item", [{}, {"id": SESSION}, {"id": SESSION, "user_id": SESSION}, {"user_id": USER}], ids=range(4)
)
def test_session_of_another_user_or_none_is_an_outage(item: dict[str, Any]) -> None:
    with pytest.raises(AuthServerError):
        Server(reply({"items": [item]})).send(sessions.list_of(USER))


@pytest.mark.parametrize(
    "make",
    [lambda: sessions.list_of("me"), lambda: sessions.revoke("me", SESSION), lambda: sessions.revoke(USER, "current")],
    ids=["list", "user", "session"],
)
def test_wrong_argument_is_refused(make: Callable[[], Request[Any]]) -> None:
    with pytest.raises(ValueError, match="UUID"):
        make()


def test_unknown_members_are_kept_and_times_may_be_absent() -> None:
    server = Server(reply({"items": [{"id": SESSION, "user_id": USER, "is_impersonation": True, "agent_name": "a"}]}))
    (session,) = server.send(sessions.list_of(USER))
    assert session.raw == {"agent_name": "a"}
    assert (session.created_at, session.last_used_at, session.is_impersonation) == (None, None, True)
    assert Session(SESSION, USER, None, None, is_impersonation=False).raw == {}
