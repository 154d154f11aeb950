"""Clocks that stand still: a suspended host stops the monotonic clock, and the wall clock goes on (fault B4).

On Lambda, for instance, the monotonic clock advances only by the milliseconds of each invocation.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stackauth_middleware._core.key_sets import MIN_FETCH_INTERVAL

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
