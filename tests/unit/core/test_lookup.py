"""The order of steps around profiles: who asks users/me, who waits, what is remembered and for how long."""

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
from stackauth_middleware._core.cache import reset_all
from stackauth_middleware._core.lookup import FRESH_INTERVAL, MIN_SHARED_RESULTS, Api
from stackauth_middleware._core.profiles import MAX_PARTS, ProfileLookup
from stackauth_middleware._core.upstream import (
    CANCEL_GRACE,
    OPEN_FOR,
    OPENS_AFTER,
    Answer,
    Breaker,
    Call,
    Led,
    Resume,
    Script,
    Share,
    ShareEnd,
)
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
    UNSENT,
    USER_ID,
    WALL,
    Clock,
    Pump,
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
    """Answers as users/me does about the user whose token is asked with; numbers its answers."""

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


def saying(answer: Answer | None) -> Callable[[str], Answer | None]:
    return lambda token: answer


class Desk:
    """A desk under test, a clock moved by hand, and a caller who asks on his own."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.users_me = UsersMe()
        self.desk = ProfileLookup(StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET, **settings))
        self.pump = Pump(self.clock, self.users_me)

    def script(
        self, user_id: str = JANE, number: int = 0, *, fresh: bool = False, expires_at: float = WALL + 540
    ) -> Script[UserProfile]:
        token = token_of(user_id, number)
        user = user_of(user_id, expires_at)
        return self.desk.profile(user, token, digest_of(token), self.clock.now, fresh=fresh)

    def ask(self, user_id: str = JANE, number: int = 0, **how: Any) -> str | None:
        """Return the number that the profile bears. A millisecond passes: no two requests are at one instant."""
        try:
            profile: UserProfile = self.pump(self.script(user_id, number, **how))
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


# -- what is remembered -------------------------------------------------------------------------------


def test_a_profile_is_asked_for_once_and_remembered_for_profile_ttl() -> None:
    desk = Desk(profile_ttl=30)
    assert desk.ask() == "answer 1"
    desk.clock.pass_by(29.9)
    assert desk.ask() == "answer 1"
    desk.clock.pass_by(0.1)
    assert desk.ask() == "answer 2"


def test_it_is_as_old_as_its_question() -> None:
    """What happened while the answer was on its way may not be in it."""
    desk = Desk(profile_ttl=30)
    desk.pump.takes = 4
    assert desk.ask() == "answer 1"
    desk.clock.pass_by(26)
    assert desk.ask() == "answer 2"


def test_at_the_very_end_of_its_time_it_is_asked_for_again() -> None:
    desk = Desk(profile_ttl=30)
    desk.pump(desk.script(expires_at=WALL + 40))
    desk.clock.pass_by(30)
    desk.pump(desk.script(expires_at=WALL + 40))
    desk.clock.pass_by(10)
    desk.pump(desk.script())
    assert desk.calls == 3


def test_unless_a_fresh_one_is_asked_for_what_is_remembered_will_do() -> None:
    desk = Desk()
    token = token_of(JANE)
    for _ in range(2):
        desk.pump(desk.desk.profile(user_of(JANE), token, digest_of(token), desk.clock.now))
        desk.clock.pass_by(1)
    assert desk.calls == 1


def test_what_landed_at_the_instant_of_the_question_answers_it() -> None:
    """Both clocks stand still within a tick of the machine's."""
    desk = Desk(profile_ttl=0)
    assert [desk.pump(desk.script()).display_name for _ in range(2)] == ["answer 1"] * 2
    (flight,) = desk.pump.flights
    assert flight.cancel_grace == CANCEL_GRACE
    assert flight.key == ("profile", JANE)


@pytest.mark.parametrize("answer", [refusal(), reply(b"", 500)], ids=["refused", "odd account"])
def test_after_exactly_a_second_a_refused_user_is_asked_for_again(answer: Answer) -> None:
    desk = Desk()
    desk.users_me.instead = saying(answer)
    for calls, later in ((1, 0.75), (1, 0.25), (2, 0)):
        with pytest.raises((RefusedError, AuthServerError)):
            desk.pump(desk.script())
        assert desk.calls == calls
        desk.clock.pass_by(later)


def test_it_belongs_to_the_user_and_not_to_the_token() -> None:
    desk = Desk()
    assert [desk.ask(JANE, number) for number in range(5)] == ["answer 1"] * 5
    assert desk.ask(JOHN) == "answer 2"
    assert desk.users_me.asked == [token_of(JANE), token_of(JOHN)]


def test_who_boards_after_a_flight_landed_looks_again_and_asks_nobody() -> None:
    """A thread can lose the processor between its look and its flight: one user, one call."""
    desk = Desk()

    def board() -> ShareEnd:
        desk.ask()
        desk.pump(desk.pump.flights[0].script())
        return ShareEnd.DONE

    desk.pump.joined.append(board)
    assert desk.ask(number=1) == "answer 1"
    assert desk.calls == 1


def test_two_configs_remember_each_its_own() -> None:
    one, other = Desk(), Desk()
    one.ask()
    other.ask()
    assert (one.calls, other.calls) == (1, 1)


def test_it_is_never_remembered_past_the_end_of_the_token_that_it_was_asked_with() -> None:
    """The wall clock alone counts for it: a jump of that clock ends it too."""
    desk = Desk(profile_ttl=3600)
    assert desk.ask(expires_at=WALL + 10) == "answer 1"
    desk.clock.wall += 9.8
    assert desk.ask(number=1, expires_at=WALL + 540) == "answer 1"
    desk.clock.wall += 0.2
    assert desk.ask(number=1, expires_at=WALL + 540) == "answer 2"


def test_with_a_profile_ttl_of_zero_each_asks() -> None:
    desk = Desk(profile_ttl=0)
    for _ in range(3):
        desk.ask()
    assert desk.calls == 3


def test_with_a_profile_memory_of_zero_each_asks() -> None:
    desk = Desk(profile_cache_size=0)
    for _ in range(3):
        desk.ask()
    assert desk.calls == 3


def test_the_memory_is_bounded_and_the_least_recently_used_goes_first() -> None:
    desk = Desk(profile_cache_size=2)
    ann = "44444444-4444-4444-8444-444444444444"
    for user_id in (JANE, JOHN, JANE, ann):
        desk.ask(user_id)
    assert desk.calls == 3
    desk.ask(JANE)
    assert desk.calls == 3
    desk.ask(JOHN)
    assert desk.calls == 4


def test_no_memory_grows_without_end() -> None:
    """Neither of profiles, nor of failures, nor of refusals."""
    desk = Desk(profile_cache_size=3)
    answers = [None, refusal(), reply(b"", 500)]
    for number in range(3 * MIN_SHARED_RESULTS + 30):
        desk.users_me.instead = saying(answers[number % 3])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(desk.desk._api, "faults", lambda *_: None)
            patch.setattr(desk.desk._api, "outages", lambda *_: None)
            with contextlib.suppress(AuthServerError, RefusedError):
                desk.ask(f"00000000-0000-4000-8000-{number:012}")
    assert len(desk.desk._kept) == 3
    assert len(desk.desk._failed) == MIN_SHARED_RESULTS
    assert len(desk.desk._refused) == MIN_SHARED_RESULTS


def with_metadata(octets: int) -> Callable[[str], Answer]:
    return lambda token: reply({"id": token.partition(" ")[0], "client_metadata": "x" * octets})


def test_profile_cache_is_bounded_in_bytes() -> None:
    """A user can write a megabyte of metadata; the users seen last are kept."""
    desk = Desk(profile_cache_bytes=10_000_000)
    desk.users_me.instead = with_metadata(900_000)
    users = [f"00000000-0000-4000-8000-{number:012}" for number in range(20)]
    for user_id in users:
        desk.ask(user_id)
    assert len(desk.desk._kept) == 11
    desk.ask(users[-1])
    assert desk.calls == 20
    desk.ask(users[0])
    assert desk.calls == 21


@pytest.mark.parametrize("settings", [{"profile_cache_bytes": 0}, {"profile_cache_bytes": 1, "profile_cache_size": 0}])
def test_callers_share_a_profile_that_is_larger_than_the_cache(settings: dict[str, Any]) -> None:
    desk = Desk(**settings)
    desk.users_me.instead = with_metadata(900_000)
    crowd = Crowd(desk)
    askers = [crowd.comes() for _ in range(20)]
    crowd.all_answered()
    assert all(isinstance(each.outcome, UserProfile) for each in askers)
    assert desk.calls == 1


def test_profiles_past_their_time_to_live_are_evicted() -> None:
    desk = Desk(profile_ttl=30)
    for number in range(100):
        desk.ask(f"00000000-0000-4000-8000-{number:012}")
    desk.clock.pass_by(31)
    desk.ask()
    assert len(desk.desk._kept) == 1


# -- newer wins ---------------------------------------------------------------------------------------


def late(desk: Desk, answer: Answer, meanwhile: Callable[[], object], number: int = 0, **how: Any) -> Any:
    """Ask, do `meanwhile` while the call is on its way, as another runner would, and let it bring `answer`."""
    script = desk.script(number=number, **how)
    share = next(script)
    assert isinstance(share, Share)
    led = share.script()
    next(led)
    desk.clock.pass_by(0.01)
    meanwhile()
    desk.clock.pass_by(0.01)
    with pytest.raises(StopIteration) as returned:
        led.send(Resume(answer, desk.clock.now))
    try:
        script.send(Resume(Led(returned.value.value), desk.clock.now))
    except StopIteration as stop:
        return stop.value.display_name
    except RefusedError as refused:
        return refused.code
    raise AssertionError("another call")


OLD = reply({"id": JANE, "display_name": "old"})


def test_late_older_profile_does_not_replace_a_newer_one() -> None:
    desk = Desk()
    assert late(desk, OLD, lambda: desk.ask(fresh=True)) == "answer 1"
    assert desk.ask() == "answer 1"
    assert desk.calls == 1


def test_late_older_profile_does_not_readmit_a_refused_user() -> None:
    """With whatever token the newer answer refused the user."""
    desk = Desk()
    desk.users_me.instead = saying(refusal())
    assert late(desk, OLD, lambda: desk.refusal(fresh=True)) is ErrorCode.INVALID_TOKEN
    desk.clock.pass_by(1)
    assert desk.refusal() is ErrorCode.INVALID_TOKEN
    desk.clock.pass_by(1)
    with pytest.raises(AssertionError, match="another call"):
        late(desk, OLD, lambda: desk.refusal(number=1, fresh=True))


def test_late_older_refusal_does_not_replace_a_newer_profile() -> None:
    desk = Desk()
    assert late(desk, refusal(), lambda: desk.ask(number=1)) == "answer 1"
    assert desk.ask() == desk.ask(number=1) == "answer 1"
    assert desk.calls == 1


def test_what_one_test_learnt_the_next_does_not_know() -> None:
    desk = Desk()
    desk.ask()
    reset_all()
    desk.ask()
    assert desk.calls == 2


# -- fresh --------------------------------------------------------------------------------------------


def test_fresh_asks_again_even_at_the_same_instant() -> None:
    desk = Desk()
    numbers = [desk.pump(desk.script(fresh=fresh)).display_name for fresh in (False, True)]
    assert numbers == ["answer 1", "answer 2"]


@pytest.mark.parametrize("settings", [{}, {"profile_ttl": 0}, {"profile_cache_size": 0}])
def test_fresh_calls_for_one_user_are_a_second_apart(settings: dict[str, Any]) -> None:
    """Else one user could use up the rate that Stack Auth grants the whole project."""
    desk = Desk(**settings)
    assert {desk.ask(number=number % 3, fresh=True) for number in range(100)} == {"answer 1"}
    assert desk.ask(JOHN, fresh=True) == "answer 2"
    desk.clock.pass_by(FRESH_INTERVAL - 0.101)
    assert desk.ask(fresh=True) == "answer 3"
    desk.clock.pass_by(FRESH_INTERVAL - 0.01)
    assert desk.ask(fresh=True) == "answer 3"


def test_fresh_interval_is_kept_by_a_newer_profile_that_was_not_asked_for_afresh() -> None:
    desk = Desk(profile_ttl=0)
    assert [desk.ask(fresh=fresh) for fresh in (True, False, True)] == ["answer 1", "answer 2", "answer 2"]


def test_what_fresh_brings_is_remembered_for_all() -> None:
    desk = Desk()
    desk.ask()
    desk.ask(fresh=True)
    assert desk.ask() == "answer 2"


def test_fresh_that_fails_is_a_failure_and_leaves_the_rest_to_the_memory() -> None:
    desk = Desk()
    desk.ask()
    desk.users_me.instead = lambda token: TIMED_OUT
    assert desk.failure(fresh=True) == (SERVER_ERROR, 1)
    assert desk.ask() == "answer 1"


# -- refusals -----------------------------------------------------------------------------------------


def test_a_refused_token_is_not_sent_again_for_a_second() -> None:
    desk = Desk()
    desk.users_me.instead = lambda token: refusal()
    assert desk.refusal() is ErrorCode.INVALID_TOKEN
    desk.clock.pass_by(0.9)
    assert desk.refusal() is ErrorCode.INVALID_TOKEN
    assert desk.refusal(fresh=True) is ErrorCode.INVALID_TOKEN
    assert desk.calls == 1
    desk.clock.pass_by(0.1)
    assert desk.refusal() is ErrorCode.INVALID_TOKEN
    assert desk.calls == 2


def test_a_refusal_is_of_the_token_and_not_of_the_user() -> None:
    desk = Desk()
    desk.users_me.instead = lambda token: refusal("ACCESS_TOKEN_EXPIRED", 401) if token == token_of(JANE) else None
    assert desk.refusal() is ErrorCode.EXPIRED_TOKEN
    assert desk.ask(JANE, 1) == "answer 2"
    assert desk.refusal() is ErrorCode.EXPIRED_TOKEN
    assert desk.calls == 2


def test_a_refusal_ends_what_is_remembered_of_the_user() -> None:
    """Somebody deleted is gone at once, for all of the tokens."""
    desk = Desk()
    desk.ask()
    desk.users_me.instead = lambda token: refusal()
    assert desk.refusal(fresh=True) is ErrorCode.INVALID_TOKEN
    assert desk.refusal(JANE, 1) is ErrorCode.INVALID_TOKEN
    assert desk.calls == 3


def test_a_refusal_brings_the_reason_along() -> None:
    desk = Desk()
    body = {"code": "RESTRICTED_USER_NOT_ALLOWED", "details": {"restricted_reason": {"type": "email_not_verified"}}}
    desk.users_me.instead = lambda token: reply(body, 403)
    for _ in range(2):
        with pytest.raises(RefusedError) as raised:
            desk.ask()
        assert raised.value.restricted_reason == "email_not_verified"
        assert raised.value.detail == "users/me says RESTRICTED_USER_NOT_ALLOWED"
    assert desk.calls == 1


# -- failures and the breaker -------------------------------------------------------------------------


def test_only_a_pooled_connection_that_failed_is_followed_by_one_retry_on_a_new_one() -> None:
    for answer in (*NO_REPLIES, DEAD_POOLED):
        desk = Desk()
        desk.users_me.instead = saying(answer)
        assert desk.failure() == (SERVER_ERROR, 1)
        assert desk.calls == (2 if answer is DEAD_POOLED else 1), answer


def test_failures_on_pooled_connections_alone_never_open_the_breaker() -> None:
    """They say nothing of Stack Auth: what is dead may be the pool, or there was no time left to ask."""
    desk = Desk()
    desk.users_me.instead = saying(DEAD_POOLED)
    for _ in range(2 * OPENS_AFTER):
        assert desk.failure() == (SERVER_ERROR, 1)
    assert desk.desk._api.breaker.record == Breaker()
    desk.users_me.instead = saying(TIMED_OUT)
    for _ in range(OPENS_AFTER):
        desk.failure()
    assert desk.desk._api.breaker.record.is_open(desk.clock.mono)


def test_a_retry_that_is_answered_is_as_good() -> None:
    desk = Desk()
    desk.users_me.instead = lambda token: DEAD_POOLED if desk.calls == 1 else None
    assert desk.ask() == "answer 2"
    assert not desk.desk._api.breaker.record.failures


def test_after_five_failures_in_a_row_nothing_is_sent() -> None:
    desk = Desk()
    desk.users_me.instead = lambda token: TIMED_OUT
    failures = [desk.failure() for _ in range(900)]
    assert desk.calls == OPENS_AFTER
    assert failures[:4] == [(SERVER_ERROR, 1)] * 4
    assert failures[4:] == [(SERVER_ERROR, 10)] * 896


def test_an_open_breaker_is_told_without_a_flight() -> None:
    """So it costs neither a thread's wait nor a task's switch."""
    desk = Desk()
    desk.users_me.instead = lambda token: reply(b"", 429, retry_after="7")
    desk.failure()
    del desk.pump.flights[:]
    assert desk.failure(JOHN) == (SERVER_ERROR, 7)
    assert desk.failure(JANE, 1, fresh=True) == (SERVER_ERROR, 7)
    assert desk.pump.flights == []


def test_what_is_remembered_is_told_while_the_breaker_is_open() -> None:
    desk = Desk()
    desk.ask(JOHN)
    desk.users_me.instead = lambda token: reply(b"", 429, retry_after="7")
    desk.failure(JANE)
    assert desk.ask(JOHN) == "answer 1"


def test_one_probe_after_the_pause_and_everybody_after_its_success() -> None:
    desk = Desk()
    desk.users_me.instead = lambda token: TIMED_OUT
    for _ in range(OPENS_AFTER):
        desk.failure()
    desk.clock.pass_by(OPEN_FOR)
    desk.failure()
    desk.failure(JOHN)
    assert desk.calls == OPENS_AFTER + 1
    desk.clock.pass_by(OPEN_FOR)
    desk.users_me.instead = lambda token: None
    desk.ask(JOHN)
    desk.ask(JANE)
    assert desk.calls == OPENS_AFTER + 3


def test_a_refusal_shows_that_stack_auth_is_back() -> None:
    desk = Desk()
    desk.users_me.instead = lambda token: TIMED_OUT
    for _ in range(OPENS_AFTER - 1):
        desk.failure()
    desk.users_me.instead = lambda token: refusal()
    desk.refusal()
    desk.users_me.instead = lambda token: TIMED_OUT
    assert desk.failure(JOHN) == (SERVER_ERROR, 1)


def test_an_odd_account_is_asked_about_once_a_second_and_opens_nothing() -> None:
    """A token that users/me answers with a 500 must cost others nothing, nor the project's rate."""
    desk = Desk()
    desk.users_me.instead = lambda token: reply(b"", 500) if token.startswith(JANE) else None
    for _ in range(10):
        for _ in range(100):
            assert desk.failure() == (SERVER_ERROR, 1)
            assert desk.failure(JANE, 1, fresh=True) == (SERVER_ERROR, 1)
        desk.clock.pass_by(0.8)
    assert desk.calls == 10
    assert desk.ask(JOHN) == "answer 11"


def test_odd_answers_about_five_users_are_an_outage() -> None:
    desk = Desk()
    desk.users_me.instead = lambda token: reply(b"", 500)
    for number in range(4):
        assert desk.failure(f"00000000-0000-4000-8000-{number:012}") == (SERVER_ERROR, 1)
    assert desk.failure(JANE) == desk.failure(JOHN) == (SERVER_ERROR, 10)
    assert desk.calls == 5


USERS = [f"00000000-0000-4000-8000-{number:012}" for number in range(OPENS_AFTER)]


def body_of(user_id: str, metadata: str) -> Answer:
    return reply(f'{{"id": "{user_id}", "client_metadata": {metadata}}}'.encode())


OVERGROWN: dict[str, Callable[[str], Answer]] = {
    "too large": lambda user_id: TOO_LARGE,
    "too many parts": lambda user_id: body_of(user_id, f"[{'0,' * MAX_PARTS}0]"),
    "too deep to hold": lambda user_id: body_of(user_id, "[" * 600 + "]" * 600),
    "too deep": lambda user_id: body_of(user_id, "[" * 30_000 + "]" * 30_000),
}


@pytest.mark.parametrize("how", OVERGROWN)
def test_overgrown_profiles_of_five_users_keep_nobody_else_out(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Metadata is the user's own to write: each of them gets the 503, for a second without a call."""
    desk = Desk(profile_ttl=0)
    desk.users_me.instead = lambda token: OVERGROWN[how](token[:36]) if token[:36] in USERS else None
    for round_ in range(1, 4):
        for _ in range(3):
            assert [desk.failure(user_id) for user_id in USERS] == [(SERVER_ERROR, 1)] * 5
        assert desk.ask(JOHN) == f"answer {round_ * 6}"
        assert desk.calls == round_ * 6
        desk.clock.pass_by(1)
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert "no profile from https://api.stack-auth.com/api/v1/users/me: " in line.getMessage()


@pytest.mark.parametrize("how", OVERGROWN)
def test_an_overgrown_profile_shows_that_stack_auth_is_back(how: str) -> None:
    desk = Desk()
    desk.users_me.instead = lambda token: TIMED_OUT
    for _ in range(OPENS_AFTER):
        desk.failure()
    desk.clock.pass_by(OPEN_FOR)
    desk.users_me.instead = lambda token: OVERGROWN[how](JANE) if token.startswith(JANE) else None
    assert desk.failure(JANE) == (SERVER_ERROR, 1)
    assert desk.ask(JOHN) == "answer 7"


def test_a_probe_about_a_user_whose_faults_are_counted_leaves_the_next_to_ask_at_once() -> None:
    """Else five odd accounts that ask first after each pause would keep everybody out for good."""
    desk = Desk()
    desk.users_me.instead = lambda token: reply(b"", 500) if token[:36] in USERS else None
    assert [desk.failure(user_id) for user_id in USERS] == [(SERVER_ERROR, 1)] * 4 + [(SERVER_ERROR, 10)]
    desk.clock.pass_by(OPEN_FOR)
    assert desk.failure(USERS[0]) == (SERVER_ERROR, 1)
    assert desk.ask(JOHN) == "answer 7"
    assert desk.ask(JANE) == "answer 8"
    assert desk.calls == 8


def test_an_outage_is_not_held_against_a_user() -> None:
    """Unlike an odd account: the next request may already find Stack Auth well."""
    desk = Desk()
    desk.users_me.instead = lambda token: BROKEN
    desk.failure()
    desk.users_me.instead = lambda token: None
    assert desk.ask() == "answer 2"


def test_a_fault_of_ours_is_asked_about_once_in_ten_seconds_and_said_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    desk.users_me.instead = lambda token: reply({"code": "INVALID_SECRET_SERVER_KEY", "error": "words"}, 401)
    for second in range(60):
        for number in range(10):
            assert desk.failure(f"00000000-0000-4000-8000-{number:012}") == (MISCONFIGURED, None), second
        desk.clock.pass_by(0.99)
    assert desk.calls == 6
    (line,) = caplog.records
    assert (line.levelno, line.name) == (logging.ERROR, "stackauth_middleware")
    assert "INVALID_SECRET_SERVER_KEY" in line.getMessage()
    assert "https://api.stack-auth.com/api/v1/users/me" in line.getMessage()
    with pytest.raises(AuthServerError) as raised:
        desk.ask()
    assert raised.value.detail == "users/me says INVALID_SECRET_SERVER_KEY"
    assert len(caplog.records) == 2
    assert "[6 times" in caplog.records[1].getMessage()


def test_an_outage_is_a_warning_once_a_minute_without_key_or_token(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.users_me.instead = lambda token: UNSENT
    for _ in range(20):
        desk.failure()
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert SECRET not in line.getMessage()
    assert JANE not in line.getMessage()


# -- waiting together ---------------------------------------------------------------------------------


class Asker:
    """One of several who ask at the same time."""

    def __init__(self, script: Script[UserProfile]) -> None:
        self.scripts: list[Script[Any]] = [script]
        self.call: Call | None = None
        self.sent_at = 0.0
        self.waits_for: object = None
        self.carries: object = None
        self.outcome: UserProfile | Exception | None = None


class Crowd:
    """Steps several scripts as an edge does whose callers come in any order and leave when they like."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.askers: list[Asker] = []
        self.times: dict[str | None, tuple[float, float]] = {}

    def comes(self, user_id: str = JANE, number: int = 0, **how: Any) -> Asker:
        asker = Asker(self.desk.script(user_id, number, **how))
        self.askers.append(asker)
        self._resume(asker, None)
        return asker

    def answered(self, asker: Asker) -> None:
        """Let the call that `asker` made come back."""
        assert asker.call is not None
        call, asker.call = asker.call, None
        answer = self.desk.users_me(call)
        self.times[f"answer {self.desk.calls}"] = asker.sent_at, self.desk.clock.mono
        self._resume(asker, Resume(answer, self.desk.clock.now))

    def leaves(self, asker: Asker) -> None:
        """Cancel `asker`, whatever it does."""
        for script in reversed(asker.scripts):
            script.close()
        asker.scripts.clear()
        asker.call = asker.waits_for = None
        asker.outcome = asker.outcome or TimeoutError("left")
        self._land(asker)

    def waited_enough(self, asker: Asker) -> None:
        asker.waits_for = None
        self._resume(asker, Resume(ShareEnd.TIMED_OUT, self.desk.clock.now))

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
                    self._land(asker)
                    resume = Resume(Led(end.value), self.desk.clock.now)
                    continue
                asker.outcome = end.value if isinstance(end, StopIteration) else end
                return
            if isinstance(effect, Call):
                asker.call, asker.sent_at = effect, self.desk.clock.mono
                return
            assert isinstance(effect, Share)
            if any(each.carries == effect.key for each in self.askers):
                asker.waits_for = effect.key
                return
            asker.carries = effect.key
            asker.scripts.append(effect.script())
            resume = None

    def _land(self, asker: Asker) -> None:
        key, asker.carries = asker.carries, None
        for each in [each for each in self.askers if key is not None and each.waits_for == key]:
            each.waits_for = None
            self._resume(each, Resume(ShareEnd.DONE, self.desk.clock.now))


def told(asker: Asker) -> Any:
    """Return which answer `asker` was given, or which row it failed with."""
    if isinstance(asker.outcome, UserProfile):
        return asker.outcome.display_name
    assert isinstance(asker.outcome, AuthServerError | RefusedError), asker.outcome
    return asker.outcome.code


@pytest.mark.parametrize("settings", [{}, {"profile_ttl": 0}, {"profile_cache_size": 0}, {"profile_cache_size": 1}])
def test_two_hundred_at_once_with_five_tokens_are_one_call(settings: dict[str, Any]) -> None:
    """Also where nothing is remembered: those who wait together share, which is no memory."""
    desk = Desk(**settings)
    crowd = Crowd(desk)
    askers = [crowd.comes(JANE, number % 5) for number in range(200)]
    desk.clock.pass_by(0.1)
    crowd.all_answered()
    assert [told(each) for each in askers] == ["answer 1"] * 200
    assert desk.calls == 1


def test_they_share_even_while_the_token_that_is_sent_ends() -> None:
    """Within the leeway a token is good here and may be there: no reason for as many calls as there are requests."""
    desk = Desk()
    crowd = Crowd(desk)
    askers = [crowd.comes(JANE, expires_at=WALL - 1) for _ in range(50)]
    desk.clock.pass_by(0.1)
    crowd.all_answered()
    assert [told(each) for each in askers] == ["answer 1"] * 50
    assert desk.calls == 1
    desk.clock.pass_by(0.1)
    desk.ask(JANE, expires_at=WALL - 1)
    assert desk.calls == 2


@pytest.mark.parametrize("answer", [TIMED_OUT, reply(b"", 500), reply(b"", 429, retry_after="3"), reply(b"<html>")])
@pytest.mark.parametrize("settings", [{}, {"profile_cache_size": 0}])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_failure_is_shared_by_those_who_waited_for_it(answer: Answer, settings: dict[str, Any], fresh: bool) -> None:
    desk = Desk(**settings)
    desk.users_me.instead = lambda token: answer
    crowd = Crowd(desk)
    askers = [crowd.comes(fresh=fresh) for _ in range(50)]
    desk.clock.pass_by(5)
    crowd.all_answered()
    assert {told(each) for each in askers} == {SERVER_ERROR}
    assert desk.calls == 1


@pytest.mark.parametrize("settings", [{}, {"profile_cache_size": 0}])
def test_a_refusal_is_shared_by_those_with_the_same_token(settings: dict[str, Any]) -> None:
    desk = Desk(**settings)
    desk.users_me.instead = lambda token: refusal()
    crowd = Crowd(desk)
    askers = [crowd.comes(JANE, number % 5) for number in range(50)]
    crowd.all_answered()
    assert {told(each) for each in askers} == {ErrorCode.INVALID_TOKEN}
    assert sorted(desk.users_me.asked) == [token_of(JANE, number) for number in range(5)]


def test_fresh_does_not_take_an_answer_that_was_on_its_way_before() -> None:
    """A handler that changed something and asks again must see the change."""
    desk = Desk()
    crowd = Crowd(desk)
    early = crowd.comes()
    desk.clock.pass_by(0.01)
    late = [crowd.comes(fresh=True) for _ in range(20)]
    desk.clock.pass_by(0.01)
    crowd.answered(early)
    assert [each.call is not None for each in late] == [True] + [False] * 19
    crowd.all_answered()
    assert told(early) == "answer 1"
    assert [told(each) for each in late] == ["answer 2"] * 20


@pytest.mark.parametrize("answer", [None, refusal(), TIMED_OUT])
def test_when_the_one_who_asks_leaves_another_takes_over(answer: Answer | None) -> None:
    desk = Desk()
    desk.users_me.instead = lambda token: answer
    crowd = Crowd(desk)
    token_source, *others = [crowd.comes() for _ in range(10)]
    crowd.leaves(token_source)
    assert [each.call is not None for each in others] == [True] + [False] * 8
    crowd.all_answered()
    assert len({told(each) for each in others}) == 1
    assert desk.calls == 1
    assert not desk.desk._api.breaker.record.failures or answer is TIMED_OUT


def test_a_probe_whose_caller_leaves_does_not_keep_stack_auth_away() -> None:
    desk = Desk()
    desk.users_me.instead = lambda token: TIMED_OUT
    for _ in range(OPENS_AFTER):
        desk.failure()
    desk.clock.pass_by(OPEN_FOR)
    desk.users_me.instead = lambda token: None
    crowd = Crowd(desk)
    token_source = crowd.comes()
    assert desk.failure(JANE, 1) == desk.failure(JOHN) == (SERVER_ERROR, 10)
    crowd.leaves(token_source)
    assert desk.ask(JOHN) == "answer 6"


def test_who_waited_too_long_is_told_to_come_back() -> None:
    desk = Desk()
    crowd = Crowd(desk)
    crowd.comes()
    waiting = crowd.comes()
    crowd.waited_enough(waiting)
    assert isinstance(waiting.outcome, AuthServerError)
    assert (waiting.outcome.code, waiting.outcome.retry_after) == (SERVER_ERROR, 1)
    assert waiting.outcome.detail == "the profile did not arrive in time"


def test_a_flight_that_starts_when_the_breaker_has_just_opened_sends_nothing() -> None:
    desk = Desk()
    script = desk.script(JANE)
    flight = next(script)
    assert isinstance(flight, Share)
    desk.users_me.instead = lambda token: reply(b"", 429, retry_after="9")
    desk.failure(JOHN)
    with pytest.raises(StopIteration) as returned:
        next(flight.script())
    with pytest.raises(AuthServerError) as raised:
        script.send(Resume(Led(returned.value.value), desk.clock.now))
    assert raised.value.retry_after == 9
    assert desk.calls == 1


def test_who_carried_a_flight_that_could_not_start_is_told_why() -> None:
    """The breaker opens between the look and the flight: on a threaded edge that is another thread's doing."""
    desk = Desk()
    desk.users_me.instead = lambda token: reply(b"", 429, retry_after="9")
    script = desk.script(JANE)
    flight = next(script)
    desk.failure(JOHN)
    assert isinstance(flight, Share)
    with pytest.raises(StopIteration) as returned:
        next(flight.script())
    desk.clock.pass_by(9)
    with pytest.raises(AuthServerError) as raised:
        script.send(Resume(Led(returned.value.value), desk.clock.now))
    assert (raised.value.code, raised.value.retry_after, raised.value.detail) == (
        SERVER_ERROR,
        1,
        "the circuit breaker is open",
    )


def test_a_late_answer_does_not_end_a_pause_that_was_asked_for_meanwhile() -> None:
    """Jane's call is on its way when John's is throttled; hers coming back well changes nothing about it."""
    desk = Desk()
    crowd = Crowd(desk)
    jane = crowd.comes(JANE)
    desk.clock.pass_by(0.01)
    desk.users_me.instead = lambda token: reply(b"", 429, retry_after="30") if token.startswith(JOHN) else None
    assert desk.failure(JOHN) == (SERVER_ERROR, 30)
    crowd.answered(jane)
    assert told(jane) == "answer 2"
    desk.users_me.instead = lambda token: None
    assert desk.failure(JOHN) == (SERVER_ERROR, 30)
    desk.clock.pass_by(30)
    assert desk.ask(JOHN) == "answer 3"


def test_one_user_does_not_wait_for_another() -> None:
    crowd = Crowd(Desk())
    jane, john = crowd.comes(JANE), crowd.comes(JOHN)
    assert jane.call is not None
    assert john.call is not None


def test_everybody_sees_their_own_profile_in_a_crowd() -> None:
    desk = Desk()
    crowd = Crowd(desk)
    users = [f"00000000-0000-4000-8000-{number:012}" for number in range(50)]
    askers = [(user_id, crowd.comes(user_id, number)) for number in range(4) for user_id in users]
    crowd.all_answered()
    assert all(isinstance(each.outcome, UserProfile) and each.outcome.id == user_id for user_id, each in askers)
    assert desk.calls == 50


moves = st.lists(
    st.one_of(
        st.tuples(st.just("comes"), st.sampled_from([JANE, JOHN]), st.integers(0, 2), st.booleans()),
        st.tuples(st.sampled_from(["answered", "leaves", "waited_enough"]), st.integers(0, 30)),
        st.tuples(st.just("passes"), st.sampled_from([0.0, 0.5, 1.0, 12.0, 31.0])),
        st.tuples(st.just("says"), st.sampled_from(["profile", "refusal", "outage", "odd", "throttle", "fault"])),
    ),
    max_size=60,
)
SAYS: dict[str, Answer | None] = {
    "profile": None,
    "refusal": refusal(),
    "outage": TIMED_OUT,
    "odd": reply(b"", 500),
    "throttle": reply(b"", 429, retry_after="2"),
    "fault": reply({"code": "INVALID_SECRET_SERVER_KEY"}, 401),
}


@bounded
@given(moves, st.sampled_from([{}, {"profile_ttl": 0}, {"profile_cache_size": 0}]))
def test_in_any_course_of_events(course: Any, settings: dict[str, Any]) -> None:
    """Nobody gets another's profile, one too old or one from before a fresh question; one call for a user at a time."""
    desk = Desk(**settings)
    crowd = Crowd(desk)
    came: dict[Asker, tuple[str, bool, float]] = {}
    for move, *how in course:
        busy = [each for each in crowd.askers if each.outcome is None]
        if move == "comes":
            user_id, number, fresh = how
            came[crowd.comes(user_id, number, fresh=fresh)] = user_id, fresh, desk.clock.mono
        elif move == "passes":
            desk.clock.pass_by(how[0])
        elif move == "says":
            desk.users_me.instead = saying(SAYS[how[0]])
        else:
            fit = {
                "answered": [each for each in busy if each.call],
                "leaves": busy,
                "waited_enough": [each for each in busy if each.waits_for],
            }[move]
            if fit:
                getattr(crowd, move)(fit[how[0] % len(fit)])
        aloft = [each.carries for each in crowd.askers if each.call]
        assert len(aloft) == len(set(aloft))
        assert all(each.outcome or each.call or each.waits_for for each in crowd.askers)
    for asker, (user_id, fresh, came_at) in came.items():
        if isinstance(asker.outcome, UserProfile):
            sent_at, landed_at = crowd.times[asker.outcome.display_name]
            ttl = desk.desk.config.profile_ttl if desk.desk.config.profile_cache_size else 0
            assert asker.outcome.id == user_id
            if fresh:
                assert sent_at > came_at - FRESH_INTERVAL
            else:
                assert sent_at >= came_at or landed_at >= came_at or came_at - sent_at < ttl


# -- a second lookup ----------------------------------------------------------------------------------


def test_second_lookup_is_one_module_of_its_own() -> None:
    assert len(inspect.getsource(user_lookup).splitlines()) <= 52
    for module in Path(stackauth_middleware.__file__).parent.rglob("*.py"):
        assert "user_lookup" not in module.read_text("utf-8")


@pytest.mark.parametrize("runner", ["threads", "asyncio", "trio"])
def test_second_lookup_works_through_both_runners(runner: str, stackauth: LocalStackAuth) -> None:
    """It is cached by key, also where there is no such user."""
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
    """One breaker per config: while Stack Auth fails, no lookup calls it."""
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET)
    accounts, profiles, clock = user_lookup.Accounts(config), ProfileLookup(config), Clock()
    calls: list[Call] = []

    def answer(call: Call) -> Answer:
        calls.append(call)
        return BROKEN

    pump = Pump(clock, answer)
    for number in range(OPENS_AFTER + 3):
        with pytest.raises(AuthServerError):
            pump(accounts.account(f"user {number}", clock.now))
    assert [flight.key for flight in pump.flights] == [("user", f"user {number}") for number in range(OPENS_AFTER)]
    with pytest.raises(AuthServerError) as raised:
        pump(profiles.profile(user_of(JANE), token_of(JANE), digest_of(token_of(JANE)), clock.now))
    assert raised.value.retry_after == OPEN_FOR
    assert len(calls) == OPENS_AFTER


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"\xff", b"[" * 100_000], ids=str)
def test_answer_that_a_reader_cannot_read_is_a_failure_of_its_key(body: bytes) -> None:
    """A reader may be short: what it raises of that kind concerns the key alone, and is not asked again at once."""
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET)
    accounts, clock = user_lookup.Accounts(config), Clock()
    calls: list[Call] = []

    def answer(call: Call) -> Answer:
        calls.append(call)
        return reply(body)

    for _ in range(2 * OPENS_AFTER):
        with pytest.raises(AuthServerError) as raised:
            Pump(clock, answer)(accounts.account(JANE, clock.now))
        assert (raised.value.code, raised.value.retry_after) == (SERVER_ERROR, 1)
    assert len(calls) == 1


def test_keys_of_two_lookups_are_counted_apart_at_the_breaker() -> None:
    config = StackAuthConfig(project_id=PROJECT, secret_server_key=SECRET)
    accounts, profiles, clock = user_lookup.Accounts(config), ProfileLookup(config), Clock()
    pump = Pump(clock, lambda call: reply(b"", 500))
    for script in (
        accounts.account(JANE, clock.now),
        profiles.profile(user_of(JANE), token_of(JANE), digest_of(token_of(JANE)), clock.now),
    ):
        with pytest.raises(AuthServerError):
            pump(script)
    assert config.get_or_create(Api).breaker.record.failures == 2
