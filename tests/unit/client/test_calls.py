"""How clients send requests, over real sockets: threads, asyncio and trio."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import anyio
import pytest

from stackauth_middleware import AuthServerError, StackAuthConfig, Verifier
from stackauth_middleware._core.server_api import users
from stackauth_middleware._core.server_api.request import Steps
from stackauth_middleware._io.async_runner import AsyncRunner
from stackauth_middleware._io.sync_runner import SyncRunner
from stackauth_middleware.client import AsyncStackAuthClient, ConflictError, NotFoundError, StackAuthClient
from tests.unit.core.helpers import PROJECT
from tests.unit.io.helpers import in_a_child, with_threads

from .serving import KEY, Served, relayed, served

Kind = Literal["threads", "asyncio", "trio"]
kinds = pytest.mark.parametrize("kind", ["threads", "asyncio", "trio"])


@pytest.fixture(scope="module")
def stack_auth() -> Iterator[Served]:
    with served() as stack_auth:
        yield stack_auth


class Driver:
    """Calls the methods of a client of either kind, all in one event loop if it is async."""

    def __init__(self, kind: Kind, config: StackAuthConfig) -> None:
        self._client: Any = (StackAuthClient if kind == "threads" else AsyncStackAuthClient)(config)
        self._kind = kind

    def __enter__(self) -> Driver:
        self._stack = contextlib.ExitStack()
        if self._kind != "threads":
            self._portal = self._stack.enter_context(anyio.from_thread.start_blocking_portal(self._kind))
            self._stack.enter_context(self._portal.wrap_async_context_manager(self._client))
        else:
            self._stack.enter_context(self._client)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        if self._kind == "threads":
            return lambda *args, **keywords: _listed(method(*args, **keywords))

        async def call(*args: Any, **keywords: Any) -> Any:
            result = method(*args, **keywords)
            return [each async for each in result] if hasattr(result, "__anext__") else await result

        return lambda *args, **keywords: self._portal.call(lambda: call(*args, **keywords))


def _listed(result: Any) -> Any:
    return list(result) if hasattr(result, "__next__") else result


@kinds
def test_life_of_a_user_with_teams_permissions_sessions_and_keys(kind: Kind, stack_auth: Served) -> None:
    local = stack_auth.local
    local.define_permission("read")
    local.define_permission("editor", contains=["read"])
    email = f"{kind}@example.com"
    with Driver(kind, stack_auth.config()) as client:
        user = client.create_user(primary_email=email, primary_email_auth_enabled=True, display_name="Jane")
        with pytest.raises(ConflictError):
            client.create_user(primary_email=email, primary_email_auth_enabled=True)
        assert client.get_user(user.id) == user
        assert client.find_user_by_email(email.upper()).id == user.id
        assert client.find_user_by_email("unknown@example.com") is None

        updated = client.update_user(user.id, display_name=None, server_metadata={"plan": "pro"})
        assert (updated.display_name, updated.server_metadata, updated.primary_email) == (None, {"plan": "pro"}, email)
        ids = {each.id for each in client.list_users(page_size=2, include_restricted=True)}
        assert ids >= {user.id}

        team = client.create_team("Sales", server_metadata=[1])
        assert client.update_team(team.id, display_name="Support").display_name == "Support"
        client.add_team_member(team.id, user.id)
        with pytest.raises(ConflictError):
            client.add_team_member(team.id, user.id)
        assert [each.id for each in client.list_teams(user.id)] == [team.id]
        assert client.get_team(team.id).server_metadata == (1,)
        assert user.id in {each.id for each in client.list_users(team_id=team.id)}

        client.grant_permission(user.id, "editor", team_id=team.id)
        held = {each.id for each in client.list_permissions(user.id, team_id=team.id)}
        assert held >= {"editor", "read"}
        assert "read" not in {each.id for each in client.list_permissions(user.id, team_id=team.id, direct=True)}
        assert {each.team_id for each in client.list_team_permissions(user.id)} == {team.id}
        client.revoke_permission(user.id, "editor", team_id=team.id)
        with pytest.raises(NotFoundError):
            client.revoke_permission(user.id, "editor", team_id=team.id)
        assert client.list_permissions(user.id) == []

        for _ in range(3):
            client.request("POST", "/auth/sessions", json={"user_id": user.id})
        first, *_ = client.get_active_sessions(user.id)
        client.revoke_session(user.id, first.id)
        assert client.revoke_all_sessions(user.id) == 2
        assert client.get_active_sessions(user.id) == []

        for value in (local.api_key(user.id), local.api_key(team=team.id)):
            key = client.check_api_key(value)
            assert (key.user_id, key.team_id) == ((user.id, None) if key.type == "user" else (None, team.id))
        client.remove_team_member(team.id, user.id)
        client.delete_team(team.id)
        client.delete_user(user.id)
        for gone in (lambda: client.get_user(user.id), lambda: client.get_team(team.id)):
            with pytest.raises(NotFoundError):
                gone()


@kinds
def test_error_of_the_api_is_raised_where_the_request_was_yielded(kind: Kind, stack_auth: Served) -> None:
    def steps() -> Steps[str]:
        try:
            yield users.get(PROJECT)
        except NotFoundError as error:
            return error.code
        raise AssertionError

    with Driver(kind, stack_auth.config()) as client:
        assert client._send_all(steps()) == "USER_NOT_FOUND"


# -- connections --------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("loses", ["request", "answer"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_change_is_not_repeated_on_a_dead_pooled_connection(
    kind: Kind, loses: str, method: str, stack_auth: Served
) -> None:
    user = stack_auth.local.users.create()
    changes: dict[str, Callable[[Any], Any]] = {
        "POST": lambda client: client.create_user(display_name="x"),
        "PATCH": lambda client: client.update_user(user.id, display_name="x"),
        "DELETE": lambda client: client.delete_user(user.id),
    }
    with relayed(stack_auth, loses) as relay, Driver(kind, stack_auth.config(relay.url)) as client:
        client.get_user(user.id)
        stack_auth.seen.clear()
        with pytest.raises(AuthServerError, match="it may have been carried out"):
            changes[method](client)
        assert [each[0] for each in stack_auth.seen] == ([method] if loses == "answer" else [])
        assert relay.connections == 1


@kinds
def test_reading_is_repeated_on_a_dead_pooled_connection(kind: Kind, stack_auth: Served) -> None:
    user = stack_auth.local.users.create()
    with relayed(stack_auth, "request") as relay, Driver(kind, stack_auth.config(relay.url)) as client:
        assert client.get_user(user.id).id == client.get_user(user.id).id == user.id
        assert relay.connections == 2


def test_connections_are_those_of_the_verifiers_of_the_config(stack_auth: Served) -> None:
    config = stack_auth.config()
    sync, tasks = StackAuthClient(config), AsyncStackAuthClient(config)
    assert sync._runner is Verifier(config)._runner is config.get_or_create(SyncRunner)
    assert tasks._runner is config.get_or_create(AsyncRunner)


@pytest.mark.parametrize("kind", [StackAuthClient, AsyncStackAuthClient])
def test_client_is_made_without_a_network_call(kind: Any) -> None:
    kind(project_id=PROJECT, secret_server_key=KEY, api_url="https://does-not-exist.invalid")


@with_threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_uses_connections_of_its_own(stack_auth: Served) -> None:
    user = stack_auth.local.users.create()
    with StackAuthClient(stack_auth.config()) as client:
        assert client.get_user(user.id).id == user.id
        assert in_a_child(lambda: client.get_user(user.id).id == user.id)
        assert client.get_user(user.id).id == user.id


def test_async_client_works_in_one_event_loop_after_another(stack_auth: Served) -> None:
    user, client = stack_auth.local.users.create(), AsyncStackAuthClient(stack_auth.config())

    async def once() -> str:
        async with client:
            return (await client.get_user(user.id)).id

    for backend in ("asyncio", "trio", "asyncio"):
        assert anyio.run(once, backend=backend) == user.id


def test_sync_client_refuses_to_block_an_event_loop(stack_auth: Served) -> None:
    user, client = stack_auth.local.users.create(), StackAuthClient(stack_auth.config())
    stack_auth.seen.clear()

    async def blocking() -> None:
        client.get_user(user.id)

    for backend in ("asyncio", "trio"):
        with pytest.raises(RuntimeError, match="use AsyncStackAuthClient"):
            anyio.run(blocking, backend=backend)
    assert stack_auth.seen == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_change_has_time_to_finish(backend: str, stack_auth: Served) -> None:
    user, client = stack_auth.local.users.create(), AsyncStackAuthClient(stack_auth.config())

    async def cancelled() -> bool:
        async with client:
            with anyio.move_on_after(0.05) as scope:
                await client.update_user(user.id, display_name=backend)
            return scope.cancelled_caught

    stack_auth.hold = 0.1
    try:
        assert anyio.run(cancelled, backend=backend)
    finally:
        stack_auth.hold = 0.0
    renamed = stack_auth.local.users.get(user.id)
    assert renamed
    assert renamed.display_name == backend


def test_threads_share_one_client(stack_auth: Served) -> None:
    user = stack_auth.local.users.create()
    with StackAuthClient(stack_auth.config()) as client, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(client.get_user, [user.id] * 24))
    assert [each.id for each in found] == [user.id] * 24


@kinds
def test_call_ends_within_the_time_budget(kind: Kind, stack_auth: Served) -> None:
    user = stack_auth.local.users.create()
    stack_auth.hold = 4.0
    try:
        with Driver(kind, stack_auth.config(timeout=0.1)) as client:
            started = time.monotonic()
            with pytest.raises(AuthServerError, match="timeout"):
                client.get_user(user.id)
            assert time.monotonic() - started < 3
    finally:
        stack_auth.hold = 0.0


@kinds
def test_each_page_and_each_step_has_a_time_budget_of_its_own(kind: Kind, stack_auth: Served) -> None:
    user = stack_auth.local.users.create()
    with Driver(kind, stack_auth.config(timeout=1.0)) as client:
        for _ in range(4):
            client.request("POST", "/auth/sessions", json={"user_id": user.id})
        stack_auth.hold = 0.22
        try:
            assert client.revoke_all_sessions(user.id) == 4
        finally:
            stack_auth.hold = 0.0
