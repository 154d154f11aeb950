"""The short path: it returns what the long path returns, or nothing, and it is short."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stackauth_middleware
from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware
from stackauth_middleware._core.flow import Flow
from stackauth_middleware._core.key_sets import FRESH_FOR
from stackauth_middleware._core.outcome import Authenticated
from stackauth_middleware._core.records import RequestRecord
from stackauth_middleware._core.rules import CACHED_LENGTH
from stackauth_middleware._core.upstream import Answer
from stackauth_middleware._core.users import UserType
from stackauth_middleware.errors import ConfigError
from tests.network.conftest import patch_clocks

from ..drive import PROJECT, Seen, asgi, environ_of, http_scope, wsgi
from ..fake_fastapi import FastAPI, fake_fastapi  # noqa: F401 - a fixture
from .helpers import ANONYMOUS, NOW, RESTRICTED, WALL, Clock, FakeRunner, StackAuth, as_id, bounded, reply, token

pytestmark = pytest.mark.usefixtures("isolated_environment")

PACKAGE = Path(stackauth_middleware.__file__).parent
EXPIRY = WALL + 2 * FRESH_FOR
CACHED = {
    "normal": token(exp=EXPIRY),
    "restricted": token(RESTRICTED, exp=EXPIRY),
    "anonymous": token(ANONYMOUS, exp=EXPIRY),
}
TOKENS = {
    **CACHED,
    "never verified": token(exp=EXPIRY, name="Never Verified"),
    "tampered": CACHED["normal"][:-3] + "AAA",
    "garbage": "garbage",
    "none": "",
}
NORMAL = TOKENS["normal"]
SECRET = "ssk_" + "s" * 20


def primed(**settings: Any) -> StackAuthConfig:
    """Return a config with all keys and the tokens of `CACHED` in its caches."""
    config = StackAuthConfig(project_id=PROJECT, **settings)
    flow, runner = config.get_or_create(Flow), FakeRunner(Clock(), StackAuth())
    for kind in UserType:
        runner(flow.keys.refresh_if_stale(kind, NOW))
    for text in CACHED.values():
        flow._verify_locally(text, NOW, defer_refresh=False)
    return config


def outcome_of(config: StackAuthConfig, request: RequestRecord) -> Authenticated | None:
    return config.get_or_create(Flow).short_path.outcome(request, *NOW, in_event_loop=True)


# -- what takes it, and what does not ------------------------------------------------------------------

BEARER = {"authorization": f"Bearer {NORMAL}"}


@pytest.mark.parametrize(
    ("headers", "settings"),
    [
        (BEARER, {}),
        ({"x-stack-access-token": NORMAL}, {}),
        ({"x-hexclave-access-token": NORMAL}, {}),
        ({"origin": "https://app.example", **BEARER, "access-control-request-method": "GET"}, {}),
        (BEARER, {"token_sources": ["bearer"]}),
        (BEARER, {"default_access": "optional"}),
        (BEARER, {"rules": [Rule("/a/{id}", allow_restricted=True, methods=["GET"]), Rule("/**", "public")]}),
        (BEARER, {"secret_server_key": SECRET, "private_responses": True}),
        (BEARER, {"secret_server_key": SECRET, "api_keys": ["user", "team"]}),
    ],
    ids=as_id,
)
def test_cached_token_of_a_normal_user_takes_the_short_path(headers: dict[str, str], settings: Any) -> None:
    config, request = primed(**settings), RequestRecord("GET", "/a/b", "", headers)
    outcome = outcome_of(config, request)
    assert outcome is not None
    assert (outcome.token, outcome.request, outcome.config, outcome.in_event_loop) == (NORMAL, request, config, True)
    assert (outcome.error, outcome.refresh, outcome.per_user, outcome.is_preflight) == (None, None, True, False)
    assert outcome.user.user_type is UserType.NORMAL
    assert outcome.policy == config.policy("GET", "/a/b", "")


@pytest.mark.parametrize(
    ("request_", "settings"),
    [
        (RequestRecord("GET", "/", "", {}), {}),
        *((RequestRecord("GET", "/", "", {"authorization": f"Bearer {TOKENS[name]}"}), {"allow_anonymous": True})
          for name in TOKENS if name != "normal"),
        (RequestRecord("GET", "/", "", {**BEARER, "x-stack-auth": "{}"}), {}),
        (RequestRecord("GET", "/", "", {**BEARER, "x-stack-access-token": NORMAL}), {}),
        (RequestRecord("GET", "/", "", {**BEARER, "x-stack-auth": ""}), {"token_sources": ["bearer"]}),
        *((RequestRecord("GET", "/", "", {**BEARER, name: "sk_x"}), {"api_keys": ["user"], "secret_server_key": SECRET})
          for name in ("x-api-key", "x-stack-api-key", "x-hexclave-api-key")),
        (RequestRecord("GET", "/", "", BEARER), {"rules": [Rule("/", permission="a")], "secret_server_key": SECRET}),
        (RequestRecord("GET", "/", "", {"authorization": f"Basic {NORMAL}"}), {}),
        (RequestRecord("GET", "/", "", {"authorization": f"Bearer {NORMAL},"}), {}),
        (RequestRecord("GET", "/", "", BEARER), {"token_sources": ["x-stack-access-token"]}),
        (RequestRecord("GET", "/", "", BEARER), {"token_cache_size": 0}),
        (RequestRecord("OPTIONS", "/", "", BEARER), {}),
        (RequestRecord("WEBSOCKET", "/", "", BEARER, websocket=True), {}),
        (RequestRecord("GET", "//", "", BEARER), {"default_access": "optional"}),
        (RequestRecord("GET", "/", None, BEARER), {"default_access": "optional"}),
        (RequestRecord("GET", "/" + "a" * CACHED_LENGTH, "", BEARER), {}),
        (RequestRecord("A" * CACHED_LENGTH, "/", "", BEARER), {}),
        (RequestRecord("GET", "/", "", BEARER), {"rules": [Rule("/", "public")]}),
        (RequestRecord("GET", "/", "", BEARER), {"rules": [Rule("/", check=lambda user: True)]}),
        (RequestRecord("GET", "/", "", BEARER), {"rules": [Rule("/", profile=True)], "secret_server_key": SECRET}),
        (RequestRecord("GET", "/", "", BEARER), {"mode": "rest", "secret_server_key": SECRET}),
        (RequestRecord("GET", "/", "", BEARER), {"observers": [print]}),
    ],
    ids=as_id,
)  # fmt: skip
def test_every_other_request_is_left_to_the_long_path(request_: RequestRecord, settings: Any) -> None:
    assert outcome_of(primed(**settings), request_) is None


# -- equal to the long path ----------------------------------------------------------------------------


class Network:
    """Stack Auth is down."""

    send = staticmethod(lambda call, seconds: reply(b"", 500))

    async def asend(self, call: object, seconds: float) -> Answer:
        return reply(b"", 500)


AT_A = FastAPI()
AT_A.root_path = "/a"
ACCESS = st.sampled_from(["required", "required", "optional", "public"])
RULES = st.builds(
    Rule,
    st.sampled_from(["/a", "/a/*", "/a/**", "/b/{id}", "/**"]),
    st.sampled_from(["required", "optional"]),
    methods=st.sampled_from([None, None, ["GET"], ["OPTIONS", "POST"]]),
    check=st.sampled_from([None, None, lambda user: user.email is None]),
    allow_restricted=st.sampled_from([None, True, False]),
    api_keys=st.sampled_from([None, None, ["user"]]),
) | st.sampled_from([Rule("/a", "public"), Rule("/**", "public"), Rule("/a/*", permission="read")])
SETTINGS = st.fixed_dictionaries(
    {"rules": st.lists(RULES, max_size=2), "default_access": ACCESS, "secret_server_key": st.just(SECRET)},
    optional={
        "allow_anonymous": st.booleans(),
        "token_sources": st.lists(st.sampled_from(["bearer", "x-stack-access-token", "x-stack-auth"]), min_size=1),
        "root_path": st.sampled_from(["", "/a", "scope"]),
        "observers": st.just([lambda event: None]),
        "private_responses": st.booleans(),
        "state_key": st.sampled_from([None, "user"]),
        "request_user": st.booleans(),
        "pass_preflights": st.booleans(),
        "cors_origins": st.just(["*"]),
    },
)
VALUES = {
    "authorization": ["Bearer {}", "Bearer {}", "Bearer {}", "bearer {}", " Bearer {}", "Basic {}"],
    "x-stack-access-token": ["{}", "{}", " {}"],
    "x-hexclave-access-token": ["{}"],
    "x-stack-auth": ['{{"accessToken": "{}"}}', "{}"],
    "x-api-key": ["", "{}", "sk_{}"],
    "origin": ["https://app.example"],
    "access-control-request-method": ["GET"],
    "x-other": ["1"],
}
TOKEN = st.just(NORMAL) | st.sampled_from([*TOKENS.values()])
HEADER = st.sampled_from(sorted(VALUES)).flatmap(
    lambda name: st.tuples(st.just(name), st.builds(str.format, st.sampled_from(VALUES[name]), TOKEN))
)
HEADERS = st.lists(HEADER, max_size=3) | st.builds(lambda text: [("authorization", f"Bearer {text}")], TOKEN)
HEADERS |= st.just([("authorization", f"Bearer {NORMAL}")])
REQUESTS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "GET", "POST", "HEAD", "OPTIONS", "get", "WEBSOCKET"]),
        "path": st.sampled_from(["/a", "/a", "/a/b", "/A", "/b/1", "/a/", "//a", "/a;b", "/a%41", "/caf\xe9", ""]),
        "root_path": st.sampled_from(["", "", "/a", "/x", "/a/"]),
        "raw": st.sampled_from(["same", "same", "none", "%61", "query"]),
        "headers": HEADERS,
        "more": st.sampled_from([{}, {}, {"app": FastAPI()}, {"app": AT_A}, {"state": {"user": 1}},
                                 {"app_root_path": ""}, {"app_root_path": "/a"}, {"litestar_app": None}]),
    }
)  # fmt: skip
LATER = st.sampled_from([0.0, 0.0, FRESH_FOR - 1, FRESH_FOR, 2 * FRESH_FOR + 4, 2 * FRESH_FOR + 5])


def scope_of(request: dict[str, Any]) -> dict[str, Any]:
    raw = {"same": request["path"], "none": None, "%61": request["path"].replace("a", "%61"), "query": "/a?b"}
    raw_path = raw[request["raw"]]
    headers = [(name.encode(), value.encode()) for name, value in request["headers"]]
    more = {} if raw_path is None else {"raw_path": raw_path.encode()}
    same = {"method": request["method"], "root_path": request["root_path"], "query_string": b""}
    return http_scope(request["path"], headers, **same, **more, **request["more"])


def environ_of_request(request: dict[str, Any]) -> dict[str, Any]:
    joined: dict[str, str] = {}
    for name, value in request["headers"]:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    more = {"REQUEST_METHOD": request["method"], "SCRIPT_NAME": request["root_path"]}
    return environ_of(request["path"], joined, **more)


def published(seen: Seen) -> list[dict[str, Any]]:
    """Return the scopes or environs that reached the app; the outcome as its attributes, without config and input."""
    reached = []
    for mapping in seen.reached:
        outcome = mapping["stackauth.outcome"]
        names = {name for kind in type(outcome).__mro__ for name in getattr(kind, "__slots__", ())}
        shown = {name: getattr(outcome, name) for name in names - {"config"}}
        shown["request"] = shown["request"].__reduce__(), dict(shown["request"].headers), shown["request"].websocket
        reached.append({**mapping, "stackauth.outcome": (type(outcome), shown), "wsgi.input": None})
    return reached


def test_short_path_equals_the_long_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """For ASGI and WSGI: the same response, and the same scope or environ for the app."""
    clock, taken = Clock(), Counter[bool]()
    patch_clocks(monkeypatch, lambda: clock.now)
    monkeypatch.setattr("stackauth_middleware._io.network.transport_override", Network())

    @given(SETTINGS, REQUESTS, LATER)
    @bounded
    def compare(settings: dict[str, Any], request: dict[str, Any], later: float) -> None:
        try:
            short, long = primed(**settings), primed(**settings)
        except ConfigError:  # a rule that an earlier one hides
            return
        outcome = short.get_or_create(Flow).short_path.outcome

        def counted(*args: Any, **options: Any) -> Any:
            found = outcome(*args, **options)
            taken[found is not None] += 1
            return found

        monkeypatch.setattr(short.get_or_create(Flow).short_path, "outcome", counted)
        monkeypatch.setattr(long.get_or_create(Flow).short_path, "outcome", lambda *_, **__: None)
        clock.wall, clock.mono = NOW.wall + later, NOW.mono + later
        ways = [asgi(scope_of(request), config=config) for config in (short, long)]
        assert ways[0].same() == ways[1].same()
        assert published(ways[0]) == published(ways[1])
        ways = [wsgi(environ_of_request(request), config=config) for config in (short, long)]
        assert ways[0].same() == ways[1].same()
        assert published(ways[0]) == published(ways[1])

    compare()
    assert min(taken[True], taken[False]) > 20, "the examples must take both paths"


# -- short ---------------------------------------------------------------------------------------------


def calls_of(work: Any) -> list[tuple[str, str]]:
    """Return module and name of each call of a Python function of the package during `work`."""
    calls: list[tuple[str, str]] = []

    def note(frame: FrameType, what: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if what == "call" and path.is_relative_to(PACKAGE):
            calls.append((path.relative_to(PACKAGE).as_posix(), frame.f_code.co_name))

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("kind", ["asgi", "fastapi", "wsgi"])
def test_request_with_a_cached_token_makes_at_most_eight_calls(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call costs some 50 ns, and each module that it visits is cold in the caches of the processor."""
    patch_clocks(monkeypatch, lambda: NOW)
    config = primed()

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    more = {"app": FastAPI()} if kind == "fastapi" else {}
    scope = http_scope("/me", [(b"authorization", f"Bearer {NORMAL}".encode())], raw_path=b"/me", **more)
    environ = environ_of("/me", BEARER)
    asgi_middleware = StackAuthASGIMiddleware(app, config)
    wsgi_middleware = StackAuthWSGIMiddleware(lambda environ, start_response: [], config)

    def send() -> None:
        if kind == "wsgi":
            wsgi_middleware(environ, lambda *_: None)
        else:
            with pytest.raises(StopIteration):
                asgi_middleware(scope, None, None).send(None)

    send()  # the policy is cached by the first request
    calls = calls_of(send)
    assert (environ if kind == "wsgi" else scope)["stackauth.user"] is not None
    assert len(calls) <= 8, calls
    assert len({module for module, _ in calls}) <= 7 if kind == "fastapi" else 6, calls
