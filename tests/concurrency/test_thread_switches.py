"""Threads that share one verifier or middleware, switched after every few instructions, or truly at once.

`nox -s free_threads` runs this file on an interpreter without a global lock, where the machine has one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stackauth_middleware import RefusedError, StackAuthConfig, StackAuthWSGIMiddleware, Verifier, get_user
from stackauth_middleware._core import cache
from stackauth_middleware.testing import LocalStackAuth

THREADS = 8
ROUNDS = 40


@pytest.fixture(autouse=True)
def _switched_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.fixture
def local() -> Iterator[LocalStackAuth]:
    with LocalStackAuth().in_process() as local:
        yield local


def user_id(number: int) -> str:
    return f"{number:08x}-1111-4111-8111-111111111111"


def in_threads(work: Callable[[int], None]) -> None:
    """Call `work` in `THREADS` threads that begin at once, with the number of each; raise the first error."""
    barrier, errors = threading.Barrier(THREADS), list[BaseException]()

    def run(number: int) -> None:
        barrier.wait(20)
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def test_each_thread_gets_the_user_of_its_own_token(local: LocalStackAuth) -> None:
    """The cache of tokens is smaller than their number, so that entries are evicted while others are read."""
    verifier = Verifier(StackAuthConfig(project_id="internal", token_cache_size=THREADS))
    tokens = [(user_id(number), local.token(sub=user_id(number))) for number in range(3 * THREADS)]
    bad = local.token(expires_in=-60)

    def work(number: int) -> None:
        for at in range(ROUNDS):
            expected, token = tokens[(number * 7 + at * 5) % len(tokens)]
            assert verifier.verify(token).id == expected
            with pytest.raises(RefusedError):
                verifier.verify(bad)

    in_threads(work)
    assert local.requests.count("jwks") == 1


def test_no_good_token_is_refused_while_caches_are_cleared(local: LocalStackAuth) -> None:
    verifier = Verifier(StackAuthConfig(project_id="internal"))

    def work(number: int) -> None:
        for at in range(ROUNDS):
            if number == 0 and at % 10 == 0:
                cache.reset_all()
            assert verifier.verify(local.token(sub=user_id(number))).id == user_id(number)

    in_threads(work)


def test_profiles_are_never_those_of_another_user(local: LocalStackAuth) -> None:
    config = StackAuthConfig(project_id="internal", mode="rest", secret_server_key="ssk_test", profile_ttl=60)
    tokens = [local.token(sub=user_id(number)) for number in range(THREADS)]
    answered: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        user = get_user(environ)
        assert user is not None
        assert user.profile is not None
        start_response("200 OK", [])
        return [f"{user.id} {user.profile.id}".encode()]

    middleware = StackAuthWSGIMiddleware(app, config)

    def work(number: int) -> None:
        for at in range(ROUNDS // 2):
            expected = (number + at % 2) % THREADS
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/me", "HTTP_X_STACK_ACCESS_TOKEN": tokens[expected]}
            body = b"".join(middleware(environ, lambda status, headers, exc_info=None: answered.append(status)))
            assert body.decode() == f"{user_id(expected)} {user_id(expected)}"

    in_threads(work)
    assert set(answered) == {"200 OK"}
    assert local.requests.count("users/me") == THREADS
