"""The core without a door: the same verdicts from threads, from asyncio and from trio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from stackauth_middleware import (
    AsyncVerifier,
    AuthServerError,
    ConfigError,
    ErrorCode,
    RefusedError,
    StackAuthConfig,
    User,
    UserType,
    Verifier,
)
from stackauth_middleware.testing import LocalStackAuth

PROJECT = "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063"
KEYED = {"project_id": PROJECT, "secret_server_key": "ssk_test"}


class FromAsync:
    """`AsyncVerifier` with the face of `Verifier`: each call in an event loop of its own."""

    def __init__(self, run: Callable[..., Any], **settings: Any) -> None:
        self._run = run
        self._config = StackAuthConfig(**settings)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            async with AsyncVerifier(self._config) as verifier:
                result = getattr(verifier, name)(*args, **kwargs)
                return await result if hasattr(result, "__await__") else result

        def in_a_loop(*args: Any, **kwargs: Any) -> Any:
            async def main() -> Any:
                return await call(*args, **kwargs)

            return self._run(main)

        return in_a_loop


@pytest.fixture(params=["threads", "asyncio", "trio"])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return what makes a verifier of each world."""
    if request.param == "threads":
        return Verifier
    run = (lambda main: asyncio.run(main())) if request.param == "asyncio" else trio.run
    return lambda **settings: FromAsync(run, **settings)


def test_verify(make: Callable[..., Any], stackauth: LocalStackAuth) -> None:
    verifier = make(project_id=PROJECT)
    token = stackauth.token(project_id=PROJECT)
    user = verifier.verify(token)
    assert isinstance(user, User)
    assert verifier.verify(token) == user
    assert stackauth.requests.count("jwks") == 1


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"user_type": "restricted"}, ErrorCode.RESTRICTED_NOT_ALLOWED),
        ({"user_type": "anonymous"}, ErrorCode.ANONYMOUS_NOT_ALLOWED),
        ({"expires_in": -60}, ErrorCode.EXPIRED_TOKEN),
        ({"key": "foreign"}, ErrorCode.INVALID_TOKEN),
    ],
)
def test_refusals(claims: Any, code: ErrorCode, make: Callable[..., Any], stackauth: LocalStackAuth) -> None:
    with pytest.raises(RefusedError) as caught:
        make(project_id=PROJECT).verify(stackauth.token(project_id=PROJECT, **claims))
    assert caught.value.code is code


def test_the_settings_let_others_in(make: Callable[..., Any], stackauth: LocalStackAuth) -> None:
    verifier = make(project_id=PROJECT, allow_anonymous=True)
    for user_type in UserType:
        assert verifier.verify(stackauth.token(project_id=PROJECT, user_type=user_type.value)).user_type is user_type


@pytest.mark.parametrize(
    "as_headers",
    [
        lambda token: {"X-Stack-Access-Token": token},
        lambda token: {b"x-stack-access-token": token.encode()},
        lambda token: [("Authorization", f"Bearer {token}")],
        lambda token: [(b"authorization", b"bearer " + token.encode())],
    ],
)
def test_authenticate(as_headers: Any, make: Callable[..., Any], stackauth: LocalStackAuth) -> None:
    verifier = make(project_id=PROJECT)
    headers = as_headers(stackauth.token(project_id=PROJECT))
    assert isinstance(verifier.authenticate(headers), User)
    assert isinstance(verifier.authenticate(headers), User)


def test_authenticate_nobody_and_twice(make: Callable[..., Any], stackauth: LocalStackAuth) -> None:
    verifier = make(project_id=PROJECT)
    assert verifier.authenticate({}) is None
    token = stackauth.token(project_id=PROJECT)
    with pytest.raises(RefusedError) as caught:
        verifier.authenticate([("x-stack-access-token", token), ("X-Stack-Access-Token", token)])
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_profile(make: Callable[..., Any], stackauth: LocalStackAuth) -> None:
    verifier = make(**KEYED)
    account = stackauth.users.create(display_name="Zoe")
    token = stackauth.token(account, project_id=PROJECT)
    assert verifier.profile(token).display_name == "Zoe"
    stackauth.users.update(account.id, display_name="Chloe")
    assert verifier.profile(token).display_name == "Zoe"
    assert verifier.profile(token, fresh=True).display_name == "Chloe"
    with pytest.raises(ConfigError, match="secret_server_key"):
        make(project_id=PROJECT).profile(token)


def test_an_outage_is_no_refusal(make: Callable[..., Any], stackauth: LocalStackAuth) -> None:
    verifier = make(project_id=PROJECT)
    token = stackauth.token(project_id=PROJECT)
    with stackauth.down(cold=True), pytest.raises(AuthServerError) as caught:
        verifier.verify(token)
    assert (caught.value.code, caught.value.retry_after) == (ErrorCode.SERVER_ERROR, 10)


def test_warm_up_and_status(make: Callable[..., Any], stackauth: LocalStackAuth) -> None:
    verifier = make(project_id=PROJECT)
    assert not verifier.status().ready
    verifier.warm_up()
    verifier.warm_up()
    assert verifier.status().ready
    assert verifier.status().failure is None
    assert stackauth.requests.count("jwks") == 1


def test_as_a_context_manager(stackauth: LocalStackAuth) -> None:
    with Verifier(project_id=PROJECT) as verifier:
        token = stackauth.token(project_id=PROJECT)
        assert verifier.verify(token).user_id
    assert verifier.verify(token).user_id, "what was closed opens again on demand"


def frames(error: BaseException) -> Iterator[dict[str, Any]]:
    traceback = error.__traceback__
    while traceback is not None:
        if "stackauth_middleware" in traceback.tb_frame.f_code.co_filename:
            yield dict(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next


def test_tracebacks_hold_no_token(make: Callable[..., Any], stackauth: LocalStackAuth) -> None:
    """An error tracker renders the variables of every frame."""
    token = stackauth.token(project_id=PROJECT, key="foreign")
    with pytest.raises(RefusedError) as caught:
        make(project_id=PROJECT).verify(token)
    assert all(token not in repr(variables) for variables in frames(caught.value))
    with pytest.raises(RefusedError) as caught:
        make(project_id=PROJECT).authenticate({"x-stack-access-token": token})
    assert all(token not in repr(variables) for variables in frames(caught.value))
