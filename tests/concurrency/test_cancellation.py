"""Cancelled at every await point, one task or two of three who ask together: threats H1, H6 and H8.

Whoever is cancelled, the others get their verdict, Stack Auth is asked once more at most for each who
left, nothing is left aloft or held, and the next request finds all in order.
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
from tests.unit.core.helpers import ANONYMOUS, NORMAL, PROJECT, RESTRICTED, SIGNERS, USER_ID, Signer, reply
from tests.unit.io.loopback import Skew, live_token

from .cancelling import MEANS, Actor, Gone, Means, Scene, SlowIssuer, Stepped, walk

NEW = Signer(77_777, "rotated")
NEVER = 4_000_000_000
"""When the tokens expire: time passes at will here."""
TOKENS = {kind: [live_token(kind, refresh_token_id=f"session {at}", exp=NEVER) for at in range(4)] for kind in UserType}
NEW_TOKENS = [live_token(signer=NEW, refresh_token_id=f"session {at}", exp=NEVER) for at in range(4)]
JUNK = {
    kind: [live_token(kind, signer=Signer(88_888, f"junk {at}"), exp=NEVER) for at in range(4)] for kind in UserType
}
Told = Callable[..., None]
by_all_means = pytest.mark.parametrize("means", MEANS, ids=str)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowIssuer:
    slow = SlowIssuer()
    slow.profile = reply({"id": USER_ID, "display_name": "Jane"})
    monkeypatch.setattr(network, "transport_override", slow)
    return slow


@pytest.fixture
def skew(monkeypatch: pytest.MonkeyPatch) -> Skew:
    skew = Skew()
    for module in ("_io.async_runner", "_verifiers", "_handler_api", "asgi"):
        monkeypatch.setattr(f"stackauth_middleware.{module}.clocks", skew)
    return skew


@pytest.fixture(autouse=True)
def nothing_is_complained_of(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Neither by us nor by asyncio, of an exception that nobody retrieved say."""
    yield
    assert [each.getMessage() for each in caplog.get_records("call") if each.levelno >= logging.WARNING] == []


@pytest.fixture
def told() -> Told:
    """Show at how many points each task was cancelled, and hold that against a minimum: no walk may become empty."""

    def told(points: list[int], at_least: list[int]) -> None:
        print(f"cancelled at {points} points")
        assert all(found >= due for found, due in zip(points, at_least, strict=True)), points

    return told


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


@by_all_means
@pytest.mark.parametrize(("kind", "calls"), [(NORMAL, 1), (RESTRICTED, 2)], ids=str)
def test_h1_a_cold_key_set(kind: UserType, calls: int, means: Means, slow: SlowIssuer, told: Told) -> None:
    async def stage() -> Scene:
        return of_verifier(AsyncVerifier(config(allow_restricted=True)), TOKENS[kind], calls=calls)

    told(walk(stage, slow, means), at_least=[1 + 2 * calls, 1, 1])


@by_all_means
def test_h1_an_unknown_kid_of_a_new_key(means: Means, slow: SlowIssuer, skew: Skew, told: Told) -> None:
    async def stage() -> Scene:
        verifier = AsyncVerifier(config())
        skew.seconds, slow.signers = 0, dict(SIGNERS)
        await verifier.prefetch_keys()
        skew.seconds, slow.signers = MIN_FETCH_INTERVAL, {**SIGNERS, NORMAL: (*SIGNERS[NORMAL], NEW)}
        return of_verifier(verifier, NEW_TOKENS)

    told(walk(stage, slow, means), at_least=[3, 1, 1])


@by_all_means
def test_h1_an_unknown_kid_that_is_junk(means: Means, slow: SlowIssuer, skew: Skew, told: Told) -> None:
    """Nobody is refused by another's leaving; and once the flight has landed, no other is caused."""

    async def stage() -> Scene:
        verifier = AsyncVerifier(config())
        skew.seconds = 0
        await verifier.prefetch_keys()
        skew.seconds = MIN_FETCH_INTERVAL
        asks = [partial(code_of, verifier, token) for token in JUNK[NORMAL]]
        right = ErrorCode.INVALID_TOKEN
        return Scene(verifier._runner, asks[:3], [right] * 3, asks[3], right)

    told(walk(stage, slow, means), at_least=[3, 1, 1])


@by_all_means
@pytest.mark.parametrize("kind", [NORMAL, RESTRICTED, ANONYMOUS])
def test_f1_junk_kids_whose_askers_all_leave(kind: UserType, means: Means, slow: SlowIssuer, skew: Skew) -> None:
    """Who asks for keys and is gone before they come has caused one flight, and no outage; held sets or none."""

    async def main() -> None:
        verifier = AsyncVerifier(config(allow_anonymous=True))
        skew.seconds = 0
        await verifier.prefetch_keys()
        skew.seconds = MIN_FETCH_INTERVAL
        slow.calls.clear()
        slow.aboard = anyio.Event()
        slow.aboard.set()
        for at in range(40):
            await Actor(partial(verifier.verify, JUNK[kind][at % 4]), means, at=1).run()
        assert len(slow.calls) == (1 if kind is NORMAL else 2)
        assert await session_of(verifier, TOKENS[kind][0]) == ("session 0", None)
        assert len(slow.calls) == (1 if kind is NORMAL else 2)

    anyio.run(main, backend=means.backend)


@by_all_means
@pytest.mark.parametrize("remembered", [True, False])
def test_h1_users_me(remembered: bool, means: Means, slow: SlowIssuer, told: Told) -> None:
    async def stage() -> Scene:
        verifier = AsyncVerifier(config(mode="rest", profile_ttl=30 if remembered else 0))
        await verifier.prefetch_keys()
        scene = of_verifier(verifier, TOKENS[NORMAL], "Jane")
        if not remembered:
            scene.has_landed = lambda: False
        return scene

    told(walk(stage, slow, means), at_least=[3, 1, 1])


# -- the door --------------------------------------------------------------------------------------


async def answer_of(door: Any, token: str, path: str = "/") -> tuple[int, bytes]:
    """Send a request through `door`. The server's `send` suspends, too."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        await checkpoint()
        sent.append(message)

    headers = [(b"x-stack-access-token", token.encode())]
    await door({"type": "http", "method": "GET", "path": path, "headers": headers}, None, send)
    return sent[0]["status"], sent[1]["body"]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Say whose session it is, and on one path what the user is called."""
    name = (await aload_profile(scope)).display_name if scope["path"] == "/name" else None
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{require_user(scope).session_id} {name}".encode()})


def of_door(door: StackAuthASGIMiddleware, path: str, name: str | None) -> Scene:
    asks = [partial(answer_of, door, token, path) for token in TOKENS[NORMAL]]
    right = [(200, f"session {at} {name}".encode()) for at in range(len(asks))]
    return Scene(door._runner, asks[:3], right[:3], asks[3], right[3])


@by_all_means
def test_h1_a_profile_that_the_handler_loads(means: Means, slow: SlowIssuer, told: Told) -> None:
    async def stage() -> Scene:
        shared = config()
        await AsyncVerifier(shared).prefetch_keys()
        return of_door(StackAuthASGIMiddleware(app, shared), "/name", "Jane")

    told(walk(stage, slow, means), at_least=[5, 3, 3])


@by_all_means
def test_h1_a_stale_set_that_is_refreshed_after_the_answer(
    means: Means, slow: SlowIssuer, skew: Skew, told: Told
) -> None:
    """Cancelled in the app, it leaves the refresh to another; in the refresh, its answer is out already."""

    async def stage() -> Scene:
        shared = config()
        skew.seconds = 0
        await AsyncVerifier(shared).prefetch_keys()
        skew.seconds = FRESH_FOR
        door = StackAuthASGIMiddleware(app, shared)
        scene = of_door(door, "/", None)
        scene.has_landed = lambda: door._flow.keys.record(NORMAL).is_fresh(skew().mono)
        return scene

    told(walk(stage, slow, means), at_least=[5, 2, 2])


@by_all_means
@pytest.mark.parametrize("shutdown", ["once all are served", "during the fetch"])
def test_h8_the_early_fetch_of_a_lifespan(shutdown: str, means: Means, slow: SlowIssuer, told: Told) -> None:
    """The lifespan is cancelled at its own points and at those of the fetch beside it; requests have joined that."""

    async def stage() -> Scene:
        door = StackAuthASGIMiddleware(lifespan_app, config())
        scene = of_door(door, "/", None)

        async def lifespan() -> list[str]:
            sent: list[str] = []
            coming = iter(["lifespan.startup", "lifespan.shutdown"])

            async def receive() -> Any:
                message = next(coming)
                if message == "lifespan.shutdown":
                    await (scene.done if shutdown == "once all are served" else slow.aboard).wait()  # type: ignore[union-attr]
                return {"type": message}

            async def send(message: Any) -> None:
                await checkpoint()
                sent.append(message["type"])

            await door({"type": "lifespan"}, receive, send)
            return sent

        def on_actors(actors: list[Actor]) -> None:
            door._prefetch_keys = lambda: Stepped(prefetch_keys(), actors[0].on_suspension)  # type: ignore[assignment, method-assign]

        prefetch_keys = door._prefetch_keys
        scene.asks[0], scene.right[0] = lifespan, ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        scene.on_actors = on_actors
        scene.leaves = int(shutdown == "during the fetch")
        scene.has_landed = lambda: bool(door._flow.keys.record(NORMAL).keys)
        return scene

    told(walk(stage, slow, means), at_least=[5, 3, 3])


async def lifespan_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        await app(scope, receive, send)
        return
    for word in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{word}"
        await send({"type": f"lifespan.{word}.complete"})


# -- what the app is cancelled by, and what its client does -------------------------------------------


@by_all_means
def test_h6_the_cancellation_of_the_app_passes_untouched(means: Means, slow: SlowIssuer, skew: Skew) -> None:
    """It is the very exception that the app saw; a refresh that was due is left to another."""
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


@by_all_means
def test_h6_whose_client_is_gone_refreshes_all_the_same(means: Means, slow: SlowIssuer, skew: Skew) -> None:
    """Where the app just returns; what it raises passes untouched, and the refresh is left to another."""

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
        door = StackAuthASGIMiddleware(app, shared)
        headers = [(b"x-stack-access-token", TOKENS[NORMAL][0].encode())]
        with pytest.raises(ClientDisconnect) as caught:
            await door({"type": "http", "path": "/raises", "headers": headers}, receive, sending)
        assert caught.value is gone
        assert len(slow.calls) == 1
        await door({"type": "http", "path": "/", "headers": headers}, receive, sending)
        assert len(slow.calls) == 2

    async def sending(message: Any) -> None:
        raise AssertionError("nobody is there to send to")

    gone = ClientDisconnect()
    anyio.run(main, backend=means.backend)
