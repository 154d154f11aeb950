"""Single flight and connection reuse: many requests cause few calls, and each request gets its own user."""

from __future__ import annotations

import anyio
import pytest

from stackauth_middleware import AsyncVerifier, StackAuthConfig, Verifier
from stackauth_middleware._io import attempt
from tests.unit.io.loopback import BACKENDS, Backend

from .sites import Ask, Kind, Site, both_middlewares, every_runner
from .upstream import Upstream


@every_runner
def test_concurrent_requests_of_one_user_share_one_call(kind: Kind, up: Upstream) -> None:
    user = up.local.users.create(display_name="Jane")
    tokens = [up.token(user, session_id=f"session {number}") for number in range(5)]
    assert len(set(tokens)) == 5
    up.me = up.slowly()
    with Site(kind, up.config()) as site:
        answers = site.ask_all([Ask(tokens[number % 5]) for number in range(200)], at_once=200)
    assert {answer.user["user_id"] for answer in answers} == {user.id}
    assert {answer.user["session_id"] for answer in answers} == {f"session {number}" for number in range(5)}
    assert len(up.calls) == 1


@every_runner
def test_concurrent_users_get_their_own_profiles(kind: Kind, up: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "FIRST_WAIT", 60.0)  # on a busy machine an answer can take longer than 2 s
    tokens = up.tokens(50)
    with Site(kind, up.config(timeout=60)) as site:
        paths = ("/", "/load")
        asks = [Ask(tokens[number * 7 % 50], paths[number % 2]) for number in range(2000)]
        answers = site.ask_all(asks, at_once=64)
    for ask, answer in zip(asks, answers, strict=True):
        name = f"user {tokens.index(ask.token or '')}"
        assert answer.user["display_name"] == answer.user["profile"]["display_name"] == name
        assert answer.json.get("profile", answer.user["profile"]) == answer.user["profile"]
    assert len(up.calls) == 50


@both_middlewares
def test_sequential_calls_reuse_connections(kind: Kind, up: Upstream) -> None:
    user = up.local.users.create()
    token = up.token(user)
    up.me = lambda exchange: exchange.reply(user.read())
    if kind == "wsgi":
        with Verifier(up.config(profile_ttl=0)) as verifier:
            for _ in range(1000):
                verifier.profile(token)
    else:

        async def main() -> None:
            async with AsyncVerifier(up.config(profile_ttl=0)) as verifier:
                for _ in range(1000):
                    await verifier.profile(token)

        anyio.run(main, backend=kind)
    assert len(up.calls) == 1000
    assert up.connections <= 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_followers_share_a_new_call_when_the_leader_is_cancelled(backend: Backend, up: Upstream) -> None:
    """The followers do not wait for the cancelled call, and share one new call."""
    token = up.token(up.local.users.create(display_name="Jane"))
    answer = up.slowly()
    up.me = lambda exchange: exchange.hold() if len(up.calls) == 1 else answer(exchange)
    names: list[str | None] = []

    async def main() -> None:
        async with AsyncVerifier(up.config()) as verifier:
            await verifier.prefetch_keys()
            scope = anyio.CancelScope()

            async def lead() -> None:
                with scope:
                    await verifier.profile(token)

            async def wait() -> None:
                names.append((await verifier.profile(token)).display_name)

            async with anyio.create_task_group() as group:
                group.start_soon(lead)
                while not up.calls:
                    await anyio.sleep(0.001)
                for _ in range(20):
                    group.start_soon(wait)
                await anyio.sleep(0.01)
                assert len(up.calls) == 1
                scope.cancel()

    anyio.run(main, backend=backend)
    assert names == ["Jane"] * 20
    assert len(up.calls) == 2


def test_configs_share_nothing(up: Upstream) -> None:
    """A profile that was fetched with the key of one config is not used by another."""
    token = up.token()
    for config in (up.config(), up.config()):
        assert isinstance(config, StackAuthConfig)
        with Site("wsgi", config) as site:
            site.ask(token)
            site.ask(token)
    assert len(up.calls) == 2
