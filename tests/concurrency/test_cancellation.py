"""Cancellation at every await point, of one or two of three concurrent tasks: threats H1, H6 and H8.

The others get their outcomes, each cancellation costs one more call at most, no fetch stays in flight and no lock
held, and the next request succeeds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from stackauth_middleware import (
    AsyncVerifier,
    ErrorCode,
    RefusedError,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    aload_profile,
    require_user,
)
from stackauth_middleware._core.key_sets import FRESH_FOR, MIN_FETCH_INTERVAL
from stackauth_middleware._core.users import UserType
from stackauth_middleware._io import network
from tests.network.conftest import patch_clocks
from tests.unit.core.helpers import ANONYMOUS, NORMAL, PROJECT, RESTRICTED, SIGNERS, USER_ID, Signer, reply
from tests.unit.io.loopback import Skew, live_token

from .cancelling import MEANS, Actor, Gone, Means, Scene, SlowIssuer, Stepped, walk

NEW = Signer(77_777, "rotated")
NEVER = 4_000_000_000
"""Expiry of the tokens, beyond any time that the tests set."""
TOKENS = {kind: [live_token(kind, refresh_token_id=f"session {at}", exp=NEVER) for at in range(4)] for kind in UserType}
NEW_TOKENS = [live_token(signer=NEW, refresh_token_id=f"session {at}", exp=NEVER) for at in range(4)]
JUNK = {
    kind: [live_token(kind, signer=Signer(88_888, f"junk {at}"), exp=NEVER) for at in range(4)] for kind in UserType
}
Report = Callable[..., None]
each_means = pytest.mark.parametrize("means", MEANS, ids=str)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowIssuer:
    slow = SlowIssuer()
    slow.profile = reply({"id": USER_ID, "display_name": "Jane"})
    monkeypatch.setattr(network, "transport_override", slow)
    return slow


@pytest.fixture
def skew(monkeypatch: pytest.MonkeyPatch) -> Skew:
    skew = Skew()
    patch_clocks(monkeypatch, skew)
    return skew


@pytest.fixture(autouse=True)
def no_warnings(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Assert that neither we nor asyncio log a warning, such as an exception that was never retrieved."""
    yield
    assert [each.getMessage() for each in caplog.get_records("call") if each.levelno >= logging.WARNING] == []


@pytest.fixture
def report() -> Report:
    """Print the number of cancellation points of each task, and check it against a minimum."""

    def report(points: list[int], at_least: list[int]) -> None:
        print(f"cancelled at {points} points")
        assert all(found >= due for found, due in zip(points, at_least, strict=True)), points

    return report


def config(**settings: Any) -> StackAuthConfig:
    return StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_canary", **settings)


# -- verifiers -------------------------------------------------------------------------------------


async def session_of(verifier: AsyncVerifier, token: str) -> tuple[str | None, str | None]:
    user = await verifier.verify(token)
    return user.session_id, user.profile and user.profile.display_name


async def code_of(verifier: AsyncVerifier, token: str) -> ErrorCode:
    with pytest.raises(RefusedError) as refused:
        await verifier.verify(token)
    return refused.value.code


def of_verifier(verifier: AsyncVerifier, tokens: list[str], name: str | None = None, calls: int = 1) -> Scene:
    asks = [partial(session_of, verifier, token) for token in tokens]
    right = [(f"session {at}", name) for at in range(len(tokens))]
    return Scene(verifier._runner, asks[:3], right[:3], asks[3], right[3], calls)


@each_means
@pytest.mark.parametrize(("kind", "calls"), [(NORMAL, 1), (RESTRICTED, 2)], ids=str)
def test_h1_cancelled_during_a_cold_fetch(
    kind: UserType, calls: int, means: Means, slow: SlowIssuer, report: Report
) -> None:
    async def stage() -> Scene:
        return of_verifier(AsyncVerifier(config(allow_restricted=True)), TOKENS[kind], calls=calls)

    report(walk(stage, slow, means), at_least=[1 + 2 * calls, 1, 1])


@each_means
def test_h1_cancelled_during_the_fetch_of_a_new_key(means: Means, slow: SlowIssuer, skew: Skew, report: Report) -> None:
    async def stage() -> Scene:
        verifier = AsyncVerifier(config())
        skew.seconds, slow.signers = 0, dict(SIGNERS)
        await verifier.prefetch_keys()
        skew.seconds, slow.signers = MIN_FETCH_INTERVAL, {**SIGNERS, NORMAL: (*SIGNERS[NORMAL], NEW)}
        return of_verifier(verifier, NEW_TOKENS)

    report(walk(stage, slow, means), at_least=[3, 1, 1])


@each_means
def test_h1_cancelled_during_the_fetch_of_an_unknown_key(
    means: Means, slow: SlowIssuer, skew: Skew, report: Report
) -> None:
    """A cancelled caller causes no refusal of another, and a finished fetch is not repeated."""

    async def stage() -> Scene:
        verifier = AsyncVerifier(config())
        skew.seconds = 0
        await verifier.prefetch_keys()
        skew.seconds = MIN_FETCH_INTERVAL
        asks = [partial(code_of, verifier, token) for token in JUNK[NORMAL]]
        right = ErrorCode.INVALID_TOKEN
        return Scene(verifier._runner, asks[:3], [right] * 3, asks[3], right)

    report(walk(stage, slow, means), at_least=[3, 1, 1])


@each_means
@pytest.mark.parametrize("kind", [NORMAL, RESTRICTED, ANONYMOUS])
def test_f1_cancelled_requests_with_unknown_keys_cause_one_fetch(
    kind: UserType, means: Means, slow: SlowIssuer, skew: Skew
) -> None:
    """And no outage, with and without cached key sets."""

    async def main() -> None:
        verifier = AsyncVerifier(config(allow_anonymous=True))
        skew.seconds = 0
        await verifier.prefetch_keys()
        skew.seconds = MIN_FETCH_INTERVAL
        slow.calls.clear()
        slow.all_follow = anyio.Event()
        slow.all_follow.set()
        for at in range(40):
            await Actor(partial(verifier.verify, JUNK[kind][at % 4]), means, at=1).run()
        assert len(slow.calls) == (1 if kind is NORMAL else 2)
        assert await session_of(verifier, TOKENS[kind][0]) == ("session 0", None)
        assert len(slow.calls) == (1 if kind is NORMAL else 2)

    anyio.run(main, backend=means.backend)


@each_means
@pytest.mark.parametrize("cached", [True, False])
def test_h1_cancelled_during_users_me(cached: bool, means: Means, slow: SlowIssuer, report: Report) -> None:
    async def stage() -> Scene:
        verifier = AsyncVerifier(config(mode="rest", profile_ttl=30 if cached else 0))
        await verifier.prefetch_keys()
        scene = of_verifier(verifier, TOKENS[NORMAL], "Jane")
        if not cached:
            scene.is_cached = lambda: False
        return scene

    report(walk(stage, slow, means), at_least=[3, 1, 1])


# -- the middleware --------------------------------------------------------------------------------------


async def answer_of(middleware: Any, token: str, path: str = "/") -> tuple[int, bytes]:
    """Send a request through the middleware. The server's `send` suspends, too."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        await checkpoint()
        sent.append(message)

    headers = [(b"x-stack-access-token", token.encode())]
    await middleware({"type": "http", "method": "GET", "path": path, "headers": headers}, None, send)
    return sent[0]["status"], sent[1]["body"]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Respond with the session id and, on one path, the name of the user."""
    name = (await aload_profile(scope)).display_name if scope["path"] == "/name" else None
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{require_user(scope).session_id} {name}".encode()})


def of_middleware(middleware: StackAuthASGIMiddleware, path: str, name: str | None) -> Scene:
    asks = [partial(answer_of, middleware, token, path) for token in TOKENS[NORMAL]]
    right = [(200, f"session {at} {name}".encode()) for at in range(len(asks))]
    return Scene(middleware._runner, asks[:3], right[:3], asks[3], right[3])


@each_means
def test_h1_cancelled_while_the_handler_loads_a_profile(means: Means, slow: SlowIssuer, report: Report) -> None:
    async def stage() -> Scene:
        shared = config()
        await AsyncVerifier(shared).prefetch_keys()
        return of_middleware(StackAuthASGIMiddleware(app, shared), "/name", "Jane")

    report(walk(stage, slow, means), at_least=[5, 3, 3])


@each_means
def test_h1_cancelled_during_the_refresh_after_the_response(
    means: Means, slow: SlowIssuer, skew: Skew, report: Report
) -> None:
    """If cancelled in the app, another request refreshes; if in the refresh, the response was sent before."""

    async def stage() -> Scene:
        shared = config()
        skew.seconds = 0
        await AsyncVerifier(shared).prefetch_keys()
        skew.seconds = FRESH_FOR
        middleware = StackAuthASGIMiddleware(app, shared)
        scene = of_middleware(middleware, "/", None)
        scene.is_cached = lambda: middleware._flow.keys.record(NORMAL).is_fresh(skew())
        return scene

    report(walk(stage, slow, means), at_least=[5, 2, 2])


@each_means
@pytest.mark.parametrize("shutdown", ["once all are served", "during the fetch"])
def test_h8_cancelled_during_the_prefetch_of_a_lifespan(
    shutdown: str, means: Means, slow: SlowIssuer, report: Report
) -> None:
    """The lifespan is cancelled at its own points and at those of the prefetch, which requests follow."""

    async def stage() -> Scene:
        middleware = StackAuthASGIMiddleware(lifespan_app, config())
        scene = of_middleware(middleware, "/", None)

        async def lifespan() -> list[str]:
            sent: list[str] = []
            coming = iter(["lifespan.startup", "lifespan.shutdown"])

            async def receive() -> Any:
                message = next(coming)
                if message == "lifespan.shutdown":
                    await (scene.done if shutdown == "once all are served" else slow.all_follow).wait()
                return {"type": message}

            async def send(message: Any) -> None:
                await checkpoint()
                sent.append(message["type"])

            await middleware({"type": "lifespan"}, receive, send)
            return sent

        def on_actors(actors: list[Actor]) -> None:
            middleware._prefetch_keys = lambda: Stepped(prefetch_keys(), actors[0].on_suspension)

        prefetch_keys = middleware._prefetch_keys
        scene.asks[0], scene.right[0] = lifespan, ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        scene.on_actors = on_actors
        scene.leaves = int(shutdown == "during the fetch")
        scene.is_cached = lambda: bool(middleware._flow.keys.record(NORMAL).keys)
        return scene

    report(walk(stage, slow, means), at_least=[5, 3, 3])


async def lifespan_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        await app(scope, receive, send)
        return
    for word in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{word}"
        await send({"type": f"lifespan.{word}.complete"})


# -- apps that are cancelled, and clients that disconnect ----------------------------------------------


@each_means
def test_h6_cancellation_of_the_app_propagates_unchanged(means: Means, slow: SlowIssuer, skew: Skew) -> None:
    """The exception is the one that the app saw. Another request refreshes stale keys."""
    seen: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await checkpoint()
        except BaseException as error:
            seen.append(error)
            raise

    async def main() -> Actor:
        shared = config()
        await AsyncVerifier(shared).prefetch_keys()
        skew.seconds = FRESH_FOR
        actor = Actor(partial(answer_of, StackAuthASGIMiddleware(app, shared), TOKENS[NORMAL][0]), means, at=1)
        await actor.run()
        return actor

    actor = anyio.run(main, backend=means.backend)
    assert actor.outcome is Gone
    assert [actor.raised] == seen
    assert len(slow.calls) == 1


@each_means
def test_h6_stale_keys_are_refreshed_after_a_client_disconnected(means: Means, slow: SlowIssuer, skew: Skew) -> None:
    """If the app returns. If it raises, the exception propagates, and another request refreshes."""

    class ClientDisconnect(Exception):
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == {"type": "http.disconnect"}
        if scope["path"] == "/raises":
            raise gone

    async def receive() -> Any:
        await checkpoint()
        return {"type": "http.disconnect"}

    async def main() -> None:
        shared = config()
        await AsyncVerifier(shared).prefetch_keys()
        skew.seconds = FRESH_FOR
        middleware = StackAuthASGIMiddleware(app, shared)
        headers = [(b"x-stack-access-token", TOKENS[NORMAL][0].encode())]
        with pytest.raises(ClientDisconnect) as caught:
            await middleware({"type": "http", "path": "/raises", "headers": headers}, receive, sending)
        assert caught.value is gone
        assert len(slow.calls) == 1
        await middleware({"type": "http", "path": "/", "headers": headers}, receive, sending)
        assert len(slow.calls) == 2

    async def sending(message: Any) -> None:
        raise AssertionError("the client has disconnected")

    gone = ClientDisconnect()
    anyio.run(main, backend=means.backend)
