"""Every interleaving of two or three callers for one key set or profile: threats F1, F3, F4, G3, G5, G10, G11, H1, H4.

In each order the number of calls is minimal, each caller gets a correct outcome, no caller waits for ever, and no
fetch stays in flight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from functools import cache, partial
from typing import Any

import pytest

from stackauth_middleware import AuthServerError, ErrorCode, RefusedError, StackAuthConfig, User, UserProfile
from stackauth_middleware._core.breaker import OPEN_FOR, OPENS_AFTER
from stackauth_middleware._core.flow import Flow
from stackauth_middleware._core.key_set_cache import KeySetCache
from stackauth_middleware._core.key_sets import FRESH_FOR, MIN_FETCH_INTERVAL
from stackauth_middleware._core.profiles import ProfileLookup
from stackauth_middleware._core.tokens import Token
from stackauth_middleware._core.upstream import Answer, Call
from stackauth_middleware._core.users import UserType, user_from_claims
from tests.unit.core.helpers import (
    ANONYMOUS,
    BROKEN,
    NORMAL,
    PROJECT,
    RESTRICTED,
    SIGNERS,
    TIMED_OUT,
    USER_ID,
    Clock,
    FakeRunner,
    Signer,
    StackAuth,
    claims,
    reply,
    token,
)

from .courses import Asker, Course, World, walk

OUTAGE = reply(b"", 500)
OTHER_ID = "33333333-3333-4333-8333-333333333333"
NEW = Signer(77_777, "rotated")
POINTS = {each.kid: each.point for each in (NEW, *(each for pair in SIGNERS.values() for each in pair))}
FIRST, SECOND = SIGNERS[NORMAL][0].kid, SIGNERS[NORMAL][1].kid
timed = pytest.mark.parametrize("takes", [0.0, 0.1], ids=["instant", "slow"])


@cache
def config(**settings: Any) -> StackAuthConfig:
    return StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_canary", **settings)


@cache
def user_of(user_id: str) -> User:
    return user_from_claims(claims(NORMAL, sub=user_id), NORMAL, b"{}")


@cache
def _key_set(query: str, rotated: bool) -> Answer:
    auth = StackAuth()
    if rotated:
        auth.signers = {**SIGNERS, NORMAL: (*SIGNERS[NORMAL], NEW)}
    return auth(Call("GET", query, max_bytes=0))


def key_set(call: Call, *, rotated: bool) -> Answer:
    """Return the reply of Stack Auth to `call`."""
    return _key_set(call.url, rotated)


@cache
def profile_of(user_id: str, display_name: str) -> Answer:
    return reply({"id": user_id, "display_name": display_name})


def failed(asker: Asker, code: ErrorCode, retry_after: int | None = None) -> None:
    assert isinstance(asker.outcome, RefusedError | AuthServerError), asker.outcome
    assert asker.outcome.code is code
    assert retry_after is None or asker.outcome.retry_after == retry_after


def got(asker: Asker, kid: str) -> None:
    assert isinstance(asker.outcome, tuple), asker.outcome
    assert asker.outcome[0].point == POINTS[kid]


def calls(count: int) -> Callable[[Course], None]:
    def check(course: Course) -> None:
        assert len(course.calls) == count

    return check


# -- key sets --------------------------------------------------------------------------------------


class Keys:
    """A key set cache in its initial state."""

    def __init__(
        self, *, warm: bool = False, later: float = 0.0, rotated: bool = False, answer: Answer | None = None
    ) -> None:
        self.clock, self.answer, self.rotated = Clock(), answer, rotated
        self.keys = KeySetCache(config())
        if warm:
            FakeRunner(self.clock, partial(key_set, rotated=False))(self.keys.prefetch_keys(self.clock.now))
        self.clock.pass_by(later)

    def asker(self, kid: str = "", kind: UserType = NORMAL, *, defer: bool = False, **how: Any) -> Asker:
        wanted = Token(kid or SIGNERS[kind][0].kid, kind, {}, b"", b"", b"")
        return Asker(partial(self.keys.key_for, wanted, defer_refresh=defer), kid, **how)

    def cached(self) -> Hashable:
        records = [self.keys.record(kind) for kind in UserType]
        return tuple((tuple(each.keys), each.fetched_at, each.asked_at, each.failure) for each in records)

    def world(self, askers: list[Asker], judge: Any, check: Any, takes: float = 0.1) -> World:
        def answers(call: Call, number: int) -> list[Answer]:
            return [self.answer or key_set(call, rotated=self.rotated)]

        return World(askers, self.clock, answers, self.cached, judge, check, takes=takes)


def by_kid(asker: Asker) -> None:
    """Check the outcome of a caller by its key id: an unknown key is a 401, never a 503."""
    if str(asker.alike).startswith("junk"):
        failed(asker, ErrorCode.INVALID_TOKEN)
    else:
        got(asker, str(asker.alike) or FIRST)


@timed
@pytest.mark.parametrize(("kind", "documents"), [(NORMAL, 1), (RESTRICTED, 2), (ANONYMOUS, 2)], ids=str)
def test_h4_cold_key_set_is_fetched_once(kind: UserType, documents: int, takes: float) -> None:
    def world() -> World:
        keys = Keys()
        judge = partial(got, kid=SIGNERS[kind][0].kid)
        return keys.world([keys.asker(kind=kind) for _ in range(3)], judge, calls(documents), takes)

    assert walk(world) > 10


@pytest.mark.parametrize("kids", [("", SECOND, "junk"), ("", "junk", "junk too")], ids=str)
def test_h4_cold_fetch_with_unknown_keys_is_one_call(kids: tuple[str, ...]) -> None:
    """Whichever caller leads."""

    def world() -> World:
        keys = Keys()
        return keys.world([keys.asker(kid) for kid in kids], by_kid, calls(1))

    assert walk(world) > 10


def test_h4_all_interleavings_of_two_callers() -> None:
    """Without pruning states that were seen before."""

    def world() -> World:
        keys = Keys()
        return keys.world([keys.asker(), keys.asker("junk")], by_kid, calls(1))

    assert walk(world, pruned=False) > 50


def test_f1_unknown_keys_cause_one_call_and_block_no_known_key() -> None:
    def check(course: Course) -> None:
        assert len(course.calls) == 1
        assert "2 join" not in course.steps

    def world() -> World:
        keys = Keys(warm=True, later=MIN_FETCH_INTERVAL)
        return keys.world([keys.asker(kid) for kid in ("junk", "junk too", "")], by_kid, check)

    assert walk(world) > 10


def test_h4_key_rotation_is_one_call() -> None:
    """Callers with the new key get it, whatever the others ask for."""

    def world() -> World:
        keys = Keys(warm=True, later=MIN_FETCH_INTERVAL, rotated=True)
        return keys.world([keys.asker(kid) for kid in (NEW.kid, NEW.kid, "junk")], by_kid, calls(1))

    assert walk(world) > 10


@pytest.mark.parametrize("answer", [None, OUTAGE, TIMED_OUT], ids=["healthy", "500", "silence"])
def test_f4_stale_keys_are_used_while_one_caller_refreshes(answer: Answer | None) -> None:
    """Threads refresh at once, tasks after the response; a failed refresh removes no key."""

    def judge(asker: Asker) -> None:
        if asker.alike == "deferred":
            assert asker.outcome is None
        else:
            got(asker, FIRST)

    def world() -> World:
        keys = Keys(warm=True, later=FRESH_FOR, answer=answer)
        deferred = Asker(partial(keys.keys.refresh_if_stale, NORMAL), "deferred")
        return keys.world([keys.asker(), keys.asker(FIRST, defer=True), deferred], judge, calls(1))

    assert walk(world) > 10


def test_f3_failed_cold_fetch_is_shared() -> None:
    def world() -> World:
        keys = Keys(answer=OUTAGE)
        judge = partial(failed, code=ErrorCode.SERVER_ERROR, retry_after=10)
        return keys.world([keys.asker() for _ in range(3)], judge, calls(1))

    assert walk(world) > 10


@pytest.mark.parametrize("answer", [None, OUTAGE], ids=["healthy", "down"])
def test_h1_cancelled_callers_do_not_affect_the_others(answer: Answer | None) -> None:
    """Each may be cancelled at any step. A call is repeated only if its caller was cancelled."""

    def judge(asker: Asker) -> None:
        if answer is None:
            got(asker, FIRST)
        else:
            failed(asker, ErrorCode.SERVER_ERROR, 10)

    def check(course: Course) -> None:
        assert len(course.calls) <= 1 + course.left

    def world() -> World:
        keys = Keys(answer=answer)
        return keys.world([keys.asker(mortal=True) for _ in range(3)], judge, check)

    assert walk(world) > 50


def test_h1_follower_that_times_out_affects_no_other() -> None:
    def judge(asker: Asker) -> None:
        if isinstance(asker.outcome, AuthServerError):
            failed(asker, ErrorCode.SERVER_ERROR, 1)
        else:
            got(asker, FIRST)

    def check(course: Course) -> None:
        assert len(course.calls) == 1
        in_vain = sum("time out" in step for step in course.steps)
        assert sum(isinstance(each.outcome, AuthServerError) for each in course.world.askers) == in_vain

    def world() -> World:
        keys = Keys()
        return keys.world([keys.asker(impatient=True) for _ in range(3)], judge, check)

    assert walk(world) > 10


def test_h8_prefetch_and_first_requests_share_one_call() -> None:
    def judge(asker: Asker) -> None:
        if asker.alike == "early":
            assert asker.outcome is None
        else:
            got(asker, FIRST)

    def world() -> World:
        keys = Keys()
        early = Asker(keys.keys.prefetch_keys, "early")
        return keys.world([early, keys.asker(), keys.asker()], judge, calls(1))

    assert walk(world) > 10


# -- profiles --------------------------------------------------------------------------------------


class Profiles:
    """A profile lookup. A profile has the number of its call as its name."""

    def __init__(self, answer: Answer | None = None, **settings: Any) -> None:
        self.clock, self.answer = Clock(), answer
        self.lookup = ProfileLookup(config.__wrapped__(**settings))

    def asker(
        self, user_id: str = USER_ID, number: int = 0, *, fresh: bool = False, alike: Any = None, **how: Any
    ) -> Asker:
        text = f"{user_id} {number}"
        digest = hashlib.sha256(text.encode()).digest()
        begin = partial(self.lookup.profile, user_of(user_id), text, digest, fresh=fresh)
        return Asker(begin, alike or (user_id, fresh), **how)

    def answers(self, call: Call, number: int) -> list[Answer]:
        user_id = call.headers["x-stack-access-token"].partition(" ")[0]
        return [self.answer or profile_of(user_id, f"{number}")]

    def cached(self) -> Hashable:
        kept = tuple(
            (key, each.asked_at, each.arrived_at, each.fresh_at, type(each.reading))
            for key, each in self.lookup._kept._values.items()
        )
        failed = tuple((key, each.arrived_at) for key, each in self.lookup._failed._values.items())
        refused = tuple((key, each[1]) for key, each in self.lookup._refused._values.items())
        return kept, failed, refused, self.lookup._api.breaker.record

    def world(
        self, askers: list[Asker], judge: Any, check: Any, on_call: Any = lambda *_: None, takes: float = 0.1
    ) -> World:
        return World(askers, self.clock, self.answers, self.cached, judge, check, on_call, takes)


def shown(asker: Asker, user_id: str = USER_ID) -> int:
    """Return the number of the call whose profile, which must be of `user_id`, `asker` got."""
    assert isinstance(asker.outcome, UserProfile), asker.outcome
    assert asker.outcome.id == user_id
    return int(asker.outcome.display_name or 0)


def not_in_vain(course: Course, asker: Asker) -> None:
    """Assert that the caller started after the last reply, and could not have shared it."""
    assert asker.saw_back == course.back, "a call that the last one could have saved"


@timed
@pytest.mark.parametrize("settings", [{}, {"profile_ttl": 0}, {"profile_cache_size": 0}], ids=str)
def test_g11_concurrent_requests_of_one_user_share_one_call(settings: dict[str, Any], takes: float) -> None:
    """With different tokens. With the cache disabled, one call for each caller that starts after the last reply."""

    def check(course: Course) -> None:
        assert len(course.calls) == 1 or (settings and takes and len(course.calls) <= 3)

    def world() -> World:
        lookup = Profiles(**settings)
        return lookup.world([lookup.asker(number=at) for at in range(3)], shown, check, not_in_vain, takes)

    assert walk(world) > 10


def test_g11_fresh_request_gets_the_reply_to_a_later_call() -> None:
    """Never to an earlier call, unless another caller bypassed the cache within the last second."""

    def check(course: Course) -> None:
        assert 1 <= len(course.calls) <= 2

    def world() -> World:
        callers: list[Any] = []

        def judge(asker: Asker) -> None:
            number = shown(asker)
            if asker.alike == "fresh":
                assert number > asker.saw_sent or "fresh" in callers[:number]

        lookup = Profiles()
        fresh = [lookup.asker(number=at, fresh=True, alike="fresh") for at in range(2)]
        askers = [*fresh, lookup.asker(number=2)]
        return lookup.world(askers, judge, check, lambda _, asker: callers.append(asker.alike))

    assert walk(world) > 10


@timed
@pytest.mark.parametrize("answer", [OUTAGE, TIMED_OUT, reply([])], ids=["500", "silence", "a list"])
def test_g5_failure_is_shared(answer: Answer, takes: float) -> None:
    """A failure of the key is cached for a second; after an outage each later caller may try."""

    def check(course: Course) -> None:
        assert len(course.calls) == 1 or (takes and answer is TIMED_OUT)

    def world() -> World:
        lookup = Profiles(answer)
        judge = partial(failed, code=ErrorCode.SERVER_ERROR)
        return lookup.world([lookup.asker(number=at) for at in range(3)], judge, check, not_in_vain, takes)

    assert walk(world) > 10


def test_g3_refusal_applies_to_its_token() -> None:
    """Two callers with one token share it; the third, with another token, causes a call."""

    def check(course: Course) -> None:
        assert sorted(call.headers["x-stack-access-token"][-1] for call in course.calls) == ["0", "1"]

    def world() -> World:
        lookup = Profiles(reply({"code": "CANNOT_GET_OWN_USER_WITHOUT_USER"}, 400))
        judge = partial(failed, code=ErrorCode.INVALID_TOKEN)
        askers = [lookup.asker(number=number, alike=number + 1) for number in (0, 0, 1)]
        return lookup.world(askers, judge, check)

    assert walk(world) > 10


@pytest.mark.parametrize("recovered", [True, False])
def test_g5_breaker_permits_one_probe_at_a_time(recovered: bool) -> None:
    """After the pause one call is permitted for all users, and the others only after its success."""

    def judge(asker: Asker) -> None:
        if isinstance(asker.outcome, UserProfile):
            assert recovered
        else:
            failed(asker, ErrorCode.SERVER_ERROR)

    def on_call(course: Course, asker: Asker) -> None:
        assert course.back or not course.in_the_air, "two probes at once"
        assert recovered or not course.calls, "a call after the probe failed"

    def check(course: Course) -> None:
        assert 1 <= len(course.calls) <= (2 if recovered else 1)

    def world() -> World:
        lookup = Profiles(None if recovered else OUTAGE)
        runner = FakeRunner(lookup.clock, lambda call: BROKEN)
        for _ in range(OPENS_AFTER):
            with pytest.raises(AuthServerError):
                runner(lookup.asker().begin(lookup.clock.now))
            lookup.clock.pass_by(0.001)
        lookup.clock.pass_by(OPEN_FOR)
        askers = [lookup.asker(user_id) for user_id in (USER_ID, OTHER_ID, USER_ID)]
        return lookup.world(askers, judge, check, on_call)

    assert walk(world) > 10


def test_h1_cancelled_callers_do_not_affect_the_profile_of_others() -> None:
    def check(course: Course) -> None:
        assert len(course.calls) <= 1 + course.left

    def world() -> World:
        lookup = Profiles()
        return lookup.world([lookup.asker(number=at, mortal=at < 2, alike=at < 2) for at in range(3)], shown, check)

    assert walk(world) > 50


# -- both, one after the other ---------------------------------------------------------------------


def test_g10_two_users_in_rest_mode_get_their_own_profiles() -> None:
    """From a cold start, with one of them cancelled."""
    tokens = {user_id: token(sub=user_id) for user_id in (USER_ID, OTHER_ID)}
    owners = {text: user_id for user_id, text in tokens.items()}

    def judge(asker: Asker) -> None:
        assert isinstance(asker.outcome, User)
        assert (asker.outcome.user_id, asker.outcome.display_name) == (asker.alike, f"name of {asker.alike}")

    def check(course: Course) -> None:
        urls = [call.url.rpartition("/")[2] for call in course.calls]
        assert urls.count("jwks.json") <= 1 + course.left
        assert urls.count("me") <= 2

    def world() -> World:
        flow = Flow(config.__wrapped__(mode="rest"))
        pair = [Asker(partial(flow.verify, text), at, mortal=at == OTHER_ID) for at, text in tokens.items()]

        def answers(call: Call, number: int) -> list[Answer]:
            owner = owners.get(call.headers.get("x-stack-access-token", ""))
            return [profile_of(owner, f"name of {owner}") if owner else key_set(call, rotated=False)]

        def cached() -> Hashable:
            record, lookup = flow.keys.record(NORMAL), flow._profiles
            return record.asked_at, tuple(record.keys), tuple(lookup._kept._values), lookup._api.breaker.record

        return World(pair, Clock(), answers, cached, judge, check, takes=0.1)

    assert walk(world) > 10
