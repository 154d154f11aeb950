"""Forks at any moment: by the leader of a fetch, and while threads fetch over real sockets (H3).

Forks after a first use, and while another thread leads a fetch and holds every lock, are tested in tests/unit/io; those
of ``gunicorn --preload`` in tests/servers.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest

from stackauth_middleware import StackAuthConfig, Verifier
from stackauth_middleware._core import cache
from stackauth_middleware._core.upstream import Call, NoReply, Reply
from stackauth_middleware._io import network
from tests.unit.core.helpers import ANONYMOUS, PROJECT, USER_ID
from tests.unit.io.helpers import forking, in_a_child, wait_until, with_threads
from tests.unit.io.loopback import Issuer, Loopback, config_for, live_token

from ..security.issuer import CountingIssuer

FORKS = 40


class ForkingIssuer(CountingIssuer):
    """Forks in the first call.

    Attributes:
        child: the process id of the child; 0 in the child.
        all_follow: set once others follow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.child: int | None = None
        self.all_follow = threading.Event()

    def send(self, call: Call, seconds: float) -> Reply | NoReply:
        answer = super().send(call, seconds)
        if self.child is None:
            assert self.all_follow.wait(10)
            self.child = os.fork()
            if self.child == 0:
                signal.alarm(20)
        return answer


@forking
@with_threads
@pytest.mark.parametrize("then", ["continues the fetch", "starts its own"])
def test_h3_leader_forks_during_its_call(then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the child no fetch is in flight: it can start its own, and finish that of the parent."""
    issuer = ForkingIssuer()
    monkeypatch.setattr(network, "transport_override", issuer)
    verifier = Verifier(StackAuthConfig(project_id=PROJECT))
    tokens = [live_token(refresh_token_id=f"session {at}") for at in range(3)]
    sessions: list[str | None] = []

    def follow(token: str) -> None:
        sessions.append(verifier.verify(token).session_id)

    def lead() -> bool:
        if then == "starts its own":
            send = issuer.send

            def sending(call: Call, seconds: float) -> Reply | NoReply:
                answer = send(call, seconds)
                if issuer.child == 0 and len(issuer.calls) == 1:
                    assert verifier.verify(tokens[1]).session_id == "session 1"
                    assert len(issuer.calls) == 2
                return answer

            monkeypatch.setattr(issuer, "send", sending)
        good = verifier.verify(tokens[0]).session_id == "session 0"
        return good and verifier._runner._in_flight == {}

    def release() -> None:
        wait_until(lambda: sum(each.waiters for each in verifier._runner._in_flight.values()) == 2)
        issuer.all_follow.set()

    others = [threading.Thread(target=follow, args=(each,)) for each in tokens[1:]]
    threads = [threading.Thread(target=release), *others]
    status = 2
    try:
        starter = threading.Timer(0.01, lambda: [each.start() for each in others])
        starter.start()
        threads[0].start()
        status = 0 if lead() else 1
    finally:
        if issuer.child == 0:
            os._exit(status)
    assert status == 0
    assert os.waitstatus_to_exitcode(os.waitpid(issuer.child or 0, 0)[1]) == 0
    for each in (starter, *threads):
        each.join(10)
    assert sorted(map(str, sessions)) == ["session 1", "session 2"]
    assert len(issuer.calls) == 1


@forking
@with_threads
def test_h3_forks_at_random_moments() -> None:
    """While threads of the parent fetch keys repeatedly, each child fetches its own.

    The children ask for other documents than the parent, which shows that no connection served both.
    """
    moments = random.Random(20)
    issuer = Issuer()
    issuer.hold = 0.002
    token, anonymous = live_token(), live_token(ANONYMOUS)
    done = threading.Event()
    verified: list[str] = []

    with Loopback(issuer) as server, Verifier(config_for(server.url, allow_anonymous=True)) as verifier:

        def fetch_and_verify() -> None:
            while not done.is_set():
                verified.append(verifier.verify(token).user_id)
                cache.reset_all()

        def verifies() -> bool:
            return verifier.verify(anonymous).is_anonymous

        threads = [threading.Thread(target=fetch_and_verify) for _ in range(3)]
        for each in threads:
            each.start()
        try:
            wait_until(lambda: len(server.requests) > 3)
            for _ in range(FORKS):
                time.sleep(moments.random() / 200)
                assert in_a_child(verifies)
        finally:
            done.set()
            for each in threads:
                each.join(20)
        assert not any(each.is_alive() for each in threads)
        assert set(verified) == {USER_ID}
        of_children = [each.connection for each in server.requests if "?" in each.target]
        of_parent = {each.connection for each in server.requests if "?" not in each.target}
    assert len(of_children) == 2 * FORKS
    assert len(set(of_children)) == FORKS
    assert of_parent.isdisjoint(of_children)
