"""The steps around key sets: what is fetched, when, and which requests wait."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from typing import Any

import pytest

from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.key_set_cache import CANCEL_GRACE, MAX_WAITERS, REFRESH_BUDGET, KeySetCache, Status
from stackauth_middleware._core.key_sets import FRESH_FOR, MIN_FETCH_INTERVAL, STALE_IF_ERROR, Action, KeySet
from stackauth_middleware._core.records import Clocks
from stackauth_middleware._core.tokens import Token
from stackauth_middleware._core.upstream import Answer, Call, Resume, ShareEnd, fetch
from stackauth_middleware._core.users import UserType
from stackauth_middleware.errors import AuthServerError, ErrorCode, RefusedError

from .helpers import (
    ANONYMOUS,
    API,
    BROKEN,
    DEAD_POOLED,
    ENCODED,
    MONO,
    NORMAL,
    NOW,
    PROJECT,
    RESTRICTED,
    SIGNERS,
    TIMED_OUT,
    TOO_LARGE,
    UNSENT,
    Clock,
    FakeRunner,
    Signer,
    StackAuth,
    document,
    reply,
)

INCLUDE = {NORMAL: "", RESTRICTED: "include_restricted=true", ANONYMOUS: "include_anonymous=true"}
URL = f"{API}/api/v1/projects/{PROJECT}/.well-known/jwks.json"
KID = {kind: SIGNERS[kind][0].kid for kind in UserType}
OUTAGE = reply(b"canary", 500)


class World:
    """A key set cache, a fake Stack Auth and a fake clock."""

    def __init__(self) -> None:
        self.auth = StackAuth()
        self.clock = Clock()
        self.runner = FakeRunner(self.clock, self.auth)
        self.cache = KeySetCache(StackAuthConfig(project_id=PROJECT))

    def key_for(self, kind: UserType = NORMAL, kid: str | None = None, *, defer_refresh: bool = False) -> Any:
        token = Token(kid or KID[kind], kind, {}, b"", b"", b"")
        return self.runner(self.cache.key_for(token, self.clock.now, defer_refresh=defer_refresh))

    def refused(self, kind: UserType = NORMAL, kid: str = "junk") -> RefusedError | AuthServerError:
        try:
            self.key_for(kind, kid)
        except (RefusedError, AuthServerError) as error:
            return error
        raise AssertionError(f"{kid} was found")

    def warm(self, *kinds: UserType) -> World:
        """Fetch the keys of `kinds`, and clear the recorded calls."""
        for kind in kinds or (NORMAL,):
            self.key_for(kind)
        self.auth.calls.clear()
        self.runner.shares.clear()
        return self


@pytest.fixture
def world() -> World:
    return World()


# -- what is fetched ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "queries"),
    [
        (NORMAL, [INCLUDE[NORMAL]]),
        (RESTRICTED, [INCLUDE[NORMAL], INCLUDE[RESTRICTED]]),
        (ANONYMOUS, [INCLUDE[RESTRICTED], INCLUDE[ANONYMOUS]]),
    ],
    ids=str,
)
def test_cold_key_set_is_fetched_with_the_smaller_document_first(
    world: World, kind: UserType, queries: list[str]
) -> None:
    key, action, clocks = world.key_for(kind)
    assert world.auth.queries == queries
    assert key.point == SIGNERS[kind][0].point
    assert (action, clocks) == (Action.USE, world.clock.now)
    (share,) = world.runner.shares
    assert (share.key, share.budget, share.wait, share.max_waiters) == (("keys", kind), math.inf, math.inf, None)
    assert {call.url.partition("?")[0] for call in world.auth.calls} == {URL}
    assert all("cache-control" not in call.headers for call in world.auth.calls)


@pytest.mark.parametrize("kind", UserType, ids=str)
def test_key_set_holds_only_keys_of_its_user_type(world: World, kind: UserType) -> None:
    """Threat D4: a key of another user type must not be found, whichever document held it."""
    world.key_for(kind)
    assert set(world.cache.record(kind).keys) == {signer.kid for signer in SIGNERS[kind]}
    for other in UserType:
        if other is not kind:
            assert world.cache.record(other) == KeySet()
            assert world.refused(kind, KID[other]).code is ErrorCode.INVALID_TOKEN


@pytest.mark.parametrize("kind", [RESTRICTED, ANONYMOUS], ids=str)
@pytest.mark.parametrize("answer", [OUTAGE, TIMED_OUT], ids=["500", "no reply"])
def test_larger_document_is_not_fetched_after_the_smaller_failed(world: World, kind: UserType, answer: Answer) -> None:
    world.auth.down = answer
    assert world.refused(kind).code is ErrorCode.SERVER_ERROR
    assert len(world.auth.calls) == 1


@pytest.mark.parametrize("kind", [RESTRICTED, ANONYMOUS], ids=str)
def test_failed_larger_document_fails_the_fetch(world: World, kind: UserType) -> None:
    world.auth.answers[INCLUDE[kind]] = OUTAGE
    assert world.refused(kind).code is ErrorCode.SERVER_ERROR
    assert len(world.auth.calls) == 2
    assert world.cache.record(kind).keys == {}


def test_documents_from_both_sides_of_a_rotation_fail_the_fetch(world: World) -> None:
    """Without the keys of the old plain document, new normal keys would be taken for restricted ones."""
    rotated = {**SIGNERS, NORMAL: (Signer(77, "rotated"),)}
    world.auth.answers[INCLUDE[RESTRICTED]] = reply(document(NORMAL, RESTRICTED, signers=rotated))
    assert world.refused(RESTRICTED, "rotated").code is ErrorCode.SERVER_ERROR
    assert world.cache.record(RESTRICTED).keys == {}


@pytest.mark.parametrize(
    "answer", [reply(b"", 400), reply(b"", 200, x_stack_actual_status="400")], ids=["400", "hidden"]
)
def test_server_without_restricted_users_has_no_restricted_keys(world: World, answer: Answer) -> None:
    world.auth.answers[INCLUDE[RESTRICTED]] = answer
    assert world.refused(RESTRICTED).code is ErrorCode.INVALID_TOKEN
    assert world.auth.queries == [INCLUDE[NORMAL], INCLUDE[RESTRICTED]]
    record = world.cache.record(RESTRICTED)
    assert (record.keys, record.failure, record.fetched_at.mono) == ({}, None, MONO)
    assert world.refused(RESTRICTED).code is ErrorCode.INVALID_TOKEN
    assert len(world.auth.calls) == 2


@pytest.mark.parametrize("kind", [RESTRICTED, ANONYMOUS], ids=str)
def test_status_400_of_a_server_that_knew_the_parameter_is_a_failure(world: World, kind: UserType) -> None:
    """Threats D4 and F6: it removes no restricted key, and turns none into an anonymous one."""
    world.warm(RESTRICTED)
    world.warm(ANONYMOUS)
    world.auth.answers[INCLUDE[RESTRICTED]] = reply(b"", 400)
    world.clock.pass_by(FRESH_FOR)
    assert world.key_for(kind)[0].point == SIGNERS[kind][0].point
    record = world.cache.record(kind)
    assert record.failure is ErrorCode.SERVER_ERROR
    assert set(record.keys) == {signer.kid for signer in SIGNERS[kind]}
    world.clock.pass_by(STALE_IF_ERROR)
    assert world.refused(RESTRICTED).code is ErrorCode.INVALID_TOKEN  # after a day its reply is believed


def test_server_without_restricted_users_still_has_anonymous_keys(world: World) -> None:
    world.auth.answers[INCLUDE[RESTRICTED]] = reply(b"", 400)
    world.auth.answers[INCLUDE[ANONYMOUS]] = reply(document(NORMAL, ANONYMOUS))
    key, _, _ = world.key_for(ANONYMOUS)
    assert key.point == SIGNERS[ANONYMOUS][0].point
    assert world.auth.queries == [INCLUDE[RESTRICTED], INCLUDE[NORMAL], INCLUDE[ANONYMOUS]]
    assert set(world.cache.record(ANONYMOUS).keys) == {signer.kid for signer in SIGNERS[ANONYMOUS]}


def test_failed_plain_document_of_an_older_server_fails_the_fetch(world: World) -> None:
    world.auth.answers |= {INCLUDE[RESTRICTED]: reply(b"", 400), INCLUDE[NORMAL]: OUTAGE}
    assert world.refused(ANONYMOUS).code is ErrorCode.SERVER_ERROR
    assert world.auth.queries == [INCLUDE[RESTRICTED], INCLUDE[NORMAL]]


@pytest.mark.parametrize("kind", [NORMAL, ANONYMOUS], ids=str)
def test_status_400_to_another_document_is_a_failure(world: World, kind: UserType) -> None:
    """Only `include_restricted` was ever unsupported; a 400 to another document is an error."""
    world.auth.answers[INCLUDE[kind]] = reply(b"", 400)
    assert world.refused(kind).code is ErrorCode.SERVER_ERROR


def test_key_set_is_as_fresh_as_the_shorter_of_its_documents(world: World) -> None:
    world.auth.answers[INCLUDE[NORMAL]] = reply(document(NORMAL), cache_control="max-age=90")
    world.key_for(RESTRICTED)
    assert world.cache.record(RESTRICTED).fresh_for == 90


@pytest.mark.parametrize(
    ("answers", "calls", "passes"),
    [
        ([DEAD_POOLED, None], 2, True),
        ([DEAD_POOLED, DEAD_POOLED], 2, False),
        ([UNSENT], 1, False),
        ([BROKEN], 1, False),
        ([TIMED_OUT], 1, False),
        ([TOO_LARGE], 1, False),
        ([ENCODED], 1, False),
        ([OUTAGE], 1, False),
    ],
    ids=str,
)
def test_only_a_failed_pooled_connection_is_retried_once(
    world: World, answers: list[Answer | None], calls: int, passes: bool
) -> None:
    left = list(answers)

    def answer(_: Call) -> Answer:
        return left.pop(0) or reply(document(NORMAL))

    world.auth.answers[""] = answer
    if passes:
        assert world.key_for()[0].point == SIGNERS[NORMAL][0].point
    else:
        assert world.refused().code is ErrorCode.SERVER_ERROR
    assert len(world.auth.calls) == calls


def test_the_retry_is_the_same_call_on_a_new_connection() -> None:
    call = Call("GET", "https://api.example/x", {"a": "b"}, max_bytes=10)
    script = fetch(call)
    assert next(script) is call
    again = script.send(Resume(DEAD_POOLED, NOW))
    assert isinstance(again, Call)
    assert (again.url, again.max_bytes, again.headers) == (call.url, call.max_bytes, call.headers)
    assert (call.fresh, again.fresh) == (False, True)
    with pytest.raises(StopIteration) as stop:
        script.send(Resume(UNSENT, NOW))
    assert stop.value.value == Resume(UNSENT, NOW)


def test_clocks_are_read_after_the_reply(world: World) -> None:
    """A key set is as old as its reply, and claims are compared with the time after it."""
    world.runner.takes = 2.0
    _, _, clocks = world.key_for(RESTRICTED)
    assert clocks == Clocks(NOW.wall + 4, MONO + 4)
    assert world.cache.record(RESTRICTED).fetched_at.mono == MONO + 4


# -- failures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code", "retry_after"),
    [
        (reply(b"", 500), ErrorCode.SERVER_ERROR, 10),
        (reply(b"", 503, retry_after="30"), ErrorCode.SERVER_ERROR, 30),
        (reply(b"", 429, retry_after="3"), ErrorCode.SERVER_ERROR, 10),
        (reply(b"", 302, location="https://evil.example"), ErrorCode.SERVER_ERROR, 10),
        (reply(b"<html>"), ErrorCode.SERVER_ERROR, 10),
        (reply({"keys": []}), ErrorCode.SERVER_ERROR, 10),
        (reply({"keys": [SIGNERS[NORMAL][0].jwk(y="AA")]}), ErrorCode.SERVER_ERROR, 10),
        (TIMED_OUT, ErrorCode.SERVER_ERROR, 10),
        (TOO_LARGE, ErrorCode.SERVER_ERROR, 10),
        (reply(b"", 401), ErrorCode.MISCONFIGURED, None),
        (reply(b"Project not found", 404), ErrorCode.MISCONFIGURED, None),
    ],
    ids=["500", "503", "429", "302", "html", "no keys", "off the curve", "slow", "large", "401", "404"],
)
def test_failed_first_fetch_is_a_server_error_with_retry_after(
    world: World, answer: Answer, code: ErrorCode, retry_after: int | None
) -> None:
    """Never a 401, whatever the token is."""
    world.auth.down = answer
    for kid in (KID[NORMAL], "junk"):
        error = world.refused(kid=kid)
        assert isinstance(error, AuthServerError)
        assert (error.code, error.retry_after) == (code, retry_after)
        known = code is ErrorCode.SERVER_ERROR
        assert error.detail == ("the keys cannot be fetched" if known else "Stack Auth does not know the project")
    assert len(world.auth.calls) == 1


@pytest.mark.parametrize(
    ("answer", "level", "words"),
    [
        (reply(b"canary", 500), logging.WARNING, "status 500"),
        (UNSENT, logging.WARNING, UNSENT.reason),
        (reply(b"canary", 404), logging.ERROR, "status 404"),
        (reply({"keys": [{"d": "canary", "kid": "canary"}]}), logging.WARNING, "without a usable key"),
        (
            reply({"keys": [SIGNERS[NORMAL][0].jwk(y="AA", extra="canary")]}),
            logging.WARNING,
            f"{URL}: a JWK Set without a usable key",
        ),
    ],
    ids=["500", "unsent", "404", "private", "off the curve"],
)
def test_failed_fetch_is_logged_once_a_minute_without_the_reply(
    world: World, caplog: pytest.LogCaptureFixture, answer: Answer, level: int, words: str
) -> None:
    world.auth.down = answer
    for _ in range(13):
        world.refused()
        world.clock.pass_by(MIN_FETCH_INTERVAL)
    lines = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert [each for each, _ in lines] == [level] * 3
    assert all(words in line and URL in line and "canary" not in line for _, line in lines)
    assert "[6 times since the last such line]" in lines[1][1]


@pytest.mark.parametrize("body", [b"<html>", json.dumps({"keys": [SIGNERS[NORMAL][0].jwk(y="AA")]}).encode()])
def test_failed_fetch_keeps_cached_keys(world: World, body: bytes) -> None:
    world.warm()
    held = world.cache.record(NORMAL).keys
    world.auth.down = reply(body)
    world.clock.pass_by(FRESH_FOR)
    key, action, _ = world.key_for()
    assert (key, action) == (held[KID[NORMAL]], Action.USE)
    assert world.cache.record(NORMAL).failure is ErrorCode.SERVER_ERROR


# -- unknown keys -------------------------------------------------------------------------------------


def test_unknown_kid_right_after_a_fetch_is_rejected_without_a_fetch(world: World) -> None:
    world.warm()
    error = world.refused()
    assert (type(error), error.code) == (RefusedError, ErrorCode.INVALID_TOKEN)
    assert error.detail == "signed by an unknown key"
    assert world.runner.shares == []


def test_fetch_for_an_unknown_kid_is_short_and_bypasses_caches(world: World) -> None:
    world.warm()
    world.clock.pass_by(MIN_FETCH_INTERVAL)
    world.refused()
    (share,) = world.runner.shares
    assert share.key == ("keys", NORMAL)
    assert (share.budget, share.wait, share.max_waiters) == (REFRESH_BUDGET, REFRESH_BUDGET, MAX_WAITERS) == (1, 1, 4)
    assert [call.headers["cache-control"] for call in world.auth.calls] == ["no-cache"]


def test_fetch_for_an_unknown_restricted_kid_bypasses_caches_for_both_documents(world: World) -> None:
    world.warm(RESTRICTED)
    world.clock.pass_by(MIN_FETCH_INTERVAL)
    world.refused(RESTRICTED)
    assert [call.headers["cache-control"] for call in world.auth.calls] == ["no-cache"] * 2


def test_fetch_for_an_unknown_kid_of_an_older_server_bypasses_caches_each_time(world: World) -> None:
    """With a cached plain document and a new larger one, a new normal key would be taken for an anonymous one."""
    world.auth.answers[INCLUDE[RESTRICTED]] = reply(b"", 400)
    world.auth.answers[INCLUDE[ANONYMOUS]] = reply(document(NORMAL, ANONYMOUS))
    world.warm(ANONYMOUS)
    world.clock.pass_by(MIN_FETCH_INTERVAL)
    world.refused(ANONYMOUS)
    assert [call.headers["cache-control"] for call in world.auth.calls] == ["no-cache"] * 3


def test_rotated_key_is_fetched_and_other_keys_stay_the_same_objects(world: World) -> None:
    """Threat D8."""
    world.warm()
    held = world.cache.record(NORMAL).keys[KID[NORMAL]]
    new = Signer(99, "rotated")
    world.auth.signers[NORMAL] = (SIGNERS[NORMAL][0], new)
    world.clock.pass_by(MIN_FETCH_INTERVAL)
    key, action, _ = world.key_for(kid="rotated")
    assert (key.point, action) == (new.point, Action.USE)
    assert world.key_for()[0] is held
    assert world.refused(kid=SIGNERS[NORMAL][1].kid).code is ErrorCode.INVALID_TOKEN
    assert len(world.auth.calls) == 1


@pytest.mark.parametrize("end", [ShareEnd.TIMED_OUT, ShareEnd.FULL], ids=str)
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_follower_that_gave_up_is_told_to_retry_after_one_second(world: World, end: ShareEnd, warm: bool) -> None:
    if warm:
        world.warm()
        world.clock.pass_by(MIN_FETCH_INTERVAL)
    world.runner.joined = [lambda: end]
    error = world.refused()
    assert isinstance(error, AuthServerError)
    assert (error.code, error.retry_after) == (ErrorCode.SERVER_ERROR, 1)
    assert error.detail == "the keys were not fetched in time"
    assert world.auth.calls == []


def leader_done(meanwhile: Callable[[], object] | None = None) -> Callable[[], ShareEnd]:
    """Return what ends following: `meanwhile` ran, and the leader is done."""

    def end() -> ShareEnd:
        if meanwhile is not None:
            meanwhile()
        return ShareEnd.DONE

    return end


def test_follower_finds_the_keys_that_the_leader_cached(world: World) -> None:
    leader = FakeRunner(world.clock, world.auth)
    world.runner.joined = [leader_done(lambda: leader(world.cache.prefetch_keys(world.clock.now)))]
    assert world.key_for()[0].point == SIGNERS[NORMAL][0].point
    assert len(world.runner.shares) == 1
    assert len(world.auth.calls) == 1


def leads_late(world: World, kind: UserType, kid: str, meanwhile: Callable[[], object]) -> Any:
    """Return the key for a caller that looks, and becomes the leader only after `meanwhile`."""

    def follow() -> ShareEnd:
        meanwhile()
        world.runner(world.runner.shares[0].script())
        return ShareEnd.DONE

    world.runner.joined.append(follow)
    return world.key_for(kind, kid)


@pytest.mark.parametrize("kind", UserType, ids=str)
def test_late_leader_looks_again_and_does_not_fetch(world: World, kind: UserType) -> None:
    """A thread can be preempted between its look and its fetch: one cold start is still one fetch."""
    calls: list[int] = []

    def another() -> None:
        world.key_for(kind)
        calls.append(len(world.auth.calls))

    key, _, _ = leads_late(world, kind, KID[kind], another)
    assert key.point == SIGNERS[kind][0].point
    assert calls == [len(world.auth.calls)]


def test_late_leader_for_an_unknown_kid_does_not_fetch(world: World) -> None:
    world.warm()
    world.clock.pass_by(MIN_FETCH_INTERVAL)
    with pytest.raises(RefusedError):
        leads_late(world, NORMAL, "junk", lambda: world.refused(kid="other junk"))
    assert len(world.auth.calls) == 1


def test_follower_finds_the_failure_of_the_leader_and_does_not_fetch(world: World) -> None:
    leader = FakeRunner(world.clock, world.auth)
    world.auth.down = OUTAGE
    world.runner.joined = [leader_done(lambda: leader(world.cache.prefetch_keys(world.clock.now)))]
    assert world.refused().code is ErrorCode.SERVER_ERROR
    assert len(world.auth.calls) == 1


def test_follower_leads_after_a_leader_that_died(world: World) -> None:
    """Threat H1: the share leader_done and left nothing behind."""
    world.runner.joined = [leader_done(), leader_done()]
    assert world.key_for()[0].point == SIGNERS[NORMAL][0].point
    assert len(world.runner.shares) == 3
    assert len(world.auth.calls) == 1


def test_cancelled_leader_finishes_fetch_within_grace_period(world: World) -> None:
    """Threat F1: clients that disconnect must not cause a fetch each. A prefetch needs no grace period."""
    world.runner(world.cache.prefetch_keys(world.clock.now))
    world.clock.pass_by(MIN_FETCH_INTERVAL)
    assert world.refused().code is ErrorCode.INVALID_TOKEN
    world.clock.pass_by(FRESH_FOR)
    world.key_for()
    world.clock.pass_by(FRESH_FOR)
    world.runner(world.cache.refresh_if_stale(NORMAL, world.clock.now))
    world.key_for(kind=ANONYMOUS)
    assert [share.cancel_grace for share in world.runner.shares] == [0, CANCEL_GRACE, CANCEL_GRACE, 0, CANCEL_GRACE]


@pytest.mark.parametrize("cold", [RESTRICTED, ANONYMOUS], ids=str)
def test_few_threads_wait_for_a_cold_key_set_while_another_is_usable(world: World, cold: UserType) -> None:
    """Tokens of any user type cost an attacker nothing; they must not block every thread while Stack Auth hangs."""
    world.warm(NORMAL)
    world.key_for(cold)
    (share,) = world.runner.shares
    assert (share.budget, share.wait, share.max_waiters, share.pool) == (math.inf, math.inf, MAX_WAITERS, "keys")
    world.clock.pass_by(STALE_IF_ERROR)
    world.key_for(NORMAL)
    assert world.runner.shares[-1].max_waiters is None


# -- replies out of order ------------------------------------------------------------------------------


def late(world: World, answer: Answer, kind: UserType = NORMAL, kid: str | None = None) -> Any:
    """Start a fetch as another runner would; the returned function delivers its reply."""
    token = Token(kid or KID[kind], kind, {}, b"", b"", b"")
    script = world.cache.key_for(token, world.clock.now, defer_refresh=False)
    led = next(script).script()
    assert isinstance(next(led), Call)

    def arrives() -> tuple[Any, Action, Clocks]:
        for each in (led, script):
            with pytest.raises(StopIteration) as stop:
                each.send(Resume(answer if each is led else ShareEnd.DONE, world.clock.now))
        result: tuple[Any, Action, Clocks] = stop.value.value
        return result

    return arrives


def test_late_reply_of_an_older_fetch_restores_no_withdrawn_key(world: World) -> None:
    old = reply(document(NORMAL))
    world.warm()
    world.clock.pass_by(FRESH_FOR)
    arrives = late(world, old, kid=SIGNERS[NORMAL][1].kid)
    world.clock.pass_by(0.1)
    world.auth.signers[NORMAL] = (SIGNERS[NORMAL][1],)
    assert world.refused(kid=KID[NORMAL]).code is ErrorCode.INVALID_TOKEN
    newer = world.cache.record(NORMAL)
    world.clock.pass_by(0.1)
    arrives()
    assert world.cache.record(NORMAL) is newer
    assert world.refused(kid=KID[NORMAL]).code is ErrorCode.INVALID_TOKEN


def test_late_failure_of_an_older_fetch_keeps_the_newer_key_set(world: World) -> None:
    arrives = late(world, OUTAGE)
    world.clock.pass_by(0.1)
    world.key_for()
    arrives()
    assert world.cache.record(NORMAL).failure is None


def test_late_reply_of_an_older_fetch_is_cached_if_there_is_none(world: World) -> None:
    arrives = late(world, reply(document(NORMAL)))
    world.clock.pass_by(0.1)
    world.auth.down = OUTAGE
    world.refused()
    assert arrives()[0].point == SIGNERS[NORMAL][0].point


# -- stale sets ---------------------------------------------------------------------------------------


def test_stale_key_set_is_used_without_a_fetch_if_refresh_is_deferred(world: World) -> None:
    world.warm()
    world.clock.pass_by(FRESH_FOR)
    key, action, _ = world.key_for(defer_refresh=True)
    assert (key.point, action) == (SIGNERS[NORMAL][0].point, Action.USE_AND_REFRESH)
    assert world.runner.shares == []


def test_stale_key_set_is_refreshed_by_one_request_within_refresh_budget(world: World) -> None:
    world.warm()
    world.clock.pass_by(FRESH_FOR)
    assert world.key_for()[1] is Action.USE
    (share,) = world.runner.shares
    assert (share.key, share.budget, share.wait) == (("keys", NORMAL), REFRESH_BUDGET, 0)
    assert len(world.auth.calls) == 1
    assert "cache-control" not in world.auth.calls[0].headers
    assert world.cache.record(NORMAL).fetched_at.mono == MONO + FRESH_FOR


def test_other_requests_use_the_stale_key_set_without_waiting(world: World) -> None:
    """A request with a usable key never waits."""
    world.warm()
    world.clock.pass_by(FRESH_FOR)
    world.runner.joined = [lambda: ShareEnd.TIMED_OUT]
    key, _, _ = world.key_for()
    assert key.point == SIGNERS[NORMAL][0].point
    assert len(world.runner.shares) == 1
    assert world.auth.calls == []


def test_failed_refresh_does_not_affect_requests(world: World) -> None:
    world.warm()
    world.clock.pass_by(FRESH_FOR)
    world.auth.down = TIMED_OUT
    for _ in range(5):
        assert world.key_for()[1] is Action.USE
    assert len(world.auth.calls) == 1


@pytest.mark.parametrize(
    ("since", "calls"),
    [(0, 0), (FRESH_FOR - 1, 0), (FRESH_FOR, 1), (STALE_IF_ERROR, 1)],
    ids=["new", "fresh", "stale", "too old"],
)
def test_deferred_refresh_checks_the_age_again(world: World, since: float, calls: int) -> None:
    """Another request may have refreshed the key set while the app ran."""
    world.warm()
    world.clock.pass_by(since)
    world.runner(world.cache.refresh_if_stale(NORMAL, world.clock.now))
    assert len(world.auth.calls) == calls
    world.runner(world.cache.refresh_if_stale(NORMAL, world.clock.now))
    assert len(world.auth.calls) == calls
    assert [share.wait for share in world.runner.shares] == [0] * calls


def test_deferred_refresh_respects_min_fetch_interval_after_a_failure(world: World) -> None:
    world.warm()
    world.clock.pass_by(FRESH_FOR)
    world.auth.down = OUTAGE
    for seconds in (0, MIN_FETCH_INTERVAL - 0.1, 0.1):
        world.clock.pass_by(seconds)
        world.runner(world.cache.refresh_if_stale(NORMAL, world.clock.now))
    assert len(world.auth.calls) == 2


# -- readiness ----------------------------------------------------------------------------------------


def test_prefetch_fetches_the_keys_of_normal_users_once(world: World) -> None:
    world.runner(world.cache.prefetch_keys(world.clock.now))
    world.runner(world.cache.prefetch_keys(world.clock.now))
    assert world.auth.queries == [""]
    (share,) = world.runner.shares
    assert (share.key, share.budget, share.wait) == (("keys", NORMAL), math.inf, math.inf)


def test_status_causes_no_fetch(world: World) -> None:
    assert world.cache.status(world.clock.now) == Status(ready=False, keys_age=None, failure=None)
    world.auth.down = reply(b"", 404)
    world.refused()
    assert world.cache.status(world.clock.now) == Status(ready=False, keys_age=None, failure=ErrorCode.MISCONFIGURED)
    world.auth.down = None
    world.clock.pass_by(MIN_FETCH_INTERVAL)
    world.key_for()
    world.clock.pass_by(100)
    assert world.cache.status(world.clock.now) == Status(ready=True, keys_age=100, failure=None)
    world.clock.pass_by(STALE_IF_ERROR)
    assert world.cache.status(world.clock.now) == Status(ready=False, keys_age=STALE_IF_ERROR + 100, failure=None)
    assert len(world.auth.calls) == 2
