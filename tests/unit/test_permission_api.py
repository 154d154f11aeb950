"""What handlers ask about the user of a request: permissions."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any
from uuid import UUID

import anyio
import pytest

from stackauth_middleware._adapters import ERROR, OUTCOME, USER
from stackauth_middleware._core.api_keys import api_key_from_json
from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.outcome import Authenticated, KeyAuthenticated
from stackauth_middleware._core.upstream import Call, NoReply, Reply
from stackauth_middleware._core.users import User
from stackauth_middleware._io import network as network_module
from stackauth_middleware._permission_api import (
    ahas_permission,
    arequire_permission,
    arequire_team,
    ateams,
    has_permission,
    require_permission,
    require_team,
    teams,
)
from stackauth_middleware.errors import AuthServerError, ConfigError, ErrorCode, RefusedError

from .core.helpers import BROKEN, PROJECT, USER_ID
from .core.test_api_keys import FORM, body
from .core.test_permissions import OTHER_TEAM, TEAM, items, project, team
from .test_handler_api import INBOUND, POLICY, SIGNED_IN, UNAUTHENTICATED, unverified


class Network:
    """A transport override that answers with permissions, and counts the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.answers: dict[str, Any] = {
            "project": items(*project("admin")),
            "team": items(*team("read")),
        }

    def send(self, call: Call, seconds: float) -> Reply | NoReply:
        name = call.url.partition("/api/v1/")[2].partition("?")[0].partition("-")[0]
        self.calls.append(name)
        return self.answers[name]

    async def asend(self, call: Call, seconds: float) -> Reply | NoReply:
        return self.send(call, seconds)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network()
    monkeypatch.setattr(network_module, "transport_override", made)
    return made


def request(*, in_event_loop: bool = True, secret: str = "ssk_x") -> dict[str, Any]:
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=secret)
    outcome = Authenticated(SIGNED_IN, config, "to.ke.n", POLICY, in_event_loop, None, INBOUND)
    return {USER: SIGNED_IN, ERROR: None, OUTCOME: outcome}


def key_request(owner: User | None) -> dict[str, Any]:
    config = StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_x")
    key = api_key_from_json(body(user_id=USER_ID), FORM)
    return {
        USER: owner,
        ERROR: None,
        OUTCOME: KeyAuthenticated(key, owner, config, POLICY, INBOUND, in_event_loop=True),
    }


def awaited(function: Callable[..., Any], backend: str) -> Callable[..., Any]:
    async def called(*args: Any, **options: Any) -> Any:
        return await function(*args, **options)

    return lambda *args, **options: anyio.run(lambda: called(*args, **options), backend=backend)


Functions = tuple[Callable[..., bool], Callable[..., User]]
WAYS: dict[str, Functions] = {
    "plain": (has_permission, require_permission),
    **{each: (awaited(ahas_permission, each), awaited(arequire_permission, each)) for each in ("asyncio", "trio")},
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@every_way
@pytest.mark.parametrize(
    ("permission", "team_id", "held"),
    [
        ("admin", None, True),
        ("read", None, False),
        ("read", TEAM, True),
        ("read", TEAM.upper(), True),
        ("read", UUID(TEAM), True),
        ("read", OTHER_TEAM, False),
        ("admin", TEAM, False),
        ("admin", "", False),
        ("admin", "x", False),
        ("admin", f"{TEAM}/../x", False),
    ],
)
def test_permission_is_held_or_refused(
    way: Functions, permission: str, team_id: Any, held: bool, network: Network
) -> None:
    """A team that is no UUID names no team. It never stands for the project."""
    has, require = way
    obj = request()
    assert has(obj, permission, team_id=team_id) is held
    if held:
        assert require(obj, permission, team_id=team_id) is SIGNED_IN
    else:
        with pytest.raises(RefusedError) as caught:
            require(obj, permission, team_id=team_id)
        assert caught.value.code is ErrorCode.FORBIDDEN
    asked = {None: ["project"], "": [], "x": [], f"{TEAM}/../x": []}.get(team_id, ["team"])
    assert network.calls == asked


@every_way
@pytest.mark.parametrize(
    ("obj", "error", "code"),
    [
        (UNAUTHENTICATED, RefusedError, ErrorCode.MISSING_TOKEN),
        (key_request(None), RefusedError, ErrorCode.FORBIDDEN),
        (unverified(ErrorCode.SERVER_ERROR, 7), AuthServerError, ErrorCode.SERVER_ERROR),
        ({}, ConfigError, None),
        (request(secret=""), ConfigError, None),
        (pickle.loads(pickle.dumps(request())), RuntimeError, None),
        (5, TypeError, None),
    ],
    ids=["unauthenticated", "the key of a team", "not judged", "no middleware", "no secret key", "pickled", "a number"],
)
def test_request_that_nothing_can_be_asked_about(
    way: Functions, obj: Any, error: type[Exception], code: ErrorCode | None, network: Network
) -> None:
    """Only a request without a user has no permission. What cannot be judged raises."""
    has, require = way
    with pytest.raises(error) as caught:
        require(obj, "admin")
    assert getattr(caught.value, "code", None) is code
    if error is RefusedError:
        assert has(obj, "admin") is False
    else:
        with pytest.raises(error):
            has(obj, "admin")
    assert network.calls == []


@every_way
def test_key_of_a_user_has_the_permissions_of_the_user(way: Functions, network: Network) -> None:
    assert way[0](key_request(SIGNED_IN), "admin") is True
    assert way[1](key_request(SIGNED_IN), "read", team_id=TEAM) is SIGNED_IN


@every_way
def test_outage_is_an_auth_server_error(way: Functions, network: Network) -> None:
    network.answers["project"] = BROKEN
    for function in way:
        with pytest.raises(AuthServerError):
            function(request(), "admin")


@every_way
@pytest.mark.parametrize("permission", ["Not Good", "", None, "a-b", "x&user_id=y"])
def test_text_that_is_no_permission_is_a_config_error(way: Functions, permission: Any, network: Network) -> None:
    for function in way:
        with pytest.raises(ConfigError, match="must be the id of a permission"):
            function(request(), permission)
    assert network.calls == []


@pytest.mark.parametrize(
    ("function", "arguments"),
    [(has_permission, ["admin"]), (require_permission, ["admin"]), (teams, []), (require_team, [TEAM])],
)
def test_plain_function_raises_on_an_event_loop(
    function: Callable[..., Any], arguments: list[str], network: Network
) -> None:
    async def call() -> None:
        function(request(), *arguments)

    with pytest.raises(RuntimeError, match=r"await a(has_permission|teams)"):
        anyio.run(call)
    assert network.calls == []


# -- teams --------------------------------------------------------------------------------------------

TEAM_WAYS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "plain": (teams, require_team),
    **{each: (awaited(ateams, each), awaited(arequire_team, each)) for each in ("asyncio", "trio")},
}


@pytest.mark.parametrize("way", TEAM_WAYS.values(), ids=TEAM_WAYS)
@pytest.mark.parametrize("make", [request, lambda: key_request(SIGNED_IN)], ids=["token", "API key"])
def test_member_gets_the_team_and_others_are_refused(way: Any, make: Callable[[], Any], network: Network) -> None:
    obj = make()
    network.answers["teams"] = items({"id": TEAM, "display_name": "Alpha"})
    found, required = way
    assert [team.display_name for team in found(obj)] == ["Alpha"]
    for team_id in (TEAM, TEAM.upper(), UUID(TEAM)):
        assert required(obj, team_id).id == TEAM
    for team_id in (OTHER_TEAM, "", "x", None):
        with pytest.raises(RefusedError) as caught:
            required(obj, team_id)
        assert caught.value.code is ErrorCode.FORBIDDEN
    assert network.calls == ["teams"]


@pytest.mark.parametrize("way", TEAM_WAYS.values(), ids=TEAM_WAYS)
def test_teams_of_a_request_that_nothing_can_be_asked_about(way: Any, network: Network) -> None:
    network.answers["teams"] = BROKEN
    cases = [
        (request(), AuthServerError),
        (UNAUTHENTICATED, RefusedError),
        (key_request(None), RefusedError),
        ({}, ConfigError),
        (request(secret=""), ConfigError),
    ]
    for obj, error in cases:
        for function, arguments in ((way[0], []), (way[1], [TEAM])):
            with pytest.raises(error):
                function(obj, *arguments)
    assert set(network.calls) == {"teams"}
