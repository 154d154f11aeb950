"""Clocks that stand still: a suspended host stops the monotonic clock, and the wall clock goes on (fault B4).

On Lambda, for instance, the monotonic clock advances only by the milliseconds of each invocation.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackauth_middleware import StackAuthConfig
from stackauth_middleware._core.breaker import OPEN_FOR, OPENS_AFTER
from stackauth_middleware._core.key_sets import FRESH_FOR, MIN_FETCH_INTERVAL, STALE_IF_ERROR
from tests.security.issuer import CountingIssuer
from tests.unit.core.helpers import NORMAL, PROJECT, SIGNERS, TIMED_OUT, USER_ID, WALL, Clock, Signer, reply, token
from tests.unit.drive import asgi, environ_of, http_scope, wsgi

Ask = Callable[[str], int]
NEW = Signer(77_777, "rotated")
PROFILE = reply({"id": USER_ID, "display_name": "Jane"})
RESTRICTED_PROFILE = reply({"id": USER_ID, "display_name": "Jane", "is_restricted": True})


def good(**changes: Any) -> str:
    return token(**{"exp": int(WALL) + 10 * 86_400, **changes})


def suspend(clock: Clock, seconds: float) -> None:
    """Let only the wall clock advance by `seconds`, and the monotonic clock by the 5 ms of an invocation."""
    clock.wall += seconds
    clock.mono += 0.005


@pytest.fixture(params=["asgi", "wsgi"])
def asker(request: pytest.FixtureRequest) -> Callable[..., Ask]:
    """Make a middleware from settings, and return a function that sends a token and returns the status."""

    def make(**settings: Any) -> Ask:
        config = StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_canary", **settings)

        def ask(text: str) -> int:
            if request.param == "asgi":
                return asgi(http_scope(headers=[(b"x-stack-access-token", text.encode())]), config=config).status
            return wsgi(environ_of(headers={"x-stack-access-token": text}), config=config).status

        return ask

    return make


def test_keys_are_fetched_again_after_a_failed_cold_fetch(
    asker: Callable[..., Ask], clock: Clock, issuer: CountingIssuer
) -> None:
    ask = asker()
    issuer.down = TIMED_OUT
    assert ask(good()) == 503
    issuer.down = None
    suspend(clock, MIN_FETCH_INTERVAL)
    assert ask(good()) == 200


def test_keys_are_fetched_again_after_a_rotation(
    asker: Callable[..., Ask], clock: Clock, issuer: CountingIssuer
) -> None:
    ask = asker()
    assert ask(good()) == 200
    issuer.signers = {**SIGNERS, NORMAL: (NEW,)}
    suspend(clock, MIN_FETCH_INTERVAL)
    assert ask(good(signer=NEW)) == 200


def test_withdrawn_key_is_refused_once_the_key_set_is_stale(
    asker: Callable[..., Ask], clock: Clock, issuer: CountingIssuer
) -> None:
    """Under ASGI the first request refreshes the key set after its response."""
    ask = asker()
    assert ask(good()) == 200
    issuer.signers = {**SIGNERS, NORMAL: (NEW,)}
    suspend(clock, FRESH_FOR)
    ask(good())
    assert ask(good()) == 401


def test_stale_keys_are_not_used_for_longer_than_a_day(
    asker: Callable[..., Ask], clock: Clock, issuer: CountingIssuer
) -> None:
    ask = asker()
    assert ask(good()) == 200
    issuer.down = TIMED_OUT
    suspend(clock, STALE_IF_ERROR - 1)
    assert ask(good()) == 200
    suspend(clock, 1)
    assert ask(good()) == 503


def test_restricted_user_is_refused_after_profile_ttl(
    asker: Callable[..., Ask], clock: Clock, issuer: CountingIssuer
) -> None:
    ask = asker(mode="rest", profile_ttl=30)
    issuer.profile = PROFILE
    assert ask(good()) == 200
    issuer.profile = RESTRICTED_PROFILE
    suspend(clock, 29)
    assert ask(good()) == 200
    suspend(clock, 1)
    assert ask(good()) == 403


def test_breaker_permits_a_probe_after_its_pause(
    asker: Callable[..., Ask], clock: Clock, issuer: CountingIssuer
) -> None:
    ask = asker(mode="rest")
    issuer.profile = TIMED_OUT
    assert [ask(good()) for _ in range(OPENS_AFTER)] == [503] * OPENS_AFTER
    issuer.profile = PROFILE
    assert ask(good()) == 503
    suspend(clock, OPEN_FOR)
    assert ask(good()) == 200


@pytest.mark.parametrize("wall", [-86_400, -60], ids=["a day", "a minute"])
def test_wall_clock_that_is_set_back_extends_no_period(
    wall: float, asker: Callable[..., Ask], clock: Clock, issuer: CountingIssuer
) -> None:
    ask = asker(mode="rest", profile_ttl=30)
    text = good(iat=int(WALL) - 200_000)
    issuer.profile = PROFILE
    assert ask(text) == 200
    issuer.profile = RESTRICTED_PROFILE
    clock.wall += wall
    clock.mono += 30
    assert ask(text) == 403


# -- a stopped process --------------------------------------------------------------------------------

_PROCESS = """
import json, sys, time
from stackauth_middleware import StackAuthConfig, _verifiers, wsgi as wsgi_module
from stackauth_middleware._core.records import Clocks
from stackauth_middleware._io import sync_runner
from tests.security.issuer import issuer_in_place
from tests.unit.core.helpers import PROJECT, TIMED_OUT, USER_ID, reply
from tests.unit.drive import environ_of, wsgi
from tests.unit.io.loopback import live_token

moved = 0.0

def clocks():
    # The time of the process stands still while it is stopped, as the monotonic clock of a suspended host does.
    return Clocks(time.time() + moved, time.process_time())

for module in (sync_runner, _verifiers, wsgi_module):
    module.clocks = clocks
config = StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_canary", mode="rest", profile_ttl=30)
token = live_token(exp=int(time.time()) + 86_400)
with issuer_in_place() as issuer:
    for line in sys.stdin:
        command = json.loads(line)
        moved += command.get("wall", 0)
        issuer.down = TIMED_OUT if command.get("down") else None
        issuer.profile = reply({"id": USER_ID, "is_restricted": command.get("restricted", False)})
        status = wsgi(environ_of(headers={"x-stack-access-token": token}), config=config).status
        print(json.dumps([status, time.process_time()]), flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")
def test_process_that_was_stopped_has_ended_its_periods() -> None:
    """The wall clock advances by the length of a period while the process is stopped."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROCESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )

    def ask(**command: Any) -> tuple[int, float]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        status, mono = json.loads(process.stdout.readline())
        return status, mono

    def ask_after_stop(**command: Any) -> tuple[int, float]:
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED)
        os.kill(process.pid, signal.SIGCONT)
        return ask(**command)

    with process:
        try:
            refused, began = ask(down=True)
            recovered, _ = ask_after_stop(wall=MIN_FETCH_INTERVAL)
            restricted, ended = ask_after_stop(wall=30, restricted=True)
        finally:
            process.kill()
    assert (refused, recovered, restricted) == (503, 200, 403)
    assert ended - began < MIN_FETCH_INTERVAL, "the periods would have ended on the monotonic clock"
