"""Leaders and followers whose threads are killed: by a signal, or by an exception of another thread (H1).

Python lets such an exception out where a function begins, among others; so one is raised at the
start of each of our functions that a leader calls, and in each of its HTTP calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import stackauth_middleware
from stackauth_middleware import StackAuthConfig, Verifier
from stackauth_middleware._core import cache
from stackauth_middleware._core.key_sets import MIN_FETCH_INTERVAL
from stackauth_middleware._core.upstream import Call, NoReply, Reply
from stackauth_middleware._io import network
from tests.unit.core.helpers import NORMAL, PROJECT, RESTRICTED, SIGNERS, USER_ID, Signer, reply
from tests.unit.io.loopback import Skew, live_token

from ..security.issuer import CountingIssuer

NEW = Signer(77_777, "rotated")
NEVER = 4_000_000_000
PACKAGE = str(Path(stackauth_middleware.__file__).parent)
FOLLOWERS = 2


class HoldingIssuer(CountingIssuer):
    """Blocks the first call until `go` is set, and then kills its thread by calling `end`.

    Attributes:
        number: the call in which the leader is killed, from 1; 0 for none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.profile = reply({"id": USER_ID, "display_name": "Jane"})
        self.begun, self.go = threading.Event(), threading.Event()
        self.number = 0
        self.end: Callable[[], None] = lambda: None

    def send(self, call: Call, seconds: float) -> Reply | NoReply:
        answer = super().send(call, seconds)
        if len(self.calls) == max(1, self.number):
            sys.settrace(None) if self.number else None
            self.begun.set()
            assert self.go.wait(10)
            if self.number:
                self.end()
        return answer


@pytest.fixture
def put_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[], HoldingIssuer]:
    """Return a function that replaces the network by a new issuer."""

    def put_in() -> HoldingIssuer:
        issuer = HoldingIssuer()
        monkeypatch.setattr(network, "transport_override", issuer)
        return issuer

    return put_in


@pytest.fixture
def skew(monkeypatch: pytest.MonkeyPatch) -> Skew:
    skew = Skew()
    for module in ("_io.sync_runner", "_verifiers"):
        monkeypatch.setattr(f"stackauth_middleware.{module}.clocks", skew)
    return skew


# -- scenes -------------------------------------------------------------------------------------

PutIn = Callable[[], HoldingIssuer]
Stage = Callable[[HoldingIssuer, Skew], tuple[Verifier, list[str]]]


def tokens_of(kind: Any = NORMAL, **changes: Any) -> list[str]:
    return [live_token(kind, refresh_token_id=f"session {at}", exp=NEVER, **changes) for at in range(FOLLOWERS + 2)]


TOKENS = {kind: tokens_of(kind) for kind in (NORMAL, RESTRICTED)}
NEW_TOKENS = tokens_of(signer=NEW)


def verifier_of(**settings: Any) -> Verifier:
    return Verifier(StackAuthConfig(project_id=PROJECT, secret_server_key="ssk", allow_restricted=True, **settings))


def warmed_up(issuer: HoldingIssuer, verifier: Verifier) -> Verifier:
    issuer.go.set()
    verifier.prefetch_keys()
    issuer.go.clear()
    issuer.begun.clear()
    issuer.calls.clear()
    return verifier


def cold_keys(issuer: HoldingIssuer, skew: Skew) -> tuple[Verifier, list[str]]:
    return verifier_of(), TOKENS[NORMAL]


def two_documents(issuer: HoldingIssuer, skew: Skew) -> tuple[Verifier, list[str]]:
    return verifier_of(), TOKENS[RESTRICTED]


def a_new_key(issuer: HoldingIssuer, skew: Skew) -> tuple[Verifier, list[str]]:
    skew.seconds, issuer.signers = 0, dict(SIGNERS)
    verifier = warmed_up(issuer, verifier_of())
    skew.seconds, issuer.signers = MIN_FETCH_INTERVAL, {**SIGNERS, NORMAL: (*SIGNERS[NORMAL], NEW)}
    return verifier, NEW_TOKENS


def users_me(issuer: HoldingIssuer, skew: Skew) -> tuple[Verifier, list[str]]:
    return warmed_up(issuer, verifier_of(mode="rest")), TOKENS[NORMAL]


SCENES: list[tuple[Stage, int]] = [(cold_keys, 1), (two_documents, 2), (a_new_key, 1), (users_me, 1)]
in_each_scene = pytest.mark.parametrize(("stage", "calls"), SCENES, ids=[stage.__name__ for stage, _ in SCENES])


class Asker(threading.Thread):
    """A thread that verifies one token and keeps the outcome."""

    def __init__(self, verifier: Verifier, token: str, tracer: Any = None) -> None:
        super().__init__(daemon=True)  # one that hangs is found by its test
        self.verifier, self.token, self.tracer = verifier, token, tracer
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        sys.settrace(self.tracer)
        try:
            self.outcome = self.verifier.verify(self.token).session_id
        except BaseException as error:
            self.outcome = error
        finally:
            sys.settrace(None)

    def raise_in(self, kind: type[BaseException]) -> None:
        """Raise `kind` in this thread as soon as it runs Python code."""
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident or 0), ctypes.py_object(kind)) == 1


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "another thread did not get there"
        time.sleep(0.0005)


def waiting(verifier: Verifier) -> int:
    return sum(each.waiters for each in list(verifier._runner._in_flight.values()))


def joined(askers: list[Asker]) -> list[Any]:
    for each in askers:
        each.join(10)
        assert not each.is_alive(), "a thread is blocked"
    return [each.outcome for each in askers]


def assert_recovered(verifier: Verifier, issuer: HoldingIssuer, token: str, left: int = 0) -> None:
    """Assert that the next request succeeds with at most `left` calls, and with empty caches too."""
    issuer.calls.clear()
    assert verifier.verify(token).session_id == f"session {FOLLOWERS + 1}"
    assert len(issuer.calls) <= left
    cache.reset_all()
    assert verifier.verify(token).session_id == f"session {FOLLOWERS + 1}"
    assert verifier._runner._in_flight == {}
    assert waiting(verifier) == 0


# -- killed threads ------------------------------------------------------------------------------------


@in_each_scene
@pytest.mark.parametrize("death", [KeyboardInterrupt, SystemExit, "thrown"])
def test_h1_leader_is_killed_during_a_call(death: Any, stage: Stage, calls: int, put_in: PutIn, skew: Skew) -> None:
    """In each call of its fetch; one of the followers leads."""
    for number in range(1, calls + 1):
        holding = put_in()
        verifier, tokens = stage(holding, skew)
        holding.number = number

        def end(kind: Any = death) -> None:
            holding.number = 0  # noqa: B023 - called within this turn
            if kind == "thrown":
                leader.raise_in(SystemExit)  # noqa: B023 - called within this turn
                while True:
                    time.sleep(0.001)
            raise kind

        holding.end = end
        leader = Asker(verifier, tokens[0])
        until(holding.begun.is_set)
        followers = [Asker(verifier, each) for each in tokens[1 : FOLLOWERS + 1]]
        until(lambda: waiting(verifier) == FOLLOWERS)  # noqa: B023 - called within this turn
        holding.go.set()
        dead, *others = joined([leader, *followers])
        assert isinstance(dead, SystemExit if death == "thrown" else death)
        assert others == [f"session {at}" for at in range(1, FOLLOWERS + 1)]
        assert len(holding.calls) == number + calls
        assert_recovered(verifier, holding, tokens[-1])


@in_each_scene
def test_h1_follower_is_killed(stage: Stage, calls: int, put_in: PutIn, skew: Skew) -> None:
    """The exception is raised when it is released; the leader and the other follower are not affected."""
    holding = put_in()
    verifier, tokens = stage(holding, skew)
    leader = Asker(verifier, tokens[0])
    until(holding.begun.is_set)
    followers = [Asker(verifier, each) for each in tokens[1 : FOLLOWERS + 1]]
    until(lambda: waiting(verifier) == FOLLOWERS)
    followers[0].raise_in(SystemExit)
    holding.go.set()
    first, dead, last = joined([leader, *followers])
    assert isinstance(dead, SystemExit)
    assert [first, last] == ["session 0", "session 2"]
    assert len(holding.calls) == calls
    assert_recovered(verifier, holding, tokens[-1])


@in_each_scene
def test_h1_leader_is_killed_at_the_start_of_any_function(stage: Stage, calls: int, put_in: PutIn, skew: Skew) -> None:
    """No caller waits for a fetch without a leader; at most one more call is made."""
    points = 0
    while True:
        holding = put_in()
        verifier, tokens = stage(holding, skew)
        struck: list[str] = []
        leader = Asker(verifier, tokens[0], _raising_at(points + 1, struck))
        until(lambda: holding.begun.is_set() or not leader.is_alive())  # noqa: B023 - called within this turn
        followers = [Asker(verifier, each) for each in tokens[1 : FOLLOWERS + 1]]
        until(lambda: waiting(verifier) == FOLLOWERS or not leader.is_alive())  # noqa: B023 - called within this turn
        holding.go.set()
        dead, *others = joined([leader, *followers])
        assert others == [f"session {at}" for at in range(1, FOLLOWERS + 1)], struck
        if not struck:
            break
        points += 1
        assert isinstance(dead, KeyboardInterrupt), struck
        assert len(holding.calls) <= 2 * calls, struck
        assert_recovered(verifier, holding, tokens[-1], left=2 * calls - len(holding.calls))
    print(f"died at {points} points")
    assert points > 30


def _raising_at(number: int, struck: list[str]) -> Any:
    """Return a tracer that raises KeyboardInterrupt at the start of our `number`-th function, and records its name."""
    entered = 0

    def tracer(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal entered
        if frame.f_code.co_filename.startswith((PACKAGE, contextlib.__file__)):
            entered += 1
            if entered == number:
                struck.append(frame.f_code.co_qualname if sys.version_info >= (3, 11) else frame.f_code.co_name)
                sys.settrace(None)
                raise KeyboardInterrupt

    return tracer
