"""Tests that both clients have to pass: `test_sync.py` and `test_async.py` run them.

What the answers mean is tested in `unit/core/server_api`; here is which call a method sends, and what the runners add.
"""

from __future__ import annotations

import inspect
import pickle
import traceback
from typing import Any, ClassVar

import pytest

from stackauth_middleware import ConfigError, StackAuthConfig, UserProfile
from stackauth_middleware._core.upstream import Answer, Call, NoReply, NoReplyKind
from stackauth_middleware._io import network
from stackauth_middleware.client import UNSET, AsyncStackAuthClient, ConflictError, NotFoundError, StackAuthClient
from tests.unit.core.helpers import PROJECT, USER_ID, as_id, reply
from tests.unit.core.server_api.recorded import KEY, known, sent_of
from tests.unit.core.test_api_keys import body as key_body
from tests.unit.core.test_api_keys import key as make_key

TEAM_ID, SESSION_ID = "1af0611d-13cf-4386-949c-541de130e3f0", "daf5b027-1a4a-4120-9ab9-23be987813f4"
USER, TEAM = {"id": USER_ID}, {"id": TEAM_ID, "display_name": "Sales"}
PERMISSION = {"id": "read", "user_id": USER_ID, "team_id": TEAM_ID}
SESSION = {"id": SESSION_ID, "user_id": USER_ID}
MEMBERSHIP = f"/team-memberships/{TEAM_ID}/{USER_ID}"
DIRECT = [("recursive", "false"), ("user_id", USER_ID)]
RECURSIVE = [("recursive", "true"), ("user_id", USER_ID)]
IN_TEAM = [("recursive", "true"), ("team_id", TEAM_ID), ("user_id", USER_ID)]


def items(*each: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(each)}


Case = tuple[str, tuple[Any, ...], dict[str, Any], Any, tuple[str, str, list[tuple[str, str]], Any], Any]
CASES: list[Case] = [
    # method, arguments, keywords, answer, what is sent, id of the result (or of its only item)
    ("get_user", (USER_ID,), {}, USER, ("GET", f"/users/{USER_ID}", [], None), USER_ID),
    (
        "find_user_by_email",
        ("jane@example.com",),
        {},
        items({**USER, "primary_email": "Jane@example.com"}),
        ("GET", "/users", [("include_anonymous", "true"), ("limit", "100"), ("query", "jane@example.com")], None),
        USER_ID,
    ),
    (
        "list_users",
        (),
        {"team_id": TEAM_ID, "page_size": 5},
        items(USER),
        ("GET", "/users", [("limit", "5"), ("team_id", TEAM_ID)], None),
        USER_ID,
    ),
    ("create_user", (), {"display_name": "J"}, USER, ("POST", "/users", [], {"display_name": "J"}), USER_ID),
    (
        "update_user",
        (USER_ID,),
        {"display_name": None, "password": UNSET},
        USER,
        ("PATCH", f"/users/{USER_ID}", [], {"display_name": None}),
        USER_ID,
    ),
    ("delete_user", (USER_ID,), {}, {"success": True}, ("DELETE", f"/users/{USER_ID}", [], None), None),
    ("list_teams", (USER_ID,), {}, items(TEAM), ("GET", "/teams", [("user_id", USER_ID)], None), TEAM_ID),
    ("list_teams", (), {}, items(TEAM), ("GET", "/teams", [], None), TEAM_ID),
    ("get_team", (TEAM_ID,), {}, TEAM, ("GET", f"/teams/{TEAM_ID}", [], None), TEAM_ID),
    (
        "create_team",
        ("Sales",),
        {"creator_user_id": USER_ID, "client_metadata": 1},
        TEAM,
        ("POST", "/teams", [], {"client_metadata": 1, "display_name": "Sales", "creator_user_id": USER_ID}),
        TEAM_ID,
    ),
    (
        "update_team",
        (TEAM_ID,),
        {"display_name": "Sales"},
        TEAM,
        ("PATCH", f"/teams/{TEAM_ID}", [], {"display_name": "Sales"}),
        TEAM_ID,
    ),
    ("delete_team", (TEAM_ID,), {}, {}, ("DELETE", f"/teams/{TEAM_ID}", [], None), None),
    ("add_team_member", (TEAM_ID, USER_ID), {}, {}, ("POST", MEMBERSHIP, [], {}), None),
    ("remove_team_member", (TEAM_ID, USER_ID), {}, {}, ("DELETE", MEMBERSHIP, [], None), None),
    (
        "list_permissions",
        (USER_ID,),
        {"team_id": TEAM_ID},
        items(PERMISSION),
        ("GET", "/team-permissions", IN_TEAM, None),
        "read",
    ),
    (
        "list_permissions",
        (USER_ID,),
        {"direct": True},
        items(PERMISSION),
        ("GET", "/project-permissions", DIRECT, None),
        "read",
    ),
    (
        "list_team_permissions",
        (USER_ID,),
        {},
        items(PERMISSION),
        ("GET", "/team-permissions", RECURSIVE, None),
        "read",
    ),
    (
        "grant_permission",
        (USER_ID, "read"),
        {"team_id": TEAM_ID},
        PERMISSION,
        ("POST", f"/team-permissions/{TEAM_ID}/{USER_ID}/read", [], {}),
        "read",
    ),
    (
        "revoke_permission",
        (USER_ID, "read"),
        {},
        {},
        ("DELETE", f"/project-permissions/{USER_ID}/read", [], None),
        None,
    ),
    (
        "get_active_sessions",
        (USER_ID,),
        {},
        items(SESSION),
        ("GET", "/auth/sessions", [("user_id", USER_ID)], None),
        SESSION_ID,
    ),
    (
        "revoke_session",
        (USER_ID, SESSION_ID),
        {},
        {},
        ("DELETE", f"/auth/sessions/{SESSION_ID}", [("user_id", USER_ID)], None),
        None,
    ),
    (
        "check_api_key",
        (make_key(),),
        {},
        key_body(),
        ("POST", "/user-api-keys/check", [], {"api_key": make_key()}),
        key_body()["id"],
    ),
    (
        "request",
        ("PUT", "/api/v1/emails"),
        {"json": {"a": 1}, "params": {"dry": True}},
        {"id": "e"},
        ("PUT", "/emails", [("dry", "true")], {"a": 1}),
        "e",
    ),
]


class Network:
    """Takes the place of the network: answers in turn, and keeps the calls. The last answer stays."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: list[Answer] = [reply({})]

    def send(self, call: Call, seconds: float) -> Answer:
        self.calls.append(call)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def asend(self, call: Call, seconds: float) -> Answer:
        return self.send(call, seconds)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Network:
    wire = Network()
    monkeypatch.setattr(network, "transport_override", wire)
    return wire


class ClientSuite:
    """The tests. A subclass says how a method of its client is called."""

    KIND: ClassVar[type[StackAuthClient | AsyncStackAuthClient]]

    def run(self, client: Any, method: str, *args: Any, **keywords: Any) -> Any:
        """Return the result of a method, as a list if it is an iterator."""
        raise NotImplementedError

    def client(self, **settings: Any) -> Any:
        return self.KIND(**{"project_id": PROJECT, "secret_server_key": KEY, **settings})

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
    def test_method_sends_its_call_and_returns_what_is_read(self, case: Case, wire: Network) -> None:
        method, args, keywords, answer, (verb, path, query, sent), expected = case
        wire.answers = [reply(answer)]
        result = self.run(self.client(), method, *args, **keywords)
        assert [sent_of(call) for call in wire.calls] == [(verb, f"/api/v1{path}", query, sent)]
        (result,) = result if isinstance(result, list) else [result]
        assert (result["id"] if isinstance(result, dict) else result and result.id) == expected

    def test_every_method_has_a_case_and_both_clients_have_the_same(self) -> None:
        names = {name for name, _ in inspect.getmembers(self.KIND, inspect.isfunction) if not name.startswith("_")}
        assert names - {"close", "aclose"} == {case[0] for case in CASES} | {"revoke_all_sessions"}
        for name in names - {"close", "aclose"}:
            own, other = (inspect.signature(getattr(kind, name)) for kind in (StackAuthClient, AsyncStackAuthClient))
            assert own.parameters == other.parameters

    def test_pages_are_fetched_when_they_are_needed(self, wire: Network) -> None:
        users = [{"id": f"00000000-0000-4000-8000-{number:012}"} for number in range(3)]
        pages = [{**items(user), "pagination": {"next_cursor": str(at)}} for at, user in enumerate(users[:2])]
        wire.answers = [*map(reply, pages), reply(items(users[2]))]
        first = self.run(self.client(), "list_users", first=True)
        assert (first.id, len(wire.calls)) == (users[0]["id"], 1)
        wire.answers = [*map(reply, pages), reply(items(users[2]))]
        assert [each.id for each in self.run(self.client(), "list_users")] == [each["id"] for each in users]

    def test_list_goes_on_after_an_outage(self, wire: Network) -> None:
        wire.answers = [reply({**items(USER), "pagination": {"next_cursor": "a"}}), reply(b"", 503), reply(items())]
        assert self.run(self.client(), "list_users", again=True) == [USER_ID, "status 503"]
        assert [dict(sent_of(call)[2]).get("cursor") for call in wire.calls] == [None, "a", "a"]

    def test_wrong_option_of_a_list_is_an_error_at_the_call(self, wire: Network) -> None:
        with pytest.raises(ValueError, match="page_size"):
            self.client().list_users(page_size=0)

    def test_each_request_of_several_is_sent_and_an_error_reaches_the_steps(self, wire: Network) -> None:
        sessions = [{**SESSION, "id": f"00000000-0000-4000-8000-{number:012}"} for number in range(3)]
        gone = reply(b"Session not found.", 404, content_type="text/plain", x_stack_request_id="1")
        wire.answers = [reply(items(*sessions)), reply({}), gone, reply({})]
        assert self.run(self.client(), "revoke_all_sessions", USER_ID) == 2
        assert [call.method for call in wire.calls] == ["GET", "DELETE", "DELETE", "DELETE"]
        wire.answers = [reply(items(*sessions)), reply({}), known("SCHEMA_ERROR", 400)]
        with pytest.raises(Exception, match="SCHEMA_ERROR"):
            self.run(self.client(), "revoke_all_sessions", USER_ID)

    @pytest.mark.parametrize("case", [case for case in CASES if case[0] != "list_users"], ids=lambda case: case[0])
    def test_wrong_arguments_are_refused_and_nothing_is_sent(self, case: Case, wire: Network) -> None:
        for args, keywords in (((None, *case[1][1:]), case[2]), (case[1], {**case[2], "nonsense": object()})):
            with pytest.raises((ValueError, TypeError, NotFoundError)):
                self.run(self.client(), case[0], *args, **keywords)
        assert wire.calls == []

    def test_errors_of_the_api_are_raised(self, wire: Network) -> None:
        wire.answers = [known("USER_EMAIL_ALREADY_EXISTS", 409)]
        with pytest.raises(ConflictError) as raised:
            self.run(self.client(), "create_user", primary_email="jane@example.com")
        assert pickle.loads(pickle.dumps(raised.value)).code == "USER_EMAIL_ALREADY_EXISTS"

    @pytest.mark.parametrize(
        ("method", "args", "keywords"),
        [
            ("create_user", (), {"password": "canary"}),
            ("update_user", (USER_ID,), {"password": "canary"}),
            ("update_user", (USER_ID,), {"password": "canary", "display_name": 1}),
            ("check_api_key", (make_key(secret="canary" + "0" * 39),), {}),
            ("check_api_key", ("canary",), {}),
            ("request", ("POST", "/users"), {"json": {"password": "canary"}}),
        ],
        ids=as_id,
    )
    def test_exceptions_hold_no_credential(
        self, method: str, args: Any, keywords: Any, wire: Network, caplog: pytest.LogCaptureFixture
    ) -> None:
        wire.answers = [NoReply(NoReplyKind.UNSENT, "connection refused")]
        client = self.client()
        with pytest.raises(Exception) as raised:
            self.run(client, method, *args, **keywords)
        own = [
            frame
            for frame, _ in traceback.walk_tb(raised.value.__traceback__)
            if "/stackauth_middleware/" in frame.f_code.co_filename
        ]
        assert own
        shown = [repr(value) for frame in own for value in frame.f_locals.values()]
        assert "canary" not in " ".join(shown) + str(raised.value) + repr(raised.value) + caplog.text

    def test_client_shares_the_config_and_its_breaker(self, wire: Network) -> None:
        config = StackAuthConfig(project_id=PROJECT, secret_server_key=KEY)
        wire.answers = [reply({"code": "INVALID_SECRET_SERVER_KEY", "error": ""}, 401)]
        for client in (self.KIND(config), self.KIND(config)):
            with pytest.raises(Exception, match="auth_misconfigured"):
                self.run(client, "get_user", USER_ID)
        assert len(wire.calls) == 1

    def test_client_without_the_key_cannot_be_made(self) -> None:
        with pytest.raises(ConfigError, match="secret_server_key"):
            self.KIND(project_id=PROJECT)
        with pytest.raises(ConfigError, match="unknown setting"):
            self.KIND(project_id=PROJECT, secret_key=KEY)

    def test_pickled_client_works(self, wire: Network) -> None:
        client = pickle.loads(pickle.dumps(self.client()))
        wire.answers = [reply(USER)]
        assert isinstance(self.run(client, "get_user", USER_ID), UserProfile)
        assert wire.calls[0].headers["x-stack-secret-server-key"] == KEY
