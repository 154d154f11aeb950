"""ASGI middleware: scope, state, lifespan, WebSocket, preflights and private responses."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Iterator
from functools import wraps
from time import monotonic
from typing import Any

import anyio
import httpx
import pytest
from asgi_lifespan import LifespanManager

from stackauth_middleware import (
    AuthServerError,
    ConfigError,
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    get_user,
    require_user,
)
from stackauth_middleware import asgi as module
from stackauth_middleware._core.flow import Flow
from stackauth_middleware._core.key_sets import FRESH_FOR
from stackauth_middleware._core.outcome import Unauthenticated
from stackauth_middleware.testing import LocalStackAuth

from .drive import PROJECT, asgi, http_scope, settings_of

pytestmark = pytest.mark.usefixtures("isolated_environment", "newest_config")

NAME = b"x-stack-access-token"


def signed(stackauth: LocalStackAuth, **claims: Any) -> list[tuple[bytes, bytes]]:
    """Return headers with a valid token."""
    return [(NAME, stackauth.token(project_id=PROJECT, **claims).encode())]


def test_user_is_written_into_the_scope_in_place(stackauth: LocalStackAuth) -> None:
    scope = http_scope(headers=signed(stackauth))
    seen = asgi(scope)
    assert (seen.status, seen.body, seen.headers) == (200, b"app", {})
    assert seen.reached[0] is scope
    user = scope["stackauth.user"]
    assert user is get_user(scope) is require_user(scope)
    assert scope["state"] == {"user": user}
    assert scope["stackauth.error"] is None
    assert "user" not in scope
    assert "auth" not in scope


def test_cached_token_is_published_as_a_new_one_is(stackauth: LocalStackAuth) -> None:
    config, headers = settings_of({}), signed(stackauth)
    scopes = [http_scope(headers=headers) for _ in range(2)]
    assert [asgi(scope, config=config).status for scope in scopes] == [200, 200]
    assert scopes[0]["stackauth.user"] is scopes[1]["stackauth.user"]
    assert scopes[0].keys() == scopes[1].keys()


def test_unauthenticated_request_is_refused_without_a_network_call(stackauth: LocalStackAuth) -> None:
    seen = asgi(http_scope())
    assert (seen.status, seen.reached) == (401, [])
    assert seen.body == b'{"error": "Access token required", "code": "missing_token"}'
    assert seen.headers == {
        "content-type": "application/json",
        "content-length": str(len(seen.body)),
        "cache-control": "no-store",
        "www-authenticate": 'Bearer realm="stack-auth"',
    }
    assert stackauth.requests.count() == 0


# -- state -----------------------------------------------------------------------------------------


def test_state_without_the_key_is_changed_in_place(stackauth: LocalStackAuth) -> None:
    state = {"db": 1}
    scope = http_scope(headers=signed(stackauth), state=state)
    asgi(scope)
    assert scope["state"] is state
    assert state == {"db": 1, "user": scope["stackauth.user"]}


def test_state_that_has_the_key_is_copied(stackauth: LocalStackAuth) -> None:
    state = {"user": "another user", "db": 1}
    scope = http_scope(headers=signed(stackauth), state=state)
    asgi(scope)
    assert state == {"user": "another user", "db": 1}
    assert scope["state"] == {"db": 1, "user": scope["stackauth.user"]}


def test_state_that_is_no_mapping_is_unchanged(stackauth: LocalStackAuth) -> None:
    state = object()
    scope = http_scope(headers=signed(stackauth), state=state)
    assert asgi(scope).status == 200
    assert scope["state"] is state


def test_state_key_is_configurable(stackauth: LocalStackAuth) -> None:
    scope = http_scope(headers=signed(stackauth))
    asgi(scope, state_key="member")
    assert scope["state"] == {"member": scope["stackauth.user"]}
    scope = http_scope(headers=signed(stackauth))
    asgi(scope, state_key=None)
    assert "state" not in scope


def test_keys_set_by_an_outer_layer_are_overwritten(stackauth: LocalStackAuth) -> None:
    """E7: on public routes as well."""
    preset = {"stackauth.user": "root", "stackauth.error": "x", "stackauth.outcome": "y", "state": {"user": "root"}}
    scope = http_scope(**preset)
    asgi(scope, default_access="public")
    user, error, outcome, state = (scope[name] for name in preset)
    assert (user, error, state) == (None, None, {"user": None})
    assert isinstance(outcome, Unauthenticated)


def test_request_user_sets_user_and_auth_of_starlette(stackauth: LocalStackAuth) -> None:
    scope = http_scope(headers=signed(stackauth))
    asgi(scope, request_user=True)
    assert scope["user"] is scope["stackauth.user"]
    assert scope["user"].is_authenticated
    assert scope["auth"].scopes == ["authenticated"]
    scope = http_scope()
    asgi(scope, request_user=True, default_access="optional")
    assert not scope["user"]
    assert (scope["user"].is_authenticated, scope["user"].display_name, scope["user"].identity) == (False, "", "")
    assert scope["auth"].scopes == []


def test_concurrent_requests_with_one_shared_state_see_their_own_users(stackauth: LocalStackAuth) -> None:
    """asgi-lifespan passes one state to all requests."""
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for answer in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{answer}.complete"})
            return
        await anyio.sleep(0.01)
        body = scope["state"]["user"].user_id.encode()
        order.append(body.decode())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def main() -> None:
        middleware = StackAuthASGIMiddleware(app, project_id=PROJECT)
        users = [stackauth.users.create() for _ in range(20)]
        async with LifespanManager(middleware) as manager:
            transport = httpx.ASGITransport(manager.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:

                async def one(user: Any) -> None:
                    headers = {"x-stack-access-token": stackauth.token(user, project_id=PROJECT)}
                    assert (await client.get("/", headers=headers)).text == user.id

                async with anyio.create_task_group() as group:
                    for user in users:
                        group.start_soon(one, user)

    asyncio.run(main())
    assert len(set(order)) == 20


# -- invalid scopes, and what passes through ------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        {"headers": 5},
        {"headers": [(NAME, "text")]},
        {"headers": [(NAME,)]},
        {"path": b"/"},
        {"method": 1},
        {"root_path": 3},
        {"app_root_path": 3},
        {"headers": [([], b"")]},
    ],
    ids=str,
)
def test_invalid_scope_is_refused(odd: dict[str, Any], stackauth: LocalStackAuth) -> None:
    seen = asgi(http_scope() | odd)
    assert (seen.status, seen.code, seen.reached) == (400, "invalid_request", [])


def test_scope_without_path_method_and_headers_is_unauthenticated(stackauth: LocalStackAuth) -> None:
    assert asgi({"type": "http"}).code == "missing_token"


def test_exception_of_the_app_propagates(stackauth: LocalStackAuth) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("the app's own")

    with pytest.raises(LookupError, match="the app's own"):
        asgi(http_scope(), app, default_access="public")


def test_scope_of_unknown_type_is_passed_on_unchanged(stackauth: LocalStackAuth) -> None:
    scope = {"type": "mqtt"}
    seen = asgi(scope)
    assert seen.reached == [{"type": "mqtt"}]


def test_asgi_2_app_is_adapted(stackauth: LocalStackAuth) -> None:
    class App:
        def __init__(self, scope: Any) -> None:
            self.scope = scope

        async def __call__(self, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        middleware = StackAuthASGIMiddleware(App, project_id=PROJECT, default_access="public")
        await middleware(http_scope(), None, send)

    asyncio.run(main())
    assert sent[0]["status"] == 204


def test_wrong_setting_is_raised_where_it_is_written_and_within_a_call_fails_that() -> None:
    """See test_misconfigured.py for all of the latter."""
    with pytest.raises(ConfigError, match="leeway is 400"):
        StackAuthASGIMiddleware(asgi, project_id=PROJECT, leeway=400)
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await StackAuthASGIMiddleware(asgi, project_id=PROJECT, leeway=400)(scope, receive, send)

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(ConfigError, match="leeway is 400"):
        asyncio.run(app(http_scope(), send, send))
    assert sent[0]["status"] == 500


def test_scope_in_place_of_an_app_is_not_shown() -> None:
    with pytest.raises(ConfigError, match="app is a scope or environ, as if the class") as caught:
        StackAuthASGIMiddleware(http_scope(headers=[(b"x-stack-auth", b"canary")]), project_id=PROJECT)
    assert "canary" not in str(caught.value)


def test_wsgi_app_is_a_config_error() -> None:
    def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
        return []

    with pytest.raises(ConfigError, match="must be an ASGI app"):
        StackAuthASGIMiddleware(wsgi_app, project_id=PROJECT)
    assert StackAuthASGIMiddleware(type, project_id=PROJECT).app is type, "callables without a signature are accepted"


@pytest.mark.parametrize("kind", ["http", "websocket", "lifespan", "mqtt"])
def test_return_value_of_the_app_is_passed_on(kind: str, stackauth: LocalStackAuth) -> None:
    """Servers report an app that returns something by mistake."""

    async def app(scope: Any, receive: Any, send: Any) -> str:
        return "result"

    middleware = StackAuthASGIMiddleware(app, project_id=PROJECT, default_access="public")
    assert asyncio.run(middleware(http_scope(type=kind), None, None)) == "result"


def test_app_with_the_signature_of_a_view_is_accepted() -> None:
    """`functools.wraps` gives it one."""

    @wraps(get_user)
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    assert StackAuthASGIMiddleware(app, project_id=PROJECT).app is app


def test_middleware_around_the_app_that_calls_it_is_a_config_error(stackauth: LocalStackAuth) -> None:
    """Each would call the other, up to a RecursionError."""

    class App:
        """Calls its `asgi_app`, as Quart does."""

        asgi_app: Any

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.asgi_app(scope, receive, send)

    app = App()
    app.asgi_app = StackAuthASGIMiddleware(app, project_id=PROJECT)
    for kind in ("http", "lifespan"):
        with pytest.raises(ConfigError, match=r"StackAuthASGIMiddleware\(app\.asgi_app\)"):
            asyncio.run(app(http_scope(type=kind), None, None))


# -- a stale key set -------------------------------------------------------------------------------


def test_stale_key_set_is_refreshed_after_the_response(
    stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stale-while-revalidate: the request that found it stale refreshes it once its app has returned."""
    config = settings_of({})
    headers = signed(stackauth)
    later = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: monotonic() + later)
    asgi(http_scope(headers=headers), config=config)
    assert stackauth.requests.count("jwks") == 1
    later = FRESH_FOR + 1
    during: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        during.append(stackauth.requests.count("jwks"))

    asgi(http_scope(headers=headers), app, config=config)
    assert (during, stackauth.requests.count("jwks")) == ([1], 2)


def test_internal_error_after_the_response_is_only_logged(
    stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings_of({})
    headers = signed(stackauth)
    asgi(http_scope(headers=headers), config=config)
    monkeypatch.setattr(module, "monotonic", lambda: monotonic() + FRESH_FOR + 1)

    def broken(*_: Any) -> Any:
        raise ArithmeticError("internal")

    monkeypatch.setattr(config.get_or_create(Flow).keys, "refresh_if_stale", broken)
    assert asgi(http_scope(headers=headers), config=config).status == 200
    assert "could not be refreshed" in caplog.text


# -- lifespan --------------------------------------------------------------------------------------


def lifespan(middleware: StackAuthASGIMiddleware, *, at_shutdown: Any = None) -> list[str]:
    """Run a whole lifespan, and return the types of the messages sent."""
    sent: list[str] = []

    async def main() -> None:
        to_app: asyncio.Queue[Any] = asyncio.Queue()

        async def send(message: Any) -> None:
            sent.append(message["type"])

        async def shut_down() -> None:
            await asyncio.sleep(0.05)
            if at_shutdown is not None:
                at_shutdown()
            await to_app.put({"type": "lifespan.shutdown"})

        await to_app.put({"type": "lifespan.startup"})
        later = asyncio.create_task(shut_down())
        try:
            await middleware({"type": "lifespan", "state": {}}, to_app.get, send)
        finally:
            later.cancel()

    asyncio.run(main())
    return sent


async def with_lifespan(scope: Any, receive: Any, send: Any) -> None:
    """Complete a lifespan, as an app."""
    for answer in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{answer}"
        await send({"type": f"lifespan.{answer}.complete"})


BOTH = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_keys_are_prefetched_once_the_app_has_started(stackauth: LocalStackAuth) -> None:
    asked: list[int] = []
    config = StackAuthConfig(project_id=PROJECT)
    middleware = StackAuthASGIMiddleware(with_lifespan, config)
    assert lifespan(middleware, at_shutdown=lambda: asked.append(stackauth.requests.count("jwks"))) == BOTH
    assert asked == [1]
    asgi(http_scope(headers=signed(stackauth)), config=config)
    assert stackauth.requests.count("jwks") == 1


def test_prefetch_can_be_turned_off(stackauth: LocalStackAuth) -> None:
    middleware = StackAuthASGIMiddleware(with_lifespan, project_id=PROJECT, prefetch_keys=False)
    assert lifespan(middleware) == BOTH
    assert stackauth.requests.count() == 0


def test_prefetch_delays_neither_startup_nor_shutdown(stackauth: LocalStackAuth) -> None:
    with stackauth.delay(60):
        assert lifespan(StackAuthASGIMiddleware(with_lifespan, project_id=PROJECT)) == BOTH


def test_failed_prefetch_is_only_logged(
    stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    middleware = StackAuthASGIMiddleware(with_lifespan, project_id=PROJECT)

    def broken() -> Any:
        raise ArithmeticError("internal")

    monkeypatch.setattr(middleware._flow.keys, "prefetch_keys", broken)
    assert lifespan(middleware) == BOTH
    assert "could not be prefetched" in caplog.text


class OwnBaseException(BaseException):
    """Neither an `Exception` nor one that event loops treat specially."""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("at", ["start", "lifespan.startup", "lifespan.shutdown"])
@pytest.mark.parametrize("raised", [LookupError(), OwnBaseException(), SystemExit(3), GeneratorExit()], ids=repr)
def test_lifespan_exception_of_any_kind_propagates_as_it_is(
    raised: BaseException, at: str, backend: str, stackauth: LocalStackAuth
) -> None:
    """While keys are prefetched too: nothing wraps it."""
    events = iter(["start", "lifespan.startup", "lifespan.shutdown"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == at:
                raise raised
            await send({"type": f"{message['type']}.complete"})

    async def receive() -> Any:
        await anyio.lowlevel.checkpoint()
        return {"type": next(events)}

    async def send(message: Any) -> None: ...

    async def main() -> BaseException | None:
        try:
            await StackAuthASGIMiddleware(app, project_id=PROJECT)({"type": "lifespan"}, receive, send)
        except BaseException as error:
            return error
        return None

    with stackauth.delay(60):
        assert anyio.run(main, backend=backend) is raised


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("started", [True, False])
def test_waiting_lifespan_can_be_closed(prefetch: bool, started: bool, stackauth: LocalStackAuth) -> None:
    """Without an event loop: the lifespan runs to where the app waits, and the ``finally`` of the app runs at close."""
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            if started:
                await send({"type": "lifespan.startup.complete"})
            await receive()
        finally:
            log.append("finally")

    @types.coroutine
    def forever() -> Iterator[None]:
        yield

    async def receive() -> Any:
        await forever()

    async def send(message: Any) -> None:
        log.append(message["type"])

    middleware = StackAuthASGIMiddleware(app, project_id=PROJECT, prefetch_keys=prefetch)
    lifespan = middleware({"type": "lifespan"}, receive, send)
    lifespan.send(None)
    lifespan.close()
    assert log == ["lifespan.startup.complete", "finally"][not started :]


def test_lifespan_without_an_event_loop_completes(stackauth: LocalStackAuth) -> None:
    sent: list[str] = []
    events = iter(["startup", "shutdown"])

    async def receive() -> Any:
        return {"type": f"lifespan.{next(events)}"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    with pytest.raises(StopIteration):
        StackAuthASGIMiddleware(with_lifespan, project_id=PROJECT)({"type": "lifespan"}, receive, send).send(None)
    assert sent == BOTH


def test_connections_are_closed_at_shutdown(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    middleware = StackAuthASGIMiddleware(with_lifespan, project_id=PROJECT)

    async def aclose() -> None:
        closed.append("closed")

    monkeypatch.setattr(middleware._runner, "aclose", aclose)
    assert lifespan(middleware) == BOTH
    assert closed == ["closed"]


# -- WebSocket -------------------------------------------------------------------------------------


def websocket(
    scope: dict[str, Any] | None = None, *, app_accepts: Any = None, **settings: Any
) -> tuple[list[Any], list[Any], int]:
    """Return the messages to the client, the scopes the app received, and the number of messages received."""
    sent: list[Any] = []
    reached: list[Any] = []
    received = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)
        await receive()
        await send({"type": "websocket.accept", **(app_accepts or {})})

    async def receive() -> Any:
        nonlocal received
        received += 1
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    whole = {"type": "websocket", "path": "/", "headers": [], "subprotocols": [], **(scope or {})}
    asyncio.run(StackAuthASGIMiddleware(app, settings_of(settings))(whole, receive, send))
    return sent, reached, received


def test_websocket_with_a_user_reaches_the_app(stackauth: LocalStackAuth) -> None:
    sent, reached, received = websocket({"headers": signed(stackauth)})
    assert (sent, received) == ([{"type": "websocket.accept"}], 1)
    assert reached[0]["stackauth.user"] is not None


@pytest.mark.parametrize(
    ("claims", "code"), [({}, 3000), ({"user_type": "restricted"}, 3003), ({"expires_in": -60}, 3000)]
)
def test_websocket_is_refused_with_a_close_code(claims: Any, code: int, stackauth: LocalStackAuth) -> None:
    headers = signed(stackauth, **claims) if claims else []
    assert websocket({"headers": headers}) == ([{"type": "websocket.close", "code": code}], [], 1)


def test_websocket_in_an_outage_is_closed_with_try_again_later(stackauth: LocalStackAuth) -> None:
    headers = signed(stackauth)
    with stackauth.down(cold=True):
        assert websocket({"headers": headers}) == ([{"type": "websocket.close", "code": 1013}], [], 1)


def test_websocket_is_refused_with_a_response_if_the_server_supports_it(stackauth: LocalStackAuth) -> None:
    sent, reached, received = websocket({"extensions": {"websocket.http.response": {}}})
    assert (reached, received) == ([], 1)
    assert [message["type"] for message in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert sent[0]["status"] == 401
    assert (b"www-authenticate", b'Bearer realm="stack-auth"') in sent[0]["headers"]
    assert b'"code": "missing_token"' in sent[1]["body"]


@pytest.mark.parametrize(
    ("offered", "chosen"), [([], None), (["chat"], "chat"), (["chat", "stackauth", "x"], "stackauth"), ([5], None)]
)
def test_websocket_refusal_accept_accepts_and_closes(
    offered: Any, chosen: str | None, stackauth: LocalStackAuth
) -> None:
    """Browsers do not show the status of a refused upgrade to the page."""
    scope = {"subprotocols": offered, "extensions": {"websocket.http.response": {}}}
    if offered == [5]:
        scope["headers"] = 5
    sent, reached, _ = websocket(scope, websocket_refusal="accept")
    assert sent == [{"type": "websocket.accept", "subprotocol": chosen}, {"type": "websocket.close", "code": 3000}]
    assert reached == []


def offering(stackauth: LocalStackAuth, *others: str) -> dict[str, Any]:
    offered = [*others, "stackauth", stackauth.token(project_id=PROJECT)]
    header = (b"sec-websocket-protocol", ", ".join(offered).encode())
    return {"subprotocols": offered, "headers": [(b"host", b"app"), header]}


def test_subprotocol_token_source_is_opt_in(stackauth: LocalStackAuth) -> None:
    sent, reached, _ = websocket(offering(stackauth))
    assert (sent, reached) == ([{"type": "websocket.close", "code": 3000}], [])


def test_subprotocol_token_source_is_hidden_and_echoed(stackauth: LocalStackAuth) -> None:
    sent, reached, _ = websocket(offering(stackauth), token_sources=["websocket"])
    assert sent == [{"type": "websocket.accept", "subprotocol": "stackauth"}]
    assert reached[0]["stackauth.user"] is not None
    assert reached[0]["subprotocols"] == []
    assert reached[0]["headers"] == [(b"host", b"app")]


def test_subprotocols_without_a_token_are_unchanged(stackauth: LocalStackAuth) -> None:
    scope = {"subprotocols": ["chat"], "headers": [*signed(stackauth), (b"sec-websocket-protocol", b"chat")]}
    sent, reached, _ = websocket(scope, token_sources=["websocket", "x-stack-access-token"])
    assert sent == [{"type": "websocket.accept"}]
    assert reached[0]["subprotocols"] == ["chat"]


def test_subprotocol_chosen_by_the_app_is_kept(stackauth: LocalStackAuth) -> None:
    scope = offering(stackauth, "chat")
    sent, reached, _ = websocket(scope, token_sources=["websocket"], app_accepts={"subprotocol": "chat"})
    assert sent == [{"type": "websocket.accept", "subprotocol": "chat"}]
    assert reached[0]["subprotocols"] == ["chat"]
    assert (b"sec-websocket-protocol", b"chat") in reached[0]["headers"]
    sent, _, _ = websocket(offering(stackauth, "chat"), token_sources=["websocket"])
    assert sent == [{"type": "websocket.accept"}], "another was offered: the app chose none of them"
    sent, _, _ = websocket(offering(stackauth), token_sources=["websocket"], app_accepts={"subprotocol": "own"})
    assert sent == [{"type": "websocket.accept", "subprotocol": "own"}]


def test_rule_for_websockets_does_not_match_http(stackauth: LocalStackAuth) -> None:
    rules = [Rule("/feed", "public", methods=["WEBSOCKET"])]
    assert websocket({"path": "/feed"}, rules=rules)[0] == [{"type": "websocket.accept"}]
    assert asgi(http_scope("/feed"), rules=rules).status == 401


@pytest.mark.parametrize("method", ["WEBSOCKET", "WebSocket"])
def test_http_method_named_websocket_does_not_match_a_rule_for_websockets(
    stackauth: LocalStackAuth, method: str
) -> None:
    """Views of Django and mounts of Starlette run for any method."""
    rules = [Rule("/feed", "public", methods=["WEBSOCKET"])]
    seen = asgi(http_scope("/feed", method=method), rules=rules)
    assert (seen.status, seen.code, seen.reached) == (401, "missing_token", [])
    assert asgi(http_scope("/feed", method=method), default_access="public").status == 200


# -- CORS ------------------------------------------------------------------------------------------


def test_refusal_is_readable_from_an_allowed_origin(stackauth: LocalStackAuth) -> None:
    seen = asgi(http_scope(headers=[(b"origin", b"https://app.example")]), cors_origins=["https://app.example"])
    assert seen.headers["access-control-allow-origin"] == "https://app.example"
    assert seen.headers["access-control-expose-headers"] == "WWW-Authenticate, Retry-After"
    assert seen.headers["vary"] == "Origin"
    other = asgi(http_scope(headers=[(b"origin", b"https://evil.example")]), cors_origins=["https://app.example"])
    assert "access-control-allow-origin" not in other.headers


def test_require_user_on_an_optional_route_in_an_outage_raises_auth_server_error(stackauth: LocalStackAuth) -> None:
    headers = signed(stackauth)
    with stackauth.down(cold=True):
        seen = asgi(http_scope(headers=headers), default_access="optional")
    with pytest.raises(AuthServerError) as caught:
        require_user(seen.reached[0])
    assert caught.value.retry_after == 10


# -- preflights ------------------------------------------------------------------------------------

RELAYED = [(b"access-control-allow-origin", b"https://app.example"), (b"vary", b"Origin")]
DROPPED = [(b"content-type", b"text/plain"), (b"set-cookie", b"a=b"), (b"location", b"/x"), (b"content-length", b"6")]
PREFLIGHT = [(b"origin", b"https://app.example"), (b"access-control-request-method", b"GET")]
START = {"type": "http.response.start", "status": 202, "headers": [*RELAYED, *DROPPED], "trailers": True}
BODIES: dict[str, list[dict[str, Any]]] = {
    "body": [START, {"type": "http.response.body", "body": b"secret"}],
    "stream": [START, *[{"type": "http.response.body", "body": b"secret", "more_body": True}] * 3],
    "file": [START, {"type": "http.response.pathsend", "path": "/etc/passwd"}],
    "descriptor": [START, {"type": "http.response.zerocopysend", "file": 0}],
    "trailers": [START, {"type": "http.response.trailers", "headers": [(b"x", b"secret")]}],
    "two responses": [START, {**START, "status": 200, "headers": [(b"x", b"secret")]}],
    "early messages": [
        {"type": "http.response.early_hint", "links": [b"secret"]},
        {"type": "http.response.push"},
        START,
    ],
}


@pytest.mark.parametrize("messages", BODIES.values(), ids=BODIES)
def test_passed_preflight_relays_status_and_cors_headers_only(
    messages: list[dict[str, Any]], stackauth: LocalStackAuth
) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["stackauth.user"] is None
        for message in messages:
            await send(message)

    scope = http_scope("/secret", PREFLIGHT, method="OPTIONS")
    assert len(asgi(scope, app, sent=sent, pass_preflights=True).reached) == 1
    assert sent == [
        {"type": "http.response.start", "status": 202, "headers": [*RELAYED, (b"content-length", b"0")]},
        {"type": "http.response.body", "body": b""},
    ]


# -- private responses -----------------------------------------------------------------------------


@pytest.mark.parametrize("private", [True, False])
def test_response_to_a_user_is_private_if_the_setting_says_so(private: bool, stackauth: LocalStackAuth) -> None:
    sent: list[Any] = []
    seen = asgi(http_scope(headers=signed(stackauth)), sent=sent, private_responses=private)
    vary = "X-Stack-Access-Token, X-Hexclave-Access-Token, Authorization, X-Stack-Auth, X-Hexclave-Auth"
    assert seen.headers == ({"vary": vary, "cache-control": "private"} if private else {})
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


def test_short_body_of_a_refused_request_is_received() -> None:
    """Other bodies are not: `tests/unit/io/test_request_body.py`."""
    events: list[str] = []

    async def receive() -> Any:
        events.append("received")
        return {"type": "http.request", "body": b"x", "more_body": False}

    async def send(message: Any) -> None:
        events.append(message["type"])

    scope = http_scope(headers=[(b"content-length", b"1")], method="POST")
    asyncio.run(StackAuthASGIMiddleware(lambda scope, receive, send: None, project_id=PROJECT)(scope, receive, send))
    assert events == ["received", "http.response.start", "http.response.body"]
