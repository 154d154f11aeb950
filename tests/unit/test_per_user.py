"""`per_user`: one run for each user, in threads and in tasks."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import anyio
import pytest

from stackauth_middleware import _per_user as per_user_module
from stackauth_middleware._core.cache import reset_all
from stackauth_middleware._core.records import Clocks
from stackauth_middleware._core.users import User
from stackauth_middleware._per_user import per_user
from stackauth_middleware.errors import ConfigError

from .core.helpers import ANONYMOUS
from .core.test_users import user

JANE = user()
JOHN = replace(JANE, user_id="33333333-3333-4333-8333-333333333333")
BACKENDS = ["asyncio", "trio"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test moves by hand."""
    now = [1000.0]
    monkeypatch.setattr(per_user_module, "clocks", lambda: Clocks(now[0], now[0]))
    return now


def runner(kind: str) -> Callable[..., Callable[..., Any]]:
    """Return a function that decorates a plain function, made ``async`` unless `kind` is ``"plain"``."""

    def decorate(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        if kind == "plain":
            return per_user(**options)(function)

        @per_user(**options)
        async def afunction(user: User, *args: Any, **kwargs: Any) -> Any:
            await anyio.sleep(0)
            return function(user, *args, **kwargs)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await afunction(*args, **kwargs)

        return lambda *args, **kwargs: anyio.run(lambda: call(*args, **kwargs), backend=kind)

    return decorate


every_kind = pytest.mark.parametrize("kind", ["plain", *BACKENDS])


@every_kind
def test_result_is_kept_by_user_for_ttl(kind: str, clock: list[float]) -> None:
    ran: list[tuple[str, Any]] = []

    def local_id(user: User, session: Any = None) -> int:
        ran.append((user.user_id, session))
        return len(ran)

    call = runner(kind)(local_id, ttl=60)
    assert [call(JANE, "a"), call(JANE, session="b"), call(JOHN), call(replace(JANE, email="new"))] == [1, 1, 2, 1]
    assert ran == [(JANE.user_id, "a"), (JOHN.user_id, None)]
    clock[0] += 59.9
    assert call(JANE) == 1
    clock[0] += 0.1
    assert call(JANE) == 3


@every_kind
def test_users_of_two_projects_with_one_id_do_not_share_a_result(kind: str) -> None:
    ran: list[User] = []
    call = runner(kind)(ran.append)
    theirs = user(aud="99999999-9999-4999-8999-999999999999")
    for each in (JANE, theirs, JANE, theirs, user(ANONYMOUS)):  # the last is Jane before she signed up
        call(each)
    assert ran == [JANE, theirs]


@every_kind
def test_user_may_be_passed_by_name(kind: str) -> None:
    """FastAPI's ``Depends`` passes every argument by its name."""
    ran: list[User] = []

    def note(user: User, limit: int = 1) -> int:
        ran.append(user)
        return limit

    call = runner(kind)(note)
    assert (call(user=JANE, limit=7), call(limit=8, user=JANE), ran) == (7, 7, [JANE])
    with pytest.raises(TypeError, match="takes a User first"):
        call(limit=1)


@every_kind
def test_result_may_be_none(kind: str) -> None:
    ran: list[User] = []
    call = runner(kind)(ran.append)
    assert call(JANE) is call(JANE) is None
    assert ran == [JANE]


@every_kind
def test_number_of_results_is_bounded_and_reset_drops_them(kind: str) -> None:
    ran: list[User] = []
    call = runner(kind)(ran.append, max_users=1)
    for each in (JANE, JOHN, JANE):
        call(each)
    assert ran == [JANE, JOHN, JANE]
    reset_all()
    call(JANE)
    assert ran == [JANE, JOHN, JANE, JANE]


@every_kind
def test_exception_is_not_kept(kind: str) -> None:
    failing = [True]

    def local_id(_: User) -> int:
        if failing:
            raise LookupError("no database")
        return 1

    call = runner(kind)(local_id)
    with pytest.raises(LookupError):
        call(JANE)
    failing.clear()
    assert call(JANE) == 1


@every_kind
@pytest.mark.parametrize("value", [None, "a text", {"user_id": "x"}])
def test_first_argument_has_to_be_a_user(kind: str, value: Any) -> None:
    with pytest.raises(TypeError, match="takes a User first"):
        runner(kind)(lambda user: pytest.fail("ran"))(value)


@every_kind
def test_function_that_calls_itself_for_the_same_user_does_not_wait_for_ever(kind: str) -> None:
    calls: list[Any] = []

    if kind == "plain":

        @per_user()
        def local_id(user: User) -> int:
            return local_id(user) + 1

        calls.append(lambda: local_id(JANE))
    else:

        @per_user()
        async def alocal_id(user: User) -> int:
            return await alocal_id(user) + 1

        calls.append(lambda: anyio.run(alocal_id, JANE, backend=kind))
    with pytest.raises(RuntimeError, match="calls itself for the same user"):
        calls[0]()


@pytest.mark.parametrize("options", [{"ttl": -1}, {"ttl": "x"}, {"ttl": 10**6}, {"max_users": -1}, {"max_users": 1.5}])
def test_wrong_option_is_a_config_error(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        per_user(**options)


def test_only_a_function_that_returns_can_be_decorated() -> None:
    async def aone(user: User) -> AsyncIterator[int]:
        yield 1

    def one(user: User) -> Iterator[int]:
        yield 1

    with pytest.raises(ConfigError, match="must be a function of a User"):
        per_user()(5)
    for each in (one, aone):
        with pytest.raises(ConfigError, match="which yields"):
            per_user()(each)


def test_builtin_without_a_signature_can_be_decorated() -> None:
    assert "user_id" in per_user()(dir)(JANE)


def test_object_with_an_async_call_is_awaited_and_a_plain_function_may_not_return_an_awaitable() -> None:
    class LocalId:
        async def __call__(self, user: User) -> int:
            return 1

    local_id: Any = per_user()(LocalId())
    for _ in range(2):
        assert asyncio.run(local_id(JANE)) == 1

    async def later() -> int:
        return 1

    @per_user()
    def wrong(user: User) -> Any:
        return found

    found = later()
    with pytest.raises(TypeError, match="declare it with async def"):
        wrong(JANE)
    asyncio.run(found)


# -- concurrent calls ---------------------------------------------------------------------------------


def test_threads_share_one_run_and_its_failure() -> None:
    for failing in (True, False):
        ran, all_wait = list[str](), threading.Barrier(8)

        @per_user()
        def local_id(user: User, failing: bool = failing, ran: list[str] = ran) -> int:
            ran.append(user.user_id)
            threading.Event().wait(0.05)
            if failing:
                raise LookupError("no database")
            return len(ran)

        def call(local_id: Any = local_id, all_wait: Any = all_wait) -> Any:
            all_wait.wait(10)
            try:
                return local_id(JANE)
            except LookupError as error:
                return str(error)

        with ThreadPoolExecutor(8) as pool:
            found = [each.result(10) for each in [pool.submit(call) for _ in range(8)]]
        assert found == ["no database" if failing else 1] * 8
        assert ran == [JANE.user_id]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("failing", [False, True])
def test_tasks_share_one_run_and_its_failure(backend: str, failing: bool) -> None:
    ran, found = list[str](), list[Any]()

    @per_user()
    async def local_id(user: User) -> int:
        ran.append(user.user_id)
        await anyio.sleep(0.01)
        if failing:
            raise LookupError("no database")
        return len(ran)

    async def call(who: User) -> None:
        try:
            found.append(await local_id(who))
        except LookupError as error:
            found.append(str(error))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for who in [JANE] * 50 + [JOHN] * 50:
                group.start_soon(call, who)

    anyio.run(main, backend=backend)
    assert sorted(ran) == sorted([JANE.user_id, JOHN.user_id])
    assert found == ["no database"] * 100 if failing else found == [2] * 100


@pytest.mark.parametrize("backend", BACKENDS)
def test_cancelled_run_is_started_again_by_a_task_that_waits(backend: str) -> None:
    """A client that disconnects cancels its task."""
    ran, found = list[int](), list[int]()

    async def main() -> None:
        first = anyio.Event()

        @per_user()
        async def local_id(user: User) -> int:
            ran.append(len(ran))
            first.set()
            await anyio.sleep(0.02 if len(ran) > 1 else 10)
            return len(ran)

        async def follow() -> None:
            found.append(await local_id(JANE))

        async with anyio.create_task_group() as group, anyio.create_task_group() as leading:
            leading.start_soon(local_id, JANE)
            await first.wait()
            group.start_soon(follow)
            await anyio.sleep(0)
            leading.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert (len(ran), found) == (2, [2])


def test_event_loops_share_results() -> None:
    ran: list[User] = []

    @per_user()
    async def local_id(user: User) -> int:
        ran.append(user)
        return len(ran)

    async def call() -> int:
        return await local_id(JANE)

    assert [anyio.run(call, backend=each) for each in (*BACKENDS, *BACKENDS)] == [1] * 4


def test_killed_run_is_started_again_by_a_thread_that_waits() -> None:
    ran, leading = list[int](), threading.Event()

    @per_user()
    def local_id(user: User) -> int:
        ran.append(1)
        if len(ran) == 1:
            leading.set()
            threading.Event().wait(0.05)
            raise SystemExit
        return 7

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(local_id, JANE)
        leading.wait(10)
        second = pool.submit(local_id, JANE)
        assert second.result(10) == 7
        assert isinstance(first.exception(10), SystemExit)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_does_not_wait_for_a_run_of_its_parent() -> None:
    running, go_on = threading.Event(), threading.Event()

    @per_user()
    def local_id(user: User) -> int:
        if not running.is_set():
            running.set()
            go_on.wait(10)
        return 3

    thread = threading.Thread(target=local_id, args=(JANE,))
    thread.start()
    running.wait(10)
    child = os.fork()
    if child == 0:
        os._exit(local_id(JANE))
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
