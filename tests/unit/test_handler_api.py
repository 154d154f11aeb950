"""Functions for handlers: they find the user in the request of any framework, and load its profile."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import anyio
import pydantic
import pytest

from stackauth_middleware._adapters import ERROR, OUTCOME, USER
from stackauth_middleware._core.api_keys import api_key_from_json
from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.outcome import Authenticated, KeyAuthenticated, Unauthenticated
from stackauth_middleware._core.policy import Policy
from stackauth_middleware._core.records import RequestRecord
from stackauth_middleware._core.upstream import Call, NoReply, Reply
from stackauth_middleware._core.users import User, UserProfile, UserType
from stackauth_middleware._handler_api import (
    aload_profile,
    get_api_key,
    get_user,
    load_profile,
    outcome_of,
    require_user,
)
from stackauth_middleware._io import network as network_module
from stackauth_middleware.errors import AuthServerError, ConfigError, ErrorCode, RefusedError

from .core.helpers import BROKEN, NORMAL, PROJECT, USER_ID, StackAuth, as_id, reply, token
from .core.test_api_keys import FORM
from .core.test_api_keys import body as key_body
from .core.test_user_profile import body
from .core.test_users import user

SIGNED_IN = user()
PUBLISHED: dict[str, Any] = {USER: SIGNED_IN, ERROR: None, OUTCOME: None}
UNAUTHENTICATED: dict[str, Any] = {USER: None, ERROR: None, OUTCOME: None}
INBOUND = RequestRecord("GET", "/", "", {})


def unverified(code: ErrorCode, retry_after: int | None) -> dict[str, Any]:
    """Return a scope as a middleware leaves it on an optional route where Stack Auth cannot be asked."""
    outcome = Unauthenticated(StackAuthConfig(project_id=PROJECT), INBOUND, code, retry_after)
    return {USER: None, ERROR: code, OUTCOME: outcome}


class StarletteLike(dict[str, Any]):
    """The request of Starlette is a mapping of the scope, and has the scope as an attribute."""

    @property
    def scope(self) -> dict[str, Any]:
        return PUBLISHED


class AnyAttribute:
    """Has every attribute, as proxies and mocks do; none is a mapping."""

    def __getattr__(self, name: str) -> str:
        return name


OBJECTS: dict[str, Any] = {
    "a scope": PUBLISHED,
    "a request with a scope": SimpleNamespace(scope=PUBLISHED),
    "a request with an environ": SimpleNamespace(environ=PUBLISHED),
    "a request with an env": SimpleNamespace(env=PUBLISHED),
    "a request with META": SimpleNamespace(META=PUBLISHED),
    "a request that is a mapping": StarletteLike(),
    "the scope first": SimpleNamespace(scope=PUBLISHED, environ=UNAUTHENTICATED, META=UNAUTHENTICATED),
    "a scope that is no mapping": SimpleNamespace(scope="http", environ=PUBLISHED),
    "an environ that holds the scope": {"asgi.scope": PUBLISHED},
    "a request whose environ holds the scope": SimpleNamespace(environ={"asgi.scope": PUBLISHED}),
    "CherryPy's request": SimpleNamespace(wsgi_environ=PUBLISHED),
    "a scope that holds the environ": {"wsgi_environ": PUBLISHED},
    "a scope in an environ in a scope": {"wsgi_environ": {"asgi.scope": PUBLISHED}},
    "a WSGI middleware below an ASGI middleware": {**PUBLISHED, "asgi.scope": UNAUTHENTICATED},
}


@pytest.mark.parametrize("obj", OBJECTS.values(), ids=OBJECTS)
def test_user_is_found_in_the_request_of_any_framework(obj: Any) -> None:
    assert get_user(obj) is SIGNED_IN
    assert require_user(obj) is SIGNED_IN


@pytest.mark.parametrize(
    "obj", [None, "request", 5, object(), [], AnyAttribute(), SimpleNamespace(scope=None)], ids=as_id
)
@pytest.mark.parametrize("read", [get_user, require_user, load_profile])
def test_object_without_scope_or_environ_is_a_type_error(read: Callable[[Any], Any], obj: Any) -> None:
    with pytest.raises(TypeError, match="is no request, scope or environ"):
        read(obj)


@pytest.mark.parametrize(
    "obj",
    [
        {},
        SimpleNamespace(scope={}),
        {"asgi.scope": {}},
        {"asgi.scope": None},
        {"state": {"user": SIGNED_IN}},
        {"user": SIGNED_IN},
    ],
    ids=str,
)
def test_without_a_middleware_get_user_is_none_and_require_user_raises(obj: Any) -> None:
    """`get_user` reads one key only. The copies in the state and for Starlette are not trusted."""
    assert get_user(obj) is None
    with pytest.raises(ConfigError, match="no Stack Auth middleware saw this request"):
        require_user(obj)


def test_error_names_the_bridges_that_drop_the_user_only_in_an_environ() -> None:
    for obj, named in (({"wsgi.input": None}, True), ({"type": "http"}, False), (endless(), False)):
        with pytest.raises(ConfigError) as caught:
            require_user(obj)
        assert ("a2wsgi.WSGIMiddleware keeps it" in str(caught.value)) is named


def endless() -> dict[str, Any]:
    scope: dict[str, Any] = {"wsgi_environ": {}}
    scope["wsgi_environ"]["asgi.scope"] = scope
    return scope


def test_class_of_a_request_is_a_type_error_that_says_so() -> None:
    with pytest.raises(TypeError, match="StarletteLike is a class; pass the request that the handler is called with"):
        require_user(StarletteLike)


def test_require_user_refuses_an_unauthenticated_request_as_missing_token() -> None:
    assert get_user(UNAUTHENTICATED) is None
    with pytest.raises(RefusedError) as caught:
        require_user(UNAUTHENTICATED)
    assert caught.value.code is ErrorCode.MISSING_TOKEN


@pytest.mark.parametrize(
    ("code", "retry_after"), [(ErrorCode.SERVER_ERROR, 7), (ErrorCode.MISCONFIGURED, None)], ids=str
)
def test_require_user_raises_auth_server_error_if_the_token_could_not_be_judged(
    code: ErrorCode, retry_after: int | None
) -> None:
    """On an optional route in an outage, the request reaches the app unauthenticated."""
    with pytest.raises(AuthServerError) as caught:
        require_user(unverified(code, retry_after))
    assert (caught.value.code, caught.value.retry_after) == (code, retry_after)


def test_get_user_as_a_fastapi_parameter_is_a_config_error() -> None:
    """`Depends(get_user)` would read the request from the query string, so a client could name any user."""
    with pytest.raises(ConfigError, match=r"contrib\.fastapi"):
        pydantic.validate_call(get_user)


# -- profiles -----------------------------------------------------------------------------------------


class Network:
    """A transport override: serves key sets, and `profile` as users/me."""

    def __init__(self) -> None:
        self.keys = StackAuth()
        self.profile: Reply | NoReply = reply(body())
        self.calls: list[tuple[str, threading.Thread]] = []

    def send(self, call: Call, seconds: float) -> Reply | NoReply:
        return self._answer("send", call)

    async def asend(self, call: Call, seconds: float) -> Reply | NoReply:
        return self._answer("asend", call)

    def _answer(self, how: str, call: Call) -> Reply | NoReply:
        if call.url.endswith(("/users/me", f"/users/{USER_ID}")):
            self.calls.append((how, threading.current_thread()))
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
    """Return the scope of an authenticated request."""
    now = time.time()
    config = StackAuthConfig(**{"project_id": PROJECT, "secret_server_key": "ssk_x", **settings})
    authenticated = Authenticated(
        SIGNED_IN, config, token(kind, iat=now, exp=now + 600), policy, in_event_loop, None, INBOUND
    )
    return {USER: SIGNED_IN, ERROR: None, OUTCOME: authenticated}


def load_in_loop(obj: Any, backend: str, **options: Any) -> UserProfile:
    async def load() -> UserProfile:
        return await aload_profile(obj, **options)

    return anyio.run(load, backend=backend)


LOADERS: dict[str, Callable[..., UserProfile]] = {
    "plain": load_profile,
    "asyncio": lambda obj, **options: load_in_loop(obj, "asyncio", **options),
    "trio": lambda obj, **options: load_in_loop(obj, "trio", **options),
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("in_event_loop", [False, True], ids=["wsgi", "asgi"])
def test_profile_of_the_user_is_loaded(network: Network, load: Callable[..., UserProfile], in_event_loop: bool) -> None:
    profile = load(request(in_event_loop=in_event_loop))
    assert (profile.id, profile.client_metadata) == (USER_ID, {"a": (1, {"b": None})})
    assert len(network.calls) == 1


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_profile_is_cached_unless_fresh(network: Network, load: Callable[..., UserProfile]) -> None:
    obj = request(in_event_loop=True)
    load(obj)
    load(obj)
    assert len(network.calls) == 1
    network.profile = reply(body(display_name="New"))
    assert load(obj, fresh=True).display_name == "New"
    assert len(network.calls) == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_aload_profile_below_wsgi_makes_the_call_in_a_worker_thread(network: Network, backend: str) -> None:
    """Flask runs each coroutine in a new event loop, with which pooled connections would be lost."""
    load_in_loop(request(in_event_loop=False), backend)
    load_in_loop(request(in_event_loop=True), backend)
    (how, worker), (ahow, here) = network.calls
    assert (how, ahow) == ("send", "asend")
    assert worker is not threading.current_thread()
    assert here is threading.current_thread()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_load_profile_raises_on_an_event_loop(network: Network, backend: str) -> None:
    async def load() -> UserProfile:
        return load_profile(request())

    with pytest.raises(RuntimeError, match=r"await aload_profile"):
        anyio.run(load, backend=backend)
    assert network.calls == []


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_unauthenticated_request_makes_no_network_call(network: Network, load: Callable[..., UserProfile]) -> None:
    for obj, error in (
        (UNAUTHENTICATED, RefusedError),
        (unverified(ErrorCode.SERVER_ERROR, 1), AuthServerError),
        ({}, ConfigError),
    ):
        with pytest.raises(error):
            load(obj)
    assert network.calls == []


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_without_a_key_loading_a_profile_is_a_config_error(
    network: Network, load: Callable[..., UserProfile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STACK_SECRET_SERVER_KEY", raising=False)
    with pytest.raises(ConfigError, match="secret_server_key is not set"):
        load(request(secret_server_key=""))
    assert network.calls == []


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_profile_that_the_policy_does_not_allow_is_refused(network: Network, load: Callable[..., UserProfile]) -> None:
    """The user was restricted after the token was issued. The policy is that of the request."""
    network.profile = reply(body(is_restricted=True, restricted_reason={"type": "restricted_by_administrator"}))
    with pytest.raises(RefusedError) as caught:
        load(request())
    assert caught.value.code is ErrorCode.RESTRICTED_NOT_ALLOWED
    lenient = Policy("required", profile=False, allow_restricted=True, allow_anonymous=False)
    assert load(request(policy=lenient)).is_restricted


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_outage_is_an_auth_server_error(network: Network, load: Callable[..., UserProfile]) -> None:
    network.profile = BROKEN
    with pytest.raises(AuthServerError) as caught:
        load(request())
    assert caught.value.code is ErrorCode.SERVER_ERROR


def test_pickled_request_has_no_outcome_and_loads_no_profile(network: Network) -> None:
    """Pickling drops the token."""
    obj = pickle.loads(pickle.dumps(dict(request())))
    assert get_user(obj) == SIGNED_IN
    assert outcome_of(obj) is None
    with pytest.raises(RuntimeError, match="was pickled"):
        load_profile(obj)
    assert network.calls == []


def test_outcome_of_an_authenticated_request_is_found() -> None:
    obj = request()
    assert outcome_of(obj) is obj[OUTCOME]


# -- API keys -----------------------------------------------------------------------------------------


def with_key(owner: User | None) -> dict[str, Any]:
    """Return the scope of a request with an API key of the user, or of a team."""
    config = StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_x")
    api_key = api_key_from_json(key_body(user_id=USER_ID), FORM)
    outcome = KeyAuthenticated(api_key, owner, config, POLICY, INBOUND, in_event_loop=True)
    return {USER: owner, ERROR: None, OUTCOME: outcome}


def test_api_key_of_the_request_is_found() -> None:
    obj = with_key(None)
    assert get_api_key(obj) is obj[OUTCOME].api_key
    assert outcome_of(obj) is obj[OUTCOME]
    assert get_api_key(request()) is get_api_key(UNAUTHENTICATED) is get_api_key({}) is None


def test_api_key_of_a_team_has_no_user() -> None:
    for function in (require_user, load_profile):
        with pytest.raises(RefusedError) as caught:
            function(with_key(None))
        assert caught.value.code is ErrorCode.FORBIDDEN
    assert get_user(with_key(None)) is None


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_profile_of_the_owner_of_an_api_key_is_loaded_by_id(network: Network, load: Callable[..., UserProfile]) -> None:
    profile = load(with_key(SIGNED_IN))
    assert profile.id == USER_ID
    assert len(network.calls) == 1
