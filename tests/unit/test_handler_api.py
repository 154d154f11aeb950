"""How a handler reads back what a door wrote: from whatever object its framework calls a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import anyio
import pydantic
import pytest

from stackauth_middleware._adapters import ERROR, OUTCOME, USER
from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.outcome import Authenticated, Unauthenticated
from stackauth_middleware._core.records import RequestRecord
from stackauth_middleware._core.rules import Policy
from stackauth_middleware._core.upstream import Call, NoReply, Reply
from stackauth_middleware._core.users import UserProfile, UserType
from stackauth_middleware._handler_api import aload_profile, get_user, load_profile, require_user
from stackauth_middleware._io import network as network_module
from stackauth_middleware.errors import AuthServerError, ConfigError, ErrorCode, RefusedError

from .core.helpers import BROKEN, NORMAL, PROJECT, USER_ID, StackAuth, as_id, reply, token
from .core.test_user_profile import body
from .core.test_users import user

SOMEBODY = user()
WRITTEN: dict[str, Any] = {USER: SOMEBODY, ERROR: None, OUTCOME: None}
UNAUTHENTICATED: dict[str, Any] = {USER: None, ERROR: None, OUTCOME: None}
INBOUND = RequestRecord("GET", "/", "", {})


def unverified(code: ErrorCode, retry_after: int | None) -> dict[str, Any]:
    """Return a scope as a middleware leaves it on an optional route where Stack Auth cannot be asked."""
    outcome = Unauthenticated(StackAuthConfig(project_id=PROJECT), INBOUND, code, retry_after)
    return {USER: None, ERROR: code, OUTCOME: outcome}


class StarletteLike(dict[str, Any]):
    """Starlette's request is a mapping of the scope itself, and has it as an attribute."""

    @property
    def scope(self) -> dict[str, Any]:
        return WRITTEN


class Elsewhere:
    """Answers every attribute, as proxies and mocks do, with what is no mapping."""

    def __getattr__(self, name: str) -> str:
        return name


OBJECTS: dict[str, Any] = {
    "a scope": WRITTEN,
    "a request with a scope": SimpleNamespace(scope=WRITTEN),
    "a request with an environ": SimpleNamespace(environ=WRITTEN),
    "a request with an env": SimpleNamespace(env=WRITTEN),
    "a request with META": SimpleNamespace(META=WRITTEN),
    "a request that is a mapping": StarletteLike(),
    "the scope first": SimpleNamespace(scope=WRITTEN, environ=UNAUTHENTICATED, META=UNAUTHENTICATED),
    "a scope that is no mapping": SimpleNamespace(scope="http", environ=WRITTEN),
    "an environ that holds the scope": {"asgi.scope": WRITTEN},
    "a request whose environ holds the scope": SimpleNamespace(environ={"asgi.scope": WRITTEN}),
    "an environ of its own door inside another's scope": {**WRITTEN, "asgi.scope": UNAUTHENTICATED},
}


@pytest.mark.parametrize("obj", OBJECTS.values(), ids=OBJECTS)
def test_the_user_is_found_in_whatever_a_framework_calls_a_request(obj: Any) -> None:
    assert get_user(obj) is SOMEBODY
    assert require_user(obj) is SOMEBODY


@pytest.mark.parametrize("obj", [None, "request", 5, object(), [], Elsewhere(), SimpleNamespace(scope=None)], ids=as_id)
@pytest.mark.parametrize("read", [get_user, require_user, load_profile])
def test_what_is_no_request_is_told_so(read: Callable[[Any], Any], obj: Any) -> None:
    with pytest.raises(TypeError, match="is no request, scope or environ"):
        read(obj)


@pytest.mark.parametrize(
    "obj",
    [
        {},
        SimpleNamespace(scope={}),
        {"asgi.scope": {}},
        {"asgi.scope": None},
        {"state": {"user": SOMEBODY}},
        {"user": SOMEBODY},
    ],
    ids=str,
)
def test_without_a_middleware_nobody_ever_is(obj: Any) -> None:
    """`get_user` reads one key only: the convenience in the state is not believed."""
    assert get_user(obj) is None
    with pytest.raises(ConfigError, match="no Stack Auth middleware saw this request"):
        require_user(obj)


def test_nobody_is_a_missing_token_for_who_requires_a_user() -> None:
    assert get_user(UNAUTHENTICATED) is None
    with pytest.raises(RefusedError) as caught:
        require_user(UNAUTHENTICATED)
    assert caught.value.code is ErrorCode.MISSING_TOKEN


@pytest.mark.parametrize(
    ("row", "retry_after"), [(ErrorCode.SERVER_ERROR, 7), (ErrorCode.MISCONFIGURED, None)], ids=str
)
def test_somebody_who_could_not_be_judged_is_not_called_missing(row: ErrorCode, retry_after: int | None) -> None:
    """On an optional route the door lets a request through as nobody while Stack Auth is down."""
    with pytest.raises(AuthServerError) as caught:
        require_user(unverified(row, retry_after))
    assert (caught.value.code, caught.value.retry_after) == (row, retry_after)


def test_fastapi_is_told_at_once_that_it_cannot_pass_a_request() -> None:
    """`Depends(get_user)` would read the request out of the query string: anybody could name a user."""
    with pytest.raises(ConfigError, match=r"contrib\.fastapi"):
        pydantic.validate_call(get_user)


# -- profiles -----------------------------------------------------------------------------------------


class Network:
    """Stands in for the network: key sets, and users/me as it is told."""

    def __init__(self) -> None:
        self.keys = StackAuth()
        self.profile: Reply | NoReply = reply(body())
        self.asked: list[tuple[str, threading.Thread]] = []

    def send(self, call: Call, seconds: float) -> Reply | NoReply:
        return self._answer("send", call)

    async def asend(self, call: Call, seconds: float) -> Reply | NoReply:
        return self._answer("asend", call)

    def _answer(self, how: str, call: Call) -> Reply | NoReply:
        if call.url.endswith("/users/me"):
            self.asked.append((how, threading.current_thread()))
            return self.profile
        answer = self.keys(call)
        assert isinstance(answer, Reply)
        return answer


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network()
    monkeypatch.setattr(network_module, "transport_override", made)
    return made


POLICY = Policy("required", profile=False, allow_restricted=False, allow_anonymous=False)


def request(
    *, in_event_loop: bool = False, policy: Policy = POLICY, kind: UserType = NORMAL, **settings: Any
) -> Mapping[str, Any]:
    """Return a scope as a door leaves it for a verified user."""
    now = time.time()
    config = StackAuthConfig(**{"project_id": PROJECT, "secret_server_key": "ssk_x", **settings})
    authenticated = Authenticated(
        SOMEBODY, config, token(kind, iat=now, exp=now + 600), policy, in_event_loop, None, INBOUND
    )
    return {USER: SOMEBODY, ERROR: None, OUTCOME: authenticated}


def in_a_loop(obj: Any, backend: str, **options: Any) -> UserProfile:
    async def load() -> UserProfile:
        return await aload_profile(obj, **options)

    return anyio.run(load, backend=backend)


LOADERS: dict[str, Callable[..., UserProfile]] = {
    "plain": load_profile,
    "asyncio": lambda obj, **options: in_a_loop(obj, "asyncio", **options),
    "trio": lambda obj, **options: in_a_loop(obj, "trio", **options),
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("in_event_loop", [False, True], ids=["wsgi", "asgi"])
def test_the_profile_of_the_user_of_a_request(
    network: Network, load: Callable[..., UserProfile], in_event_loop: bool
) -> None:
    profile = load(request(in_event_loop=in_event_loop))
    assert (profile.id, profile.client_metadata) == (USER_ID, {"a": (1, {"b": None})})
    assert len(network.asked) == 1


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_a_fresh_profile_is_asked_for_again(network: Network, load: Callable[..., UserProfile]) -> None:
    obj = request(in_event_loop=True)
    load(obj)
    load(obj)
    assert len(network.asked) == 1
    network.profile = reply(body(display_name="New"))
    assert load(obj, fresh=True).display_name == "New"
    assert len(network.asked) == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_under_the_wsgi_door_a_worker_thread_asks(network: Network, backend: str) -> None:
    """Flask runs each coroutine in a loop of its own: a connection of that loop would die with it."""
    in_a_loop(request(in_event_loop=False), backend)
    in_a_loop(request(in_event_loop=True), backend)
    (how, worker), (ahow, here) = network.asked
    assert (how, ahow) == ("send", "asend")
    assert worker is not threading.current_thread()
    assert here is threading.current_thread()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_plain_function_does_not_stop_an_event_loop(network: Network, backend: str) -> None:
    async def load() -> UserProfile:
        return load_profile(request())

    with pytest.raises(RuntimeError, match=r"await aload_profile"):
        anyio.run(load, backend=backend)
    assert network.asked == []


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_without_a_user_nothing_is_asked(network: Network, load: Callable[..., UserProfile]) -> None:
    for obj, error in (
        (UNAUTHENTICATED, RefusedError),
        (unverified(ErrorCode.SERVER_ERROR, 1), AuthServerError),
        ({}, ConfigError),
    ):
        with pytest.raises(error):
            load(obj)
    assert network.asked == []


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_without_a_key_nothing_can_be_asked(
    network: Network, load: Callable[..., UserProfile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STACK_SECRET_SERVER_KEY", raising=False)
    with pytest.raises(ConfigError, match="secret_server_key is not set"):
        load(request(secret_server_key=""))
    assert network.asked == []


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_a_profile_that_shows_a_user_who_is_not_to_be_let_in_is_refused(
    network: Network, load: Callable[..., UserProfile]
) -> None:
    """Restricted since the token was minted: by the policy of the very request."""
    network.profile = reply(body(is_restricted=True, restricted_reason={"type": "restricted_by_administrator"}))
    with pytest.raises(RefusedError) as caught:
        load(request())
    assert caught.value.code is ErrorCode.RESTRICTED_NOT_ALLOWED
    lenient = Policy("required", profile=False, allow_restricted=True, allow_anonymous=False)
    assert load(request(policy=lenient)).is_restricted


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_an_outage_is_an_auth_server_error(network: Network, load: Callable[..., UserProfile]) -> None:
    network.profile = BROKEN
    with pytest.raises(AuthServerError) as caught:
        load(request())
    assert caught.value.code is ErrorCode.SERVER_ERROR
