"""Lookups: caches, freshness, single flight and the circuit breaker, on the example of profiles."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stackauth_middleware
from stackauth_middleware import AuthServerError, ErrorCode, RefusedError, StackAuthConfig, User, UserProfile
from stackauth_middleware._core.api import Api
from stackauth_middleware._core.breaker import OPEN_FOR, OPENS_AFTER, Breaker
from stackauth_middleware._core.cache import reset_all
from stackauth_middleware._core.lookup import FRESH_INTERVAL, MIN_SHARED_RESULTS
from stackauth_middleware._core.profiles import ProfileLookup
from stackauth_middleware._core.replies import MAX_PARTS
from stackauth_middleware._core.upstream import CANCEL_GRACE, Answer, Call, Led, Resume, Script, Share, ShareEnd
from stackauth_middleware._core.users import user_from_claims
from stackauth_middleware._io.async_runner import AsyncRunner
from stackauth_middleware._io.network import clocks
from stackauth_middleware._io.sync_runner import SyncRunner
from stackauth_middleware._version import __version__
from stackauth_middleware.testing import LocalStackAuth

from . import user_lookup
from .helpers import (
    BROKEN,
    DEAD_POOLED,
    NO_REPLIES,
    NORMAL,
    PROJECT,
    TIMED_OUT,
    TOO_LARGE,
    USER_ID,
    WALL,
    Clock,
    FakeRunner,
    bounded,
    claims,
    reply,
)

JANE = USER_ID
JOHN = "33333333-3333-4333-8333-333333333333"
SECRET = "ssk_canary"


def user_of(user_id: str, expires_at: float = WALL + 540) -> User:
    return user_from_claims(claims(NORMAL, sub=user_id, exp=expires_at), NORMAL, b"{}")


def token_of(user_id: str, number: int = 0) -> str:
    return f"{user_id} {number}"


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class UsersMe:
    """A users/me that numbers its replies."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.instead: Callable[[str], Answer | None] = lambda token: None

    def __call__(self, call: Call) -> Answer:
        token = call.headers["x-stack-access-token"]
        self.asked.append(token)
        assert call.headers["x-stack-client-version"].endswith(f"@{__version__}")
        body = {"id": token.partition(" ")[0], "display_name": f"answer {len(self.asked)}"}
        return self.instead(token) or reply(body)


def refusal(code: str = "CANNOT_GET_OWN_USER_WITHOUT_USER", status: int = 400) -> Answer:
    return reply({"code": code, "error": "words"}, status)


def always(answer: Answer | None) -> Callable[[str], Answer | None]:
    return lambda token: answer


class Setup:
    """A profile lookup under test, a clock moved by hand, and a single caller."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.users_me = UsersMe()
        self.lookup = ProfileLookup(StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET, **settings))
        self.runner = FakeRunner(self.clock, self.users_me)

    def script(
        self, user_id: str = JANE, number: int = 0, *, fresh: bool = False, expires_at: float = WALL + 540
    ) -> Script[UserProfile]:
        token = token_of(user_id, number)
        user = user_of(user_id, expires_at)
        return self.lookup.profile(user, token, digest_of(token), self.clock.now, fresh=fresh)

    def ask(self, user_id: str = JANE, number: int = 0, **how: Any) -> str | None:
        """Return the number of the reply. A millisecond passes, so that no two requests have the same time."""
        try:
            profile: UserProfile = self.runner(self.script(user_id, number, **how))
        finally:
            self.clock.pass_by(0.001)
        assert profile.id == user_id
        return profile.display_name

    def failure(self, user_id: str = JANE, number: int = 0, **how: Any) -> tuple[ErrorCode, int | None]:
        with pytest.raises(AuthServerError) as raised:
            self.ask(user_id, number, **how)
        return raised.value.code, raised.value.retry_after

    def refusal(self, user_id: str = JANE, number: int = 0, **how: Any) -> ErrorCode:
        with pytest.raises(RefusedError) as raised:
            self.ask(user_id, number, **how)
        return raised.value.code

    @property
    def calls(self) -> int:
        return len(self.users_me.asked)


SERVER_ERROR, MISCONFIGURED = ErrorCode.SERVER_ERROR, ErrorCode.MISCONFIGURED


# -- the cache -------------------------------------------------------------------------------


def test_profile_is_cached_for_profile_ttl() -> None:
    setup = Setup(profile_ttl=30)
    assert setup.ask() == "answer 1"
    setup.clock.pass_by(29.9)
    assert setup.ask() == "answer 1"
    setup.clock.pass_by(0.1)
    assert setup.ask() == "answer 2"


def test_age_counts_from_the_call() -> None:
    """A change while the reply was on its way may not be in it."""
    setup = Setup(profile_ttl=30)
    setup.runner.takes = 4
    assert setup.ask() == "answer 1"
    setup.clock.pass_by(26)
    assert setup.ask() == "answer 2"


def test_entry_expires_exactly_at_the_end_of_its_ttl() -> None:
    setup = Setup(profile_ttl=30)
    setup.runner(setup.script(expires_at=WALL + 40))
    setup.clock.pass_by(30)
    setup.runner(setup.script(expires_at=WALL + 40))
    setup.clock.pass_by(10)
    setup.runner(setup.script())
    assert setup.calls == 3


def test_reply_that_arrived_at_the_time_of_the_request_answers_it() -> None:
    """Clocks have a limited resolution."""
    setup = Setup(profile_ttl=0)
    assert [setup.runner(setup.script()).display_name for _ in range(2)] == ["answer 1"] * 2
    (share,) = setup.runner.shares
    assert share.cancel_grace == CANCEL_GRACE
    assert share.key == ("profile", JANE)


def test_profile_expires_although_the_monotonic_clock_has_stopped() -> None:
    """Its reply did not arrive after the request, although the monotonic times are equal."""
    setup = Setup(profile_ttl=30)
    for number in (1, 2):
        assert setup.runner(setup.script()).display_name == f"answer {number}"
        setup.clock.wall += 30


@pytest.mark.parametrize("answer", [refusal(), reply(b"", 500)], ids=["refused", "failure of the key"])
def test_negative_cache_ends_after_exactly_a_second(answer: Answer) -> None:
    setup = Setup()
    setup.users_me.instead = always(answer)
    for calls, later in ((1, 0.75), (1, 0.25), (2, 0)):
        with pytest.raises((RefusedError, AuthServerError)):
            setup.runner(setup.script())
        assert setup.calls == calls
        setup.clock.pass_by(later)


def test_profile_is_cached_by_user_and_not_by_token() -> None:
    setup = Setup()
    assert [setup.ask(JANE, number) for number in range(5)] == ["answer 1"] * 5
    assert setup.ask(JOHN) == "answer 2"
    assert setup.users_me.asked == [token_of(JANE), token_of(JOHN)]


def test_leader_that_starts_after_another_finished_uses_the_cache() -> None:
    """A thread can be suspended between its check of the cache and its fetch."""
    setup = Setup()

    def follow() -> ShareEnd:
        setup.ask()
        setup.runner(setup.runner.shares[0].script())
        return ShareEnd.DONE

    setup.runner.joined.append(follow)
    assert setup.ask(number=1) == "answer 1"
    assert setup.calls == 1


def test_configs_share_no_cache() -> None:
    one, other = Setup(), Setup()
    one.ask()
    other.ask()
    assert (one.calls, other.calls) == (1, 1)


def test_entry_expires_with_the_token_of_its_call() -> None:
    """By the wall clock, also if that clock jumps."""
    setup = Setup(profile_ttl=3600)
    assert setup.ask(expires_at=WALL + 10) == "answer 1"
    setup.clock.wall += 9.8
    assert setup.ask(number=1, expires_at=WALL + 540) == "answer 1"
    setup.clock.wall += 0.2
    assert setup.ask(number=1, expires_at=WALL + 540) == "answer 2"


@pytest.mark.parametrize("settings", [{"profile_ttl": 0}, {"profile_cache_size": 0}])
def test_disabled_cache_makes_a_call_for_each_request(settings: dict[str, Any]) -> None:
    setup = Setup(**settings)
    for _ in range(3):
        setup.ask()
    assert setup.calls == 3


def test_least_recently_used_profile_is_evicted() -> None:
    setup = Setup(profile_cache_size=2)
    ann = "44444444-4444-4444-8444-444444444444"
    for user_id in (JANE, JOHN, JANE, ann):
        setup.ask(user_id)
    assert setup.calls == 3
    setup.ask(JANE)
    assert setup.calls == 3
    setup.ask(JOHN)
    assert setup.calls == 4


def test_all_caches_are_bounded() -> None:
    """Those of profiles, failures and refusals."""
    setup = Setup(profile_cache_size=3)
    answers = [None, refusal(), reply(b"", 500)]
    for number in range(3 * MIN_SHARED_RESULTS + 30):
        setup.users_me.instead = always(answers[number % 3])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(setup.lookup._api, "faults", lambda *_: None)
            patch.setattr(setup.lookup._api, "outages", lambda *_: None)
            with contextlib.suppress(AuthServerError, RefusedError):
                setup.ask(f"00000000-0000-4000-8000-{number:012}")
    assert len(setup.lookup._kept) == 3
    assert len(setup.lookup._failed) == MIN_SHARED_RESULTS
    assert len(setup.lookup._refused) == MIN_SHARED_RESULTS


def with_metadata(size: int) -> Callable[[str], Answer]:
    return lambda token: reply({"id": token.partition(" ")[0], "client_metadata": "x" * size})


def test_profile_cache_is_bounded_in_bytes() -> None:
    """Metadata is user-controlled, up to a megabyte."""
    setup = Setup(profile_cache_bytes=10_000_000)
    setup.users_me.instead = with_metadata(900_000)
    users = [f"00000000-0000-4000-8000-{number:012}" for number in range(20)]
    for user_id in users:
        setup.ask(user_id)
    assert len(setup.lookup._kept) == 11
    setup.ask(users[-1])
    assert setup.calls == 20
    setup.ask(users[0])
    assert setup.calls == 21


@pytest.mark.parametrize("settings", [{"profile_cache_bytes": 0}, {"profile_cache_bytes": 1, "profile_cache_size": 0}])
def test_callers_share_a_profile_that_is_larger_than_the_cache(settings: dict[str, Any]) -> None:
    setup = Setup(**settings)
    setup.users_me.instead = with_metadata(900_000)
    crowd = Crowd(setup)
    askers = [crowd.comes() for _ in range(20)]
    crowd.all_answered()
    assert all(isinstance(each.outcome, UserProfile) for each in askers)
    assert setup.calls == 1


def test_profiles_past_their_time_to_live_are_evicted() -> None:
    setup = Setup(profile_ttl=30)
    for number in range(100):
        setup.ask(f"00000000-0000-4000-8000-{number:012}")
    setup.clock.pass_by(31)
    setup.ask()
    assert len(setup.lookup._kept) == 1


# -- clocks that stand still --------------------------------------------------------------------------


@pytest.mark.parametrize(("wall", "mono"), [(30, 0.005), (-3600, 30)], ids=["suspended host", "wall clock set back"])
def test_profile_expires_on_the_clock_that_advanced_further(wall: float, mono: float) -> None:
    """On a suspended host a restricted user would otherwise be let in for as long as the token lasts (B4)."""
    setup = Setup(profile_ttl=30)
    assert setup.ask() == "answer 1"
    setup.clock.wall += wall
    setup.clock.mono += mono
    assert setup.ask() == "answer 2"


@pytest.mark.parametrize("answer", [refusal(), reply(b"", 500)], ids=["refused", "failure of the key"])
def test_negative_cache_ends_although_the_monotonic_clock_stands_still(answer: Answer) -> None:
    setup = Setup()
    setup.users_me.instead = always(answer)
    with pytest.raises((RefusedError, AuthServerError)):
        setup.ask()
    setup.users_me.instead = always(None)
    setup.clock.wall += 1
    assert setup.ask() == "answer 2"


def test_breaker_closes_although_the_monotonic_clock_stands_still() -> None:
    setup = Setup()
    setup.users_me.instead = always(TIMED_OUT)
    for _ in range(OPENS_AFTER):
        setup.failure()
    setup.users_me.instead = always(None)
    setup.clock.wall += OPEN_FOR
    assert setup.ask() == f"answer {OPENS_AFTER + 1}"


# -- newer wins ---------------------------------------------------------------------------------------


def late(setup: Setup, answer: Answer, meanwhile: Callable[[], object], number: int = 0, **how: Any) -> Any:
    """Start a request, do `meanwhile` during its call, as another runner would, and let the call return `answer`."""
    script = setup.script(number=number, **how)
    share = next(script)
    assert isinstance(share, Share)
    led = share.script()
    next(led)
    setup.clock.pass_by(0.01)
    meanwhile()
    setup.clock.pass_by(0.01)
    with pytest.raises(StopIteration) as returned:
        led.send(Resume(answer, setup.clock.now))
    try:
        script.send(Resume(Led(returned.value.value), setup.clock.now))
    except StopIteration as stop:
        return stop.value.display_name
    except RefusedError as refused:
        return refused.code
    raise AssertionError("another call")


OLD = reply({"id": JANE, "display_name": "old"})


def test_late_older_profile_does_not_replace_a_newer_one() -> None:
    setup = Setup()
    assert late(setup, OLD, lambda: setup.ask(fresh=True)) == "answer 1"
    assert setup.ask() == "answer 1"
    assert setup.calls == 1


def test_late_older_profile_does_not_replace_a_newer_refusal() -> None:
    """Whichever token of the user was refused."""
    setup = Setup()
    setup.users_me.instead = always(refusal())
    assert late(setup, OLD, lambda: setup.refusal(fresh=True)) is ErrorCode.INVALID_TOKEN
    setup.clock.pass_by(1)
    assert setup.refusal() is ErrorCode.INVALID_TOKEN
    setup.clock.pass_by(1)
    with pytest.raises(AssertionError, match="another call"):
        late(setup, OLD, lambda: setup.refusal(number=1, fresh=True))


def test_late_older_refusal_does_not_replace_a_newer_profile() -> None:
    setup = Setup()
    assert late(setup, refusal(), lambda: setup.ask(number=1)) == "answer 1"
    assert setup.ask() == setup.ask(number=1) == "answer 1"
    assert setup.calls == 1


def test_reset_all_empties_the_cache() -> None:
    setup = Setup()
    setup.ask()
    reset_all()
    setup.ask()
    assert setup.calls == 2


# -- fresh --------------------------------------------------------------------------------------------


def test_fresh_bypasses_an_entry_of_the_same_time() -> None:
    setup = Setup()
    numbers = [setup.runner(setup.script(fresh=fresh)).display_name for fresh in (False, True)]
    assert numbers == ["answer 1", "answer 2"]


@pytest.mark.parametrize("settings", [{}, {"profile_ttl": 0}, {"profile_cache_size": 0}])
def test_fresh_calls_for_one_user_have_a_minimum_interval(settings: dict[str, Any]) -> None:
    """Otherwise one user could exhaust the rate limit of the whole project."""
    setup = Setup(**settings)
    assert {setup.ask(number=number % 3, fresh=True) for number in range(100)} == {"answer 1"}
    assert setup.ask(JOHN, fresh=True) == "answer 2"
    setup.clock.pass_by(FRESH_INTERVAL - 0.101)
    assert setup.ask(fresh=True) == "answer 3"
    setup.clock.pass_by(FRESH_INTERVAL - 0.01)
    assert setup.ask(fresh=True) == "answer 3"


def test_ordinary_call_does_not_reset_the_fresh_interval() -> None:
    setup = Setup(profile_ttl=0)
    assert [setup.ask(fresh=fresh) for fresh in (True, False, True)] == ["answer 1", "answer 2", "answer 2"]


def test_failed_fresh_call_leaves_the_cached_profile() -> None:
    setup = Setup()
    setup.ask()
    setup.users_me.instead = lambda token: TIMED_OUT
    assert setup.failure(fresh=True) == (SERVER_ERROR, 1)
    assert setup.ask() == "answer 1"


# -- refusals -----------------------------------------------------------------------------------------


def test_refused_token_is_not_sent_again_for_a_second() -> None:
    setup = Setup()
    setup.users_me.instead = lambda token: refusal()
    assert setup.refusal() is ErrorCode.INVALID_TOKEN
    setup.clock.pass_by(0.9)
    assert setup.refusal() is ErrorCode.INVALID_TOKEN
    assert setup.refusal(fresh=True) is ErrorCode.INVALID_TOKEN
    assert setup.calls == 1
    setup.clock.pass_by(0.1)
    assert setup.refusal() is ErrorCode.INVALID_TOKEN
    assert setup.calls == 2


def test_refusal_applies_to_the_token_and_not_to_the_user() -> None:
    setup = Setup()
    setup.users_me.instead = lambda token: refusal("ACCESS_TOKEN_EXPIRED", 401) if token == token_of(JANE) else None
    assert setup.refusal() is ErrorCode.EXPIRED_TOKEN
    assert setup.ask(JANE, 1) == "answer 2"
    assert setup.refusal() is ErrorCode.EXPIRED_TOKEN
    assert setup.calls == 2


def test_refusal_replaces_the_cached_profile() -> None:
    """A deleted user is refused at once, with every token."""
    setup = Setup()
    setup.ask()
    setup.users_me.instead = lambda token: refusal()
    assert setup.refusal(fresh=True) is ErrorCode.INVALID_TOKEN
    assert setup.refusal(JANE, 1) is ErrorCode.INVALID_TOKEN
    assert setup.calls == 3


def test_refusal_has_the_restriction_reason() -> None:
    setup = Setup()
    body = {"code": "RESTRICTED_USER_NOT_ALLOWED", "details": {"restricted_reason": {"type": "email_not_verified"}}}
    setup.users_me.instead = lambda token: reply(body, 403)
    for _ in range(2):
        with pytest.raises(RefusedError) as raised:
            setup.ask()
        assert raised.value.restricted_reason == "email_not_verified"
        assert raised.value.detail == "users/me says RESTRICTED_USER_NOT_ALLOWED"
    assert setup.calls == 1


# -- failures and the breaker -------------------------------------------------------------------------


def test_call_is_retried_only_after_a_failure_on_a_pooled_connection() -> None:
    for answer in (*NO_REPLIES, DEAD_POOLED):
        setup = Setup()
        setup.users_me.instead = always(answer)
        assert setup.failure() == (SERVER_ERROR, 1)
        assert setup.calls == (2 if answer is DEAD_POOLED else 1), answer


def test_failures_on_pooled_connections_alone_never_open_the_breaker() -> None:
    """They are no evidence of an outage: the pooled connections may be dead, or there was no time left."""
    setup = Setup()
    setup.users_me.instead = always(DEAD_POOLED)
    for _ in range(2 * OPENS_AFTER):
        assert setup.failure() == (SERVER_ERROR, 1)
    assert setup.lookup._api.breaker.record == Breaker()
    setup.users_me.instead = always(TIMED_OUT)
    for _ in range(OPENS_AFTER):
        setup.failure()
    assert setup.lookup._api.breaker.record.is_open(setup.clock.now)


def test_successful_retry_is_no_failure() -> None:
    setup = Setup()
    setup.users_me.instead = lambda token: DEAD_POOLED if setup.calls == 1 else None
    assert setup.ask() == "answer 2"
    assert not setup.lookup._api.breaker.record.failures


def test_no_call_after_five_consecutive_failures() -> None:
    setup = Setup()
    setup.users_me.instead = lambda token: TIMED_OUT
    failures = [setup.failure() for _ in range(900)]
    assert setup.calls == OPENS_AFTER
    assert failures[:4] == [(SERVER_ERROR, 1)] * 4
    assert failures[4:] == [(SERVER_ERROR, 10)] * 896


def test_open_breaker_fails_a_request_without_single_flight() -> None:
    """So no thread waits, and no task is switched."""
    setup = Setup()
    setup.users_me.instead = lambda token: reply(b"", 429, retry_after="7")
    setup.failure()
    del setup.runner.shares[:]
    assert setup.failure(JOHN) == (SERVER_ERROR, 7)
    assert setup.failure(JANE, 1, fresh=True) == (SERVER_ERROR, 7)
    assert setup.runner.shares == []


def test_cache_is_used_while_the_breaker_is_open() -> None:
    setup = Setup()
    setup.ask(JOHN)
    setup.users_me.instead = lambda token: reply(b"", 429, retry_after="7")
    setup.failure(JANE)
    assert setup.ask(JOHN) == "answer 1"


def test_failure_of_one_key_is_retried_once_a_second_and_does_not_open_the_breaker() -> None:
    """A token to which users/me answers 500 must neither affect other users nor exhaust the rate limit."""
    setup = Setup()
    setup.users_me.instead = lambda token: reply(b"", 500) if token.startswith(JANE) else None
    for _ in range(10):
        for _ in range(100):
            assert setup.failure() == (SERVER_ERROR, 1)
            assert setup.failure(JANE, 1, fresh=True) == (SERVER_ERROR, 1)
        setup.clock.pass_by(0.8)
    assert setup.calls == 10
    assert setup.ask(JOHN) == "answer 11"


USERS = [f"00000000-0000-4000-8000-{number:012}" for number in range(OPENS_AFTER)]


def body_of(user_id: str, metadata: str) -> Answer:
    return reply(f'{{"id": "{user_id}", "client_metadata": {metadata}}}'.encode())


TOO_LARGE_PROFILES: dict[str, Callable[[str], Answer]] = {
    "too large": lambda user_id: TOO_LARGE,
    "too many parts": lambda user_id: body_of(user_id, f"[{'0,' * MAX_PARTS}0]"),
    "too deep to hold": lambda user_id: body_of(user_id, "[" * 600 + "]" * 600),
    "too deep": lambda user_id: body_of(user_id, "[" * 30_000 + "]" * 30_000),
}


@pytest.mark.parametrize("how", TOO_LARGE_PROFILES)
def test_too_large_profiles_do_not_open_the_breaker(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Metadata is user-controlled. Each of these users gets a 503, and is fetched once a second."""
    setup = Setup(profile_ttl=0)
    setup.users_me.instead = lambda token: TOO_LARGE_PROFILES[how](token[:36]) if token[:36] in USERS else None
    for batch in range(1, 4):
        for _ in range(3):
            assert [setup.failure(user_id) for user_id in USERS] == [(SERVER_ERROR, 1)] * 5
        assert setup.ask(JOHN) == f"answer {batch * 6}"
        assert setup.calls == batch * 6
        setup.clock.pass_by(1)
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert "no profile from https://api.stack-auth.com/api/v1/users/me: " in line.getMessage()


@pytest.mark.parametrize("how", TOO_LARGE_PROFILES)
def test_too_large_profile_resets_the_breaker(how: str) -> None:
    setup = Setup()
    setup.users_me.instead = lambda token: TIMED_OUT
    for _ in range(OPENS_AFTER):
        setup.failure()
    setup.clock.pass_by(OPEN_FOR)
    setup.users_me.instead = lambda token: TOO_LARGE_PROFILES[how](JANE) if token.startswith(JANE) else None
    assert setup.failure(JANE) == (SERVER_ERROR, 1)
    assert setup.ask(JOHN) == "answer 7"


def test_inconclusive_probe_permits_another_at_once() -> None:
    """Otherwise five users whose profiles fail could keep the breaker open for all."""
    setup = Setup()
    setup.users_me.instead = lambda token: reply(b"", 500) if token[:36] in USERS else None
    assert [setup.failure(user_id) for user_id in USERS] == [(SERVER_ERROR, 1)] * 4 + [(SERVER_ERROR, 10)]
    setup.clock.pass_by(OPEN_FOR)
    assert setup.failure(USERS[0]) == (SERVER_ERROR, 1)
    assert setup.ask(JOHN) == "answer 7"
    assert setup.ask(JANE) == "answer 8"
    assert setup.calls == 8


def test_outage_is_not_cached_for_a_user() -> None:
    """Unlike a failure of the key: the next call may succeed."""
    setup = Setup()
    setup.users_me.instead = lambda token: BROKEN
    setup.failure()
    setup.users_me.instead = lambda token: None
    assert setup.ask() == "answer 2"


def test_misconfiguration_is_retried_every_ten_seconds_and_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup()
    setup.users_me.instead = lambda token: reply({"code": "INVALID_SECRET_SERVER_KEY", "error": "words"}, 401)
    for second in range(60):
        for number in range(10):
            assert setup.failure(f"00000000-0000-4000-8000-{number:012}") == (MISCONFIGURED, None), second
        setup.clock.pass_by(0.99)
    assert setup.calls == 6
    (line,) = caplog.records
    assert (line.levelno, line.name) == (logging.ERROR, "stackauth_middleware")
    assert "INVALID_SECRET_SERVER_KEY" in line.getMessage()
    assert "https://api.stack-auth.com/api/v1/users/me" in line.getMessage()
    with pytest.raises(AuthServerError) as raised:
        setup.ask()
    assert raised.value.detail == "users/me says INVALID_SECRET_SERVER_KEY"
    assert len(caplog.records) == 2
    assert "[6 times" in caplog.records[1].getMessage()


# -- single flight ---------------------------------------------------------------------------------


class Asker:
    """One of several concurrent callers."""

    def __init__(self, script: Script[UserProfile]) -> None:
        self.scripts: list[Script[Any]] = [script]
        self.call: Call | None = None
        self.sent_at = 0.0
        self.follows: object = None
        self.leads: object = None
        self.outcome: UserProfile | Exception | None = None


class Crowd:
    """A model of a runner whose concurrent callers come, are answered and leave in any order."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.askers: list[Asker] = []
        self.times: dict[str | None, tuple[float, float]] = {}

    def comes(self, user_id: str = JANE, number: int = 0, **how: Any) -> Asker:
        asker = Asker(self.setup.script(user_id, number, **how))
        self.askers.append(asker)
        self._resume(asker, None)
        return asker

    def answered(self, asker: Asker) -> None:
        """Answer the call of `asker`."""
        assert asker.call is not None
        call, asker.call = asker.call, None
        answer = self.setup.users_me(call)
        self.times[f"answer {self.setup.calls}"] = asker.sent_at, self.setup.clock.mono
        self._resume(asker, Resume(answer, self.setup.clock.now))

    def leaves(self, asker: Asker) -> None:
        """Cancel `asker`."""
        for script in reversed(asker.scripts):
            script.close()
        asker.scripts.clear()
        asker.call = asker.follows = None
        asker.outcome = asker.outcome or TimeoutError("left")
        self._finish(asker)

    def waited_enough(self, asker: Asker) -> None:
        asker.follows = None
        self._resume(asker, Resume(ShareEnd.TIMED_OUT, self.setup.clock.now))

    def all_answered(self) -> None:
        while any(each.call for each in self.askers):
            self.answered(next(each for each in self.askers if each.call))

    def _resume(self, asker: Asker, resume: Resume | None) -> None:
        while asker.scripts:
            try:
                effect = asker.scripts[-1].send(resume) if resume else next(asker.scripts[-1])
            except (StopIteration, RefusedError, AuthServerError) as end:
                asker.scripts.pop()
                if asker.scripts:
                    self._finish(asker)
                    resume = Resume(Led(end.value), self.setup.clock.now)
                    continue
                asker.outcome = end.value if isinstance(end, StopIteration) else end
                return
            if isinstance(effect, Call):
                asker.call, asker.sent_at = effect, self.setup.clock.mono
                return
            assert isinstance(effect, Share)
            if any(each.leads == effect.key for each in self.askers):
                asker.follows = effect.key
                return
            asker.leads = effect.key
            asker.scripts.append(effect.script())
            resume = None

    def _finish(self, asker: Asker) -> None:
        key, asker.leads = asker.leads, None
        for each in [each for each in self.askers if key is not None and each.follows == key]:
            each.follows = None
            self._resume(each, Resume(ShareEnd.DONE, self.setup.clock.now))


def result_of(asker: Asker) -> Any:
    """Return the number of the reply that `asker` got, or its error code."""
    if isinstance(asker.outcome, UserProfile):
        return asker.outcome.display_name
    assert isinstance(asker.outcome, AuthServerError | RefusedError), asker.outcome
    return asker.outcome.code


@pytest.mark.parametrize("settings", [{}, {"profile_ttl": 0}, {"profile_cache_size": 0}, {"profile_cache_size": 1}])
def test_concurrent_requests_of_one_user_share_one_call(settings: dict[str, Any]) -> None:
    """With any of the user's tokens, and even with the cache disabled."""
    setup = Setup(**settings)
    crowd = Crowd(setup)
    askers = [crowd.comes(JANE, number % 5) for number in range(200)]
    setup.clock.pass_by(0.1)
    crowd.all_answered()
    assert [result_of(each) for each in askers] == ["answer 1"] * 200
    assert setup.calls == 1


def test_concurrent_requests_share_a_call_whose_token_is_expiring() -> None:
    """Within the leeway an expired token is accepted here and perhaps by Stack Auth."""
    setup = Setup()
    crowd = Crowd(setup)
    askers = [crowd.comes(JANE, expires_at=WALL - 1) for _ in range(50)]
    setup.clock.pass_by(0.1)
    crowd.all_answered()
    assert [result_of(each) for each in askers] == ["answer 1"] * 50
    assert setup.calls == 1
    setup.clock.pass_by(0.1)
    setup.ask(JANE, expires_at=WALL - 1)
    assert setup.calls == 2


@pytest.mark.parametrize("answer", [TIMED_OUT, reply(b"", 500), reply(b"", 429, retry_after="3"), reply(b"<html>")])
@pytest.mark.parametrize("settings", [{}, {"profile_cache_size": 0}])
@pytest.mark.parametrize("fresh", [False, True])
def test_concurrent_requests_share_a_failure(answer: Answer, settings: dict[str, Any], fresh: bool) -> None:
    setup = Setup(**settings)
    setup.users_me.instead = lambda token: answer
    crowd = Crowd(setup)
    askers = [crowd.comes(fresh=fresh) for _ in range(50)]
    setup.clock.pass_by(5)
    crowd.all_answered()
    assert {result_of(each) for each in askers} == {SERVER_ERROR}
    assert setup.calls == 1


@pytest.mark.parametrize("settings", [{}, {"profile_cache_size": 0}])
def test_concurrent_requests_with_one_token_share_a_refusal(settings: dict[str, Any]) -> None:
    setup = Setup(**settings)
    setup.users_me.instead = lambda token: refusal()
    crowd = Crowd(setup)
    askers = [crowd.comes(JANE, number % 5) for number in range(50)]
    crowd.all_answered()
    assert {result_of(each) for each in askers} == {ErrorCode.INVALID_TOKEN}
    assert sorted(setup.users_me.asked) == [token_of(JANE, number) for number in range(5)]


def test_fresh_request_does_not_use_the_reply_to_an_earlier_call() -> None:
    """A handler that changed the profile must see the change."""
    setup = Setup()
    crowd = Crowd(setup)
    early = crowd.comes()
    setup.clock.pass_by(0.01)
    late = [crowd.comes(fresh=True) for _ in range(20)]
    setup.clock.pass_by(0.01)
    crowd.answered(early)
    assert [each.call is not None for each in late] == [True] + [False] * 19
    crowd.all_answered()
    assert result_of(early) == "answer 1"
    assert [result_of(each) for each in late] == ["answer 2"] * 20


@pytest.mark.parametrize("answer", [None, refusal(), TIMED_OUT])
def test_follower_leads_after_the_leader_is_cancelled(answer: Answer | None) -> None:
    setup = Setup()
    setup.users_me.instead = lambda token: answer
    crowd = Crowd(setup)
    leader, *others = [crowd.comes() for _ in range(10)]
    crowd.leaves(leader)
    assert [each.call is not None for each in others] == [True] + [False] * 8
    crowd.all_answered()
    assert len({result_of(each) for each in others}) == 1
    assert setup.calls == 1
    assert not setup.lookup._api.breaker.record.failures or answer is TIMED_OUT


def test_cancelled_probe_permits_another() -> None:
    setup = Setup()
    setup.users_me.instead = lambda token: TIMED_OUT
    for _ in range(OPENS_AFTER):
        setup.failure()
    setup.clock.pass_by(OPEN_FOR)
    setup.users_me.instead = lambda token: None
    crowd = Crowd(setup)
    leader = crowd.comes()
    assert setup.failure(JANE, 1) == setup.failure(JOHN) == (SERVER_ERROR, 10)
    crowd.leaves(leader)
    assert setup.ask(JOHN) == "answer 6"


def test_follower_that_times_out_gets_a_503_with_retry_after() -> None:
    setup = Setup()
    crowd = Crowd(setup)
    crowd.comes()
    waiting = crowd.comes()
    crowd.waited_enough(waiting)
    assert isinstance(waiting.outcome, AuthServerError)
    assert (waiting.outcome.code, waiting.outcome.retry_after) == (SERVER_ERROR, 1)
    assert waiting.outcome.detail == "the profile did not arrive in time"


def test_leader_makes_no_call_if_the_breaker_has_opened_meanwhile() -> None:
    setup = Setup()
    script = setup.script(JANE)
    share = next(script)
    assert isinstance(share, Share)
    setup.users_me.instead = lambda token: reply(b"", 429, retry_after="9")
    setup.failure(JOHN)
    with pytest.raises(StopIteration) as returned:
        next(share.script())
    with pytest.raises(AuthServerError) as raised:
        script.send(Resume(Led(returned.value.value), setup.clock.now))
    assert raised.value.retry_after == 9
    assert setup.calls == 1


def test_reply_to_an_earlier_call_does_not_end_a_pause() -> None:
    """Jane's call was made before John's was throttled, and succeeds afterwards."""
    setup = Setup()
    crowd = Crowd(setup)
    jane = crowd.comes(JANE)
    setup.clock.pass_by(0.01)
    setup.users_me.instead = lambda token: reply(b"", 429, retry_after="30") if token.startswith(JOHN) else None
    assert setup.failure(JOHN) == (SERVER_ERROR, 30)
    crowd.answered(jane)
    assert result_of(jane) == "answer 2"
    setup.users_me.instead = lambda token: None
    assert setup.failure(JOHN) == (SERVER_ERROR, 30)
    setup.clock.pass_by(30)
    assert setup.ask(JOHN) == "answer 3"


def test_each_concurrent_user_gets_their_own_profile() -> None:
    setup = Setup()
    crowd = Crowd(setup)
    users = [f"00000000-0000-4000-8000-{number:012}" for number in range(50)]
    askers = [(user_id, crowd.comes(user_id, number)) for number in range(4) for user_id in users]
    crowd.all_answered()
    assert all(isinstance(each.outcome, UserProfile) and each.outcome.id == user_id for user_id, each in askers)
    assert setup.calls == 50


moves = st.lists(
    st.one_of(
        st.tuples(st.just("comes"), st.sampled_from([JANE, JOHN]), st.integers(0, 2), st.booleans()),
        st.tuples(st.sampled_from(["answered", "leaves", "waited_enough"]), st.integers(0, 30)),
        st.tuples(st.just("passes"), st.sampled_from([0.0, 0.5, 1.0, 12.0, 31.0])),
        st.tuples(st.just("says"), st.sampled_from(["profile", "refusal", "outage", "key fault", "throttle", "fault"])),
    ),
    max_size=60,
)
SAYS: dict[str, Answer | None] = {
    "profile": None,
    "refusal": refusal(),
    "outage": TIMED_OUT,
    "key fault": reply(b"", 500),
    "throttle": reply(b"", 429, retry_after="2"),
    "fault": reply({"code": "INVALID_SECRET_SERVER_KEY"}, 401),
}


@bounded
@given(moves, st.sampled_from([{}, {"profile_ttl": 0}, {"profile_cache_size": 0}]))
def test_invariants_hold_in_any_sequence_of_events(course: Any, settings: dict[str, Any]) -> None:
    """No caller gets another user's profile or one that is too old; at most one call per user is in flight."""
    setup = Setup(**settings)
    crowd = Crowd(setup)
    came: dict[Asker, tuple[str, bool, float]] = {}
    for move, *how in course:
        busy = [each for each in crowd.askers if each.outcome is None]
        if move == "comes":
            user_id, number, fresh = how
            came[crowd.comes(user_id, number, fresh=fresh)] = user_id, fresh, setup.clock.mono
        elif move == "passes":
            setup.clock.pass_by(how[0])
        elif move == "says":
            setup.users_me.instead = always(SAYS[how[0]])
        else:
            fit = {
                "answered": [each for each in busy if each.call],
                "leaves": busy,
                "waited_enough": [each for each in busy if each.follows],
            }[move]
            if fit:
                getattr(crowd, move)(fit[how[0] % len(fit)])
        leading = [each.leads for each in crowd.askers if each.call]
        assert len(leading) == len(set(leading))
        assert all(each.outcome or each.call or each.follows for each in crowd.askers)
    for asker, (user_id, fresh, came_at) in came.items():
        if isinstance(asker.outcome, UserProfile):
            sent_at, arrived_at = crowd.times[asker.outcome.display_name]
            ttl = setup.lookup.config.profile_ttl if setup.lookup.config.profile_cache_size else 0
            assert asker.outcome.id == user_id
            if fresh:
                assert sent_at > came_at - FRESH_INTERVAL
            else:
                assert sent_at >= came_at or arrived_at >= came_at or came_at - sent_at < ttl


# -- a second lookup ----------------------------------------------------------------------------------


def test_second_lookup_is_one_module_of_its_own() -> None:
    assert len(inspect.getsource(user_lookup).splitlines()) <= 52
    for module in Path(stackauth_middleware.__file__).parent.rglob("*.py"):
        assert "user_lookup" not in module.read_text("utf-8")


@pytest.mark.parametrize("runner", ["threads", "asyncio", "trio"])
def test_second_lookup_works_through_both_runners(runner: str, stackauth: LocalStackAuth) -> None:
    """Its values are cached by key, also None for a user that does not exist."""
    user = stackauth.users.create(display_name="Jane")
    config = StackAuthConfig(project_id=stackauth.project_id, secret_server_key=SECRET)
    accounts = config.get_or_create(user_lookup.Accounts)

    def ask(user_id: str) -> Any:
        script = accounts.account(user_id, clocks())
        if runner == "threads":
            return config.get_or_create(SyncRunner).run(script)
        return anyio.run(config.get_or_create(AsyncRunner).run, script, backend=runner)

    before = stackauth.requests.count()
    for _ in range(3):
        assert ask(user.id) == user_lookup.Account(user.id, "Jane")
        assert ask(JOHN) is None
    assert stackauth.requests.count() - before == 2


def test_second_lookup_shares_single_flight_negative_cache_and_breaker() -> None:
    """A config has one breaker for all lookups."""
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET)
    accounts, profiles, clock = user_lookup.Accounts(config), ProfileLookup(config), Clock()
    calls: list[Call] = []

    def answer(call: Call) -> Answer:
        calls.append(call)
        return BROKEN

    runner = FakeRunner(clock, answer)
    for number in range(OPENS_AFTER + 3):
        with pytest.raises(AuthServerError):
            runner(accounts.account(f"user {number}", clock.now))
    assert [share.key for share in runner.shares] == [("user", f"user {number}") for number in range(OPENS_AFTER)]
    with pytest.raises(AuthServerError) as raised:
        runner(profiles.profile(user_of(JANE), token_of(JANE), digest_of(token_of(JANE)), clock.now))
    assert raised.value.retry_after == OPEN_FOR
    assert len(calls) == OPENS_AFTER


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"\xff", b"[" * 100_000], ids=str)
def test_exception_of_a_reader_is_a_failure_of_its_key(body: bytes) -> None:
    """So that readers can be short. The failure is cached for a moment."""
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET)
    accounts, clock = user_lookup.Accounts(config), Clock()
    calls: list[Call] = []

    def answer(call: Call) -> Answer:
        calls.append(call)
        return reply(body)

    for _ in range(2 * OPENS_AFTER):
        with pytest.raises(AuthServerError) as raised:
            FakeRunner(clock, answer)(accounts.account(JANE, clock.now))
        assert (raised.value.code, raised.value.retry_after) == (SERVER_ERROR, 1)
    assert len(calls) == 1


def test_keys_of_two_lookups_are_counted_apart_at_the_breaker() -> None:
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET)
    accounts, profiles, clock = user_lookup.Accounts(config), ProfileLookup(config), Clock()
    runner = FakeRunner(clock, lambda call: reply(b"", 500))
    for script in (
        accounts.account(JANE, clock.now),
        profiles.profile(user_of(JANE), token_of(JANE), digest_of(token_of(JANE)), clock.now),
    ):
        with pytest.raises(AuthServerError):
            runner(script)
    assert config.get_or_create(Api).breaker.record.failures == 2
