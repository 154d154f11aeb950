"""Under gevent, which patches a whole process: each test runs one, patched before or after our import."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PATCH = "from gevent import monkey; monkey.patch_all()"
IMPORTS = """
from stackauth_middleware import RefusedError, AuthServerError, StackAuthConfig, StackAuthWSGIMiddleware, User, Verifier
from stackauth_middleware.testing import LocalStackAuth
"""
SERVE = """
import json
import gevent
from gevent.pywsgi import WSGIServer

PROJECT = "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063"
local = LocalStackAuth(PROJECT)
server = WSGIServer(("127.0.0.1", 0), local.wsgi, log=None)
server.start()
local.api_url = f"http://127.0.0.1:{server.server_port}"
config = StackAuthConfig(project_id=PROJECT, api_url=local.api_url, secret_server_key="ssk_test")
"""


def run(order: str, script: str) -> Any:
    """Run `script` in a process that patches ``before`` or ``after`` our import, and return what it prints."""
    parts = [PATCH, IMPORTS] if order == "before" else [IMPORTS, PATCH]
    whole = "\n".join([*parts, SERVE, script, "server.stop()"])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", whole], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


orders = pytest.mark.parametrize("order", ["before", "after"])


@orders
def test_concurrent_greenlets_share_one_fetch(order: str) -> None:
    printed = run(
        order,
        """
verifier = Verifier(config)
tokens = [local.token(local.users.create()) for _ in range(200)]
with local.delay(0.05):
    jobs = [gevent.spawn(verifier.verify, token) for token in tokens]
    gevent.joinall(jobs, timeout=20, raise_error=True)
print(json.dumps([len({job.value.user_id for job in jobs}), local.requests.count("jwks")]))
""",
    )
    assert printed == [200, 1]


@orders
def test_killed_leader_is_replaced(order: str) -> None:
    """A follower becomes the leader and fetches again."""
    printed = run(
        order,
        """
verifier = Verifier(config)
token = local.token()
with local.delay(0.1):
    leader = gevent.spawn(verifier.verify, token)
    gevent.sleep(0.03)
    others = [gevent.spawn(verifier.verify, token) for _ in range(10)]
    gevent.sleep(0.03)
    leader.kill()
    gevent.joinall(others, timeout=20, raise_error=True)
print(json.dumps([leader.successful(), isinstance(leader.value, gevent.GreenletExit),
                  [job.value.user_id for job in others] == [others[0].value.user_id] * 10,
                  local.requests.count("jwks")]))
""",
    )
    assert printed == [True, True, True, 2]


@orders
@pytest.mark.parametrize("mode", ["jwt", "rest"])
def test_killed_at_every_switch(order: str, mode: str) -> None:
    """Leader or follower: the others get their user with at most one more call, and no fetch stays in progress."""
    printed = run(
        order,
        f"""
import greenlet

tokens = [local.token(local.users.create()) for _ in range(3)] if {mode!r} == "jwt" else [local.token()] * 3
counted = "jwks" if {mode!r} == "jwt" else "users/me"
wrong = []

def played(whose, at):
    settings = dict(project_id=PROJECT, api_url=local.api_url, secret_server_key="ssk_test", mode={mode!r}, timeout=20)
    verifier = Verifier(StackAuthConfig(**settings))
    if counted == "users/me":
        verifier.prefetch_keys()
    asked = local.requests.count(counted)
    switches, killed, jobs = [], [], []

    def trace(event, switch):
        if len(jobs) > whose and switch[0] is jobs[whose]:
            switches.append(event)
            if len(switches) == at:
                killed.append(not jobs[whose].dead)
                jobs[whose].kill(block=False)

    greenlet.settrace(trace)
    jobs.append(gevent.spawn(verifier.verify, tokens[0]))
    gevent.sleep(0)
    jobs += [gevent.spawn(verifier.verify, token) for token in tokens[1:]]
    gevent.joinall(jobs, timeout=30)
    greenlet.settrace(None)
    left = sum(isinstance(job.value, gevent.GreenletExit) for job in jobs)
    alive = [job for at, job in enumerate(jobs) if at != whose or not left]
    if not all(isinstance(job.value, User) for job in alive):
        wrong.append([whose, at, [repr(job.value or job.exception) for job in jobs]])
    calls = local.requests.count(counted) - asked
    waiting = [each.waiters for each in verifier._runner._in_flight.values()]
    gevent.spawn(verifier.verify, tokens[0]).get(timeout=20)
    if calls > 1 + left or waiting or local.requests.count(counted) - asked != calls:
        wrong.append([whose, at, calls, left, waiting])
    verifier.close()
    return any(killed)

points = [0, 0]
with local.delay(0.01):
    for whose in (0, 1):
        while played(whose, points[whose] + 1):
            points[whose] += 1
print(json.dumps([points, wrong]))
""",
    )
    points, wrong = printed
    print(f"killed at {points} points")
    assert wrong == []
    assert points[0] >= 2
    assert points[1] >= 1


@orders
def test_waiting_for_keys_does_not_stop_the_hub(order: str) -> None:
    """Other greenlets run while the keys are fetched."""
    printed = run(
        order,
        """
verifier = Verifier(config)
wakeups = []

def count():
    while True:
        wakeups.append(1)
        gevent.sleep(0.01)

counter = gevent.spawn(count)
with local.delay(0.3):
    verifier.verify(local.token())
counter.kill()
print(json.dumps(len(wakeups)))
""",
    )
    assert printed >= 10


@orders
def test_middleware_gets_the_profile_of_each_user(order: str) -> None:
    """Twenty users at once, each with a profile: every app call sees its own."""
    printed = run(
        order,
        """
from stackauth_middleware import Rule, get_user

config = StackAuthConfig(project_id=PROJECT, api_url=local.api_url, secret_server_key="ssk_test",
                         rules=[Rule("/**", profile=True)])

def app(environ, start_response):
    gevent.sleep(0.01)
    start_response("200 OK", [])
    return [get_user(environ).profile.display_name.encode()]

middleware = StackAuthWSGIMiddleware(app, config)

def ask(name):
    token = local.token(local.users.create(display_name=name))
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_STACK_ACCESS_TOKEN": token}
    return b"".join(middleware(environ, lambda *_: None)).decode() == name

jobs = [gevent.spawn(ask, f"user {number}") for number in range(20)]
gevent.joinall(jobs, timeout=20, raise_error=True)
print(json.dumps([sum(job.value for job in jobs), local.requests.count("users/me")]))
""",
    )
    assert printed == [20, 20]
