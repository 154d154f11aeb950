"""`Verifier` and `AsyncVerifier`: the same tests for threads, asyncio and trio."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from email.message import Message
from typing import Any, Literal

import anyio
import httpx
import pytest
from starlette.datastructures import Headers
from werkzeug.datastructures import Headers as WerkzeugHeaders

from stackauth_middleware import (
    AsyncVerifier,
    AuthServerError,
    ConfigError,
    ErrorCode,
    RefusedError,
    StackAuthConfig,
    User,
    Verifier,
)
from stackauth_middleware._core import key_set_cache
from stackauth_middleware._core.users import UserType
from tests.unit.core.helpers import PROJECT, USER_ID
from tests.unit.io.loopback import Exchange, Issuer, Loopback, Skew, closed_port, config_for, live_token

Kind = Literal["threads", "asyncio", "trio"]
kinds = pytest.mark.parametrize("kind", ["threads", "asyncio", "trio"])
KEY = "ssk_of_the_tests"


class Either:
    """A verifier of either kind, with the interface of `Verifier`. Each async call runs in a new event loop."""

    def __init__(self, kind: Kind, config: StackAuthConfig) -> None:
        self.kind = kind
        self.verifier: Any = Verifier(config) if kind == "threads" else AsyncVerifier(config)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.verifier, name)
        if self.kind == "threads" or name == "status":
            return method

        async def closing(call: Callable[[], Awaitable[Any]]) -> Any:
            async with self.verifier:
                return await call()

        def run(*args: Any, **kwargs: Any) -> Any:
            return anyio.run(closing, lambda: method(*args, **kwargs), backend=self.kind)

        return run


class StackAuth(Issuer):
    """Serves key sets, and the profile of one user."""

    def __init__(self) -> None:
        super().__init__()
        self.profile = {"id": USER_ID, "display_name": "Jane", "is_anonymous": False, "is_restricted": False}

    def __call__(self, exchange: Exchange) -> None:
        if exchange.target == "/api/v1/users/me":
            exchange.reply(self.profile)
        else:
            super().__call__(exchange)


@pytest.fixture
def skew(monkeypatch: pytest.MonkeyPatch) -> Skew:
    """Return what moves the clocks of verifiers and runners, but no timeout; refreshes get 30 s on a busy machine."""
    skew = Skew()
    monkeypatch.setattr(key_set_cache, "REFRESH_BUDGET", 30.0)
    for module in ("_io.async_runner", "_io.sync_runner", "_verifiers"):
        monkeypatch.setattr(f"stackauth_middleware.{module}.clocks", skew)
    return skew


@pytest.fixture
def stack_auth() -> StackAuth:
    return StackAuth()


@pytest.fixture
def server(stack_auth: StackAuth) -> Iterator[Loopback]:
    with Loopback(stack_auth) as server:
        yield server


def verifier_of(kind: Kind, server: Loopback, **settings: Any) -> Either:
    return Either(kind, config_for(server.url, **settings))


# -- construction ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Verifier, AsyncVerifier])
def test_verifier_takes_settings_or_a_config(make: Any) -> None:
    """A config shares its caches. Both at once, or another object, is a ConfigError."""
    config = config_for("https://api.example.com")
    assert make(config)._flow is make(config=config)._flow
    assert make(project_id=PROJECT)._flow is not make(project_id=PROJECT)._flow
    with pytest.raises(ConfigError, match="config and 'leeway' are both given"):
        make(config, leeway=3)
    with pytest.raises(ConfigError, match="it must be a StackAuthConfig"):
        make({"project_id": PROJECT})
    with pytest.raises(ConfigError, match="unknown setting 'projectid'"):
        make(projectid=PROJECT)


# -- verifying -------------------------------------------------------------------------------------


@kinds
def test_verify_fetches_the_key_set_once(kind: Kind, server: Loopback) -> None:
    verifier = verifier_of(kind, server)
    user = verifier.verify(live_token(name="Jane"))
    assert isinstance(user, User)
    assert (user.user_id, user.user_type, user.display_name) == (USER_ID, UserType.NORMAL, "Jane")
    assert verifier.verify(live_token(name="Joan")).display_name == "Joan"
    assert server.targets == [f"/api/v1/projects/{PROJECT}/.well-known/jwks.json"]


@kinds
def test_verify_raises_refused_error_with_the_code_of_the_middleware(kind: Kind, server: Loopback) -> None:
    verifier = verifier_of(kind, server)
    for token, code in [
        ("", ErrorCode.INVALID_TOKEN),
        ("no.token.atall", ErrorCode.INVALID_TOKEN),
        ("\udcff", ErrorCode.INVALID_TOKEN),
        ("e" * 9000, ErrorCode.INVALID_TOKEN),
        (live_token(exp=1), ErrorCode.EXPIRED_TOKEN),
        (live_token(UserType.RESTRICTED), ErrorCode.RESTRICTED_NOT_ALLOWED),
        (live_token(UserType.ANONYMOUS), ErrorCode.ANONYMOUS_NOT_ALLOWED),
    ]:
        with pytest.raises(RefusedError) as caught:
            verifier.verify(token)
        assert caught.value.code is code


@kinds
def test_verify_allows_the_user_types_of_the_settings(kind: Kind, server: Loopback) -> None:
    verifier = verifier_of(kind, server, allow_anonymous=True)
    for user_type in UserType:
        assert verifier.verify(live_token(user_type)).user_type is user_type
        assert verifier.verify(live_token(user_type)).user_type is user_type


@kinds
def test_verify_in_an_outage_raises_auth_server_error(kind: Kind) -> None:
    verifier = Either(kind, config_for(f"http://127.0.0.1:{closed_port()}"))
    with pytest.raises(AuthServerError) as caught:
        verifier.verify(live_token())
    assert caught.value.code is ErrorCode.SERVER_ERROR
    assert caught.value.retry_after == 10


@kinds
def test_unknown_project_is_misconfigured_and_logged_once_a_minute(
    kind: Kind, stack_auth: StackAuth, server: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    stack_auth.status = 404
    verifier = verifier_of(kind, server)
    for _ in range(20):
        with pytest.raises(AuthServerError) as caught:
            verifier.verify(live_token())
        assert caught.value.code is ErrorCode.MISCONFIGURED
        assert caught.value.retry_after is None
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    address = f"{server.url}/api/v1/projects/{PROJECT}/.well-known/jwks.json"
    line = f"no normal key set from {address}: status 404 (check project_id and api_url)"
    assert [each.getMessage() for each in errors] == [line]
    assert len(server.requests) == 1


# -- headers ---------------------------------------------------------------------------------------


def headers_with(token: str) -> list[Any]:
    """Return headers of each type with `token`."""
    pair = ("X-Stack-Access-Token", token)
    encoded = (b"X-STACK-Access-Token", token.encode())
    message = Message()
    message["X-Stack-Access-Token"] = token
    return [
        dict([pair]),
        [pair],
        iter([pair]),
        dict([encoded]),
        [encoded],
        (encoded,),
        Headers({"x-stack-access-token": token}),
        WerkzeugHeaders([pair]),
        httpx.Headers([pair]),
        message,
        {"Authorization": f"Bearer {token}"},
    ]


@kinds
def test_authenticate_reads_headers_of_any_type(kind: Kind, server: Loopback) -> None:
    verifier = verifier_of(kind, server)
    for headers in headers_with(live_token()):
        assert verifier.authenticate(headers).user_id == USER_ID
    assert len(server.requests) == 1


@kinds
def test_authenticate_without_a_token_returns_none(kind: Kind, server: Loopback) -> None:
    """Other credentials, such as Basic, are the app's."""
    verifier = verifier_of(kind, server)
    headers: Any
    for headers in ({}, [], {"x-stack-access-token": ""}, {"authorization": "Basic eDp5"}, {"cookie": "a=b"}):
        assert verifier.authenticate(headers) is None
    assert server.connections == 0


@kinds
def test_authenticate_refuses_repeated_headers_and_malformed_tokens(kind: Kind, server: Loopback) -> None:
    """Header names are compared in lower case."""
    verifier = verifier_of(kind, server)
    token = live_token()
    twice: list[Any] = [
        [("X-Stack-Access-Token", token), ("x-stack-access-token", token)],
        [(b"x-stack-access-token", token.encode()), ("X-STACK-ACCESS-TOKEN", token)],
        Headers(raw=[(b"x-stack-access-token", token.encode())] * 2),
        WerkzeugHeaders([("x-stack-access-token", token)] * 2),
        {"x-stack-access-token": token, "x-hexclave-access-token": token},
    ]
    for headers in twice:
        with pytest.raises(RefusedError) as caught:
            verifier.authenticate(headers)
        assert caught.value.code is ErrorCode.INVALID_REQUEST
    with pytest.raises(RefusedError) as caught:
        verifier.authenticate({"x-stack-access-token": "undefined"})
    assert caught.value.code is ErrorCode.INVALID_TOKEN
    assert server.connections == 0


# -- profiles --------------------------------------------------------------------------------------


@kinds
def test_profile_is_cached_unless_fresh(kind: Kind, server: Loopback) -> None:
    verifier = verifier_of(kind, server, secret_server_key=KEY)
    token = live_token()
    assert [verifier.profile(token).display_name for _ in range(2)] == ["Jane"] * 2
    calls = [each for each in server.requests if each.target == "/api/v1/users/me"]
    assert len(calls) == 1
    assert calls[0].headers["x-stack-secret-server-key"] == KEY
    assert calls[0].headers["x-stack-access-token"] == token
    assert verifier.profile(token, fresh=True).display_name == "Jane"
    assert server.targets.count("/api/v1/users/me") == 2


@kinds
def test_profile_without_a_key_is_a_config_error(kind: Kind, server: Loopback) -> None:
    with pytest.raises(ConfigError, match="secret_server_key is not set"):
        verifier_of(kind, server).profile(live_token())
    assert server.connections == 0


@kinds
def test_profile_of_an_expired_token_is_refused_without_a_call(kind: Kind, server: Loopback) -> None:
    with pytest.raises(RefusedError) as caught:
        verifier_of(kind, server, secret_server_key=KEY).profile(live_token(exp=1))
    assert caught.value.code is ErrorCode.EXPIRED_TOKEN
    assert "/api/v1/users/me" not in server.targets


@kinds
def test_rest_mode_applies_the_profile(kind: Kind, stack_auth: StackAuth, server: Loopback) -> None:
    stack_auth.profile["is_restricted"] = True
    verifier = verifier_of(kind, server, secret_server_key=KEY, mode="rest")
    with pytest.raises(RefusedError) as caught:
        verifier.verify(live_token())
    assert caught.value.code is ErrorCode.RESTRICTED_NOT_ALLOWED


# -- status, recovery, closing ---------------------------------------------------------------------


@kinds
def test_status_reports_the_key_set_without_a_network_call(
    kind: Kind, stack_auth: StackAuth, server: Loopback, skew: Skew
) -> None:
    verifier = verifier_of(kind, server)
    assert verifier.status() == (status := verifier.verifier.status())
    assert (status.ready, status.keys_age, status.failure) == (False, None, None)
    assert server.connections == 0
    stack_auth.status = 503
    verifier.prefetch_keys()
    status = verifier.status()
    assert (status.ready, status.keys_age, status.failure) == (False, None, ErrorCode.SERVER_ERROR)
    stack_auth.status = 200
    skew.seconds = 100
    verifier.prefetch_keys()
    skew.seconds = 130
    status = verifier.status()
    assert (status.ready, status.failure) == (True, None)
    assert 29 < status.keys_age < 40


def test_verifier_closes_its_connections_with_the_block(server: Loopback) -> None:
    """Also after an exception; the next call opens a new one."""
    verifier = Verifier(config_for(server.url, secret_server_key=KEY))

    def failing() -> None:
        with verifier as same:
            assert same is verifier
            verifier.profile(live_token())
            assert server.connections == 1
            raise LookupError

    with pytest.raises(LookupError):
        failing()
    with verifier:
        verifier.profile(live_token(), fresh=True)
        assert server.connections == 2


def test_async_verifier_closes_its_connections_with_the_block(server: Loopback) -> None:
    """Also after an exception; the next call opens a new one."""

    async def main() -> None:
        verifier = AsyncVerifier(config_for(server.url, secret_server_key=KEY))

        async def failing() -> None:
            async with verifier as same:
                assert same is verifier
                await verifier.profile(live_token())
                assert server.connections == 1
                raise LookupError

        with pytest.raises(LookupError):
            await failing()
        async with verifier:
            await verifier.profile(live_token(), fresh=True)
            assert server.connections == 2

    anyio.run(main)


def test_both_verifiers_of_a_config_share_its_key_sets(server: Loopback) -> None:
    config = config_for(server.url)
    with Verifier(config) as verifier:
        verifier.prefetch_keys()

    async def main() -> User:
        async with AsyncVerifier(config) as other:
            return await other.verify(live_token())

    assert anyio.run(main).user_id == USER_ID
    assert len(server.requests) == 1
