"""Profiles that a handler loads: from any thread or coroutine, under either middleware."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio import to_thread

from stackauth_middleware import (
    AsyncVerifier,
    ConfigError,
    ErrorCode,
    RefusedError,
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    UserProfile,
    Verifier,
    aload_profile,
    load_profile,
)
from tests.unit.io.loopback import BACKENDS, Backend

from .conftest import Warp
from .sites import Kind, Site, both_middlewares
from .upstream import Upstream

USE_ASYNC = r"use: await aload_profile\(\.\.\.\)"


Handle = Callable[[Any], Any]


def under_asgi(config: StackAuthConfig, token: str | None, handle: Handle, backend: str) -> Any:
    """Return what `handle` returns for the scope of a request."""
    outcome: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        outcome.append(await handle(scope))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 204

    async def main() -> None:
        headers = [(b"x-stack-access-token", token.encode())] if token else []
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        try:
            await StackAuthASGIMiddleware(app, config=config)(scope, lambda: asyncio.sleep(0), send)
        finally:
            await AsyncVerifier(config).aclose()

    anyio.run(main, backend=backend)
    return outcome[0]


def under_wsgi(config: StackAuthConfig, token: str | None, handle: Handle) -> Any:
    """Return what `handle` returns for the environ of a request."""
    outcome: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        outcome.append(handle(environ))
        start_response("204 No Content", [])
        return []

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", **({"HTTP_X_STACK_ACCESS_TOKEN": token} if token else {})}
    statuses: list[str] = []
    with Verifier(config):
        StackAuthWSGIMiddleware(app, config=config)(environ, lambda status, headers: statuses.append(status))
    assert statuses == ["204 No Content"]
    return outcome[0]


@pytest.fixture
def jane(up: Upstream) -> str:
    """Return a token of a user with an account."""
    return up.token(up.local.users.create(display_name="Jane"))


# -- where each works ---------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_coroutine_under_asgi(backend: Backend, up: Upstream, jane: str) -> None:
    profile = under_asgi(up.config(mode="jwt"), jane, aload_profile, backend)
    assert isinstance(profile, UserProfile)
    assert profile.display_name == "Jane"
    assert len(up.calls) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_worker_thread_under_asgi(backend: Backend, up: Upstream, jane: str) -> None:
    """As FastAPI runs a `def` endpoint, and Django a sync view."""

    async def handle(scope: Any) -> UserProfile:
        return await to_thread.run_sync(load_profile, scope)

    assert under_asgi(up.config(mode="jwt"), jane, handle, backend).display_name == "Jane"


def test_own_thread_under_asgi(up: Upstream, jane: str) -> None:
    async def handle(scope: Any) -> Any:
        loaded: list[UserProfile] = []
        thread = threading.Thread(target=lambda: loaded.append(load_profile(scope)))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.001)
        return loaded[0]

    assert under_asgi(up.config(mode="jwt"), jane, handle, "asyncio").display_name == "Jane"


def test_a_function_under_wsgi(up: Upstream, jane: str) -> None:
    assert under_wsgi(up.config(mode="jwt"), jane, load_profile).display_name == "Jane"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_coroutine_under_wsgi(backend: Backend, up: Upstream, jane: str) -> None:
    """As Flask runs an `async def` view: in an event loop for one call, whose connections cannot be reused."""
    config = up.config(mode="jwt", profile_ttl=0)

    def handle(environ: Any) -> list[UserProfile]:
        async def load() -> UserProfile:
            return await aload_profile(environ)

        return [anyio.run(load, backend=backend) for _ in range(20)]

    assert {profile.display_name for profile in under_wsgi(config, jane, handle)} == {"Jane"}
    assert len(up.calls) == 20
    assert up.connections <= 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_function_raises_with_the_name_of_the_right_one(backend: Backend, up: Upstream, jane: str) -> None:
    """A blocking call would stop the event loop until Stack Auth responds."""

    async def handle(scope: Any) -> None:
        with pytest.raises(RuntimeError, match=USE_ASYNC):
            load_profile(scope)

    under_asgi(up.config(mode="jwt"), jane, handle, backend)

    def with_a_loop(environ: Any) -> None:
        anyio.run(handle, environ, backend=backend)

    under_wsgi(up.config(mode="jwt"), jane, with_a_loop)
    assert up.calls == []


# -- what both do -------------------------------------------------------------------------------------


@both_middlewares
def test_profile_is_cached_and_fresh_calls_again(kind: Kind, up: Upstream) -> None:
    user = up.local.users.create(display_name="old")
    token = up.token(user)
    with Site(kind, up.config(mode="jwt")) as site:
        names = []
        for path in ("/load", "/load", "/fresh", "/load"):
            names.append(site.ask(token, path).json["profile"]["display_name"])
            up.local.users.update(user.id, display_name="new")
    assert names == ["old", "old", "new", "new"]
    assert len(up.calls) == 2


@both_middlewares
def test_profile_loaded_by_a_rule_is_reused(kind: Kind, up: Upstream) -> None:
    with Site(kind, up.config(mode="jwt", rules=[Rule("/load", profile=True)])) as site:
        answer = site.ask(up.token(), "/load")
    assert answer.user["profile"] == answer.json["profile"]
    assert len(up.calls) == 1


@both_middlewares
def test_a_profile_is_every_field_of_the_read(kind: Kind, up: Upstream) -> None:
    """All fields of a server read; a client read lacks the server fields."""
    user = up.local.users.create(
        primary_email="jane@example.com",
        server_metadata={"plan": "pro"},
        country_code="CH",
        selected_team={"id": "t", "display_name": "T", "profile_image_url": None, "client_metadata": None,
                       "client_read_only_metadata": None, "server_metadata": {"a": 1}, "created_at_millis": 1},
    )  # fmt: skip
    token = up.token(user)
    with Site(kind, up.config(mode="jwt")) as site:
        whole = site.ask(token, "/load").json["profile"]
    with Site(kind, up.config(mode="jwt", publishable_client_key="pck_" + "p" * 45)) as site:
        part = site.ask(token, "/load").json["profile"]
    told = user.read()
    told["restricted_reason"] = None
    assert {name: whole[name] for name in told} == told
    assert {name for name in whole if whole[name] is not None and part[name] is None} == {
        "primary_email_auth_enabled",
        "last_active_at_millis",
        "server_metadata",
        "country_code",
        "risk_scores",
    }
    assert whole["raw"] == part["raw"] == {}


@both_middlewares
def test_unknown_members_are_in_raw(kind: Kind, up: Upstream) -> None:
    user = up.local.users.create()
    up.me = lambda exchange: exchange.reply({**user.read(), "of_tomorrow": {"a": [1]}, "code": "also new"})
    with Site(kind, up.config()) as site:
        profile = site.ask(up.token(user)).user["profile"]
    assert profile["raw"] == {"of_tomorrow": {"a": [1]}, "code": "also new"}


def load_for_no_user(load: Handle, written: Any) -> ErrorCode:
    with pytest.raises(RefusedError) as raised:
        load(written)
    return raised.value.code


@both_middlewares
def test_unauthenticated_request_has_no_profile(kind: Kind, up: Upstream) -> None:
    config = up.config(mode="jwt", default_access="optional")
    if kind == "wsgi":
        code = under_wsgi(config, None, lambda environ: load_for_no_user(load_profile, environ))
    else:

        async def handle(scope: Any) -> ErrorCode:
            with pytest.raises(RefusedError) as raised:
                await aload_profile(scope)
            return raised.value.code

        code = under_asgi(config, None, handle, kind)
    assert code is ErrorCode.MISSING_TOKEN
    assert up.server.requests == []


def test_load_profile_without_middleware_raises() -> None:
    with pytest.raises(ConfigError, match="no Stack Auth middleware"):
        load_profile({"REQUEST_METHOD": "GET"})
    with pytest.raises(ConfigError, match="no Stack Auth middleware"):
        asyncio.run(aload_profile({"type": "http"}))


def test_profile_can_be_loaded_after_the_response(up: Upstream, jane: str, warp: Warp) -> None:
    """From a background task, but not after its token has expired."""
    kept: list[Any] = []
    config = up.config(mode="jwt")
    under_wsgi(config, jane, kept.append)
    with Verifier(config):
        assert load_profile(kept[0]).display_name == "Jane"
        warp.pass_by(3600)
        with pytest.raises(RefusedError) as raised:
            load_profile(kept[0])
    assert raised.value.code is ErrorCode.EXPIRED_TOKEN


def test_profiles_are_shared_by_the_middlewares_of_one_config(up: Upstream, jane: str) -> None:
    config = up.config()
    for kind in ("wsgi", "asyncio"):
        with Site(kind, config) as site:
            assert site.ask(jane).user["display_name"] == "Jane"
    assert len(up.calls) == 1


def test_a_profile_is_json_ready_and_frozen(up: Upstream, jane: str) -> None:
    with Verifier(up.config()) as verifier:
        profile = verifier.profile(jane)
        assert json.loads(json.dumps(profile.to_dict())) == profile.to_dict()
        with pytest.raises(AttributeError):
            profile.display_name = "John"
        assert verifier.verify(jane).profile is profile
