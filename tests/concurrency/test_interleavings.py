"""Every interleaving of two or three askers for one key set or profile: threats F1, F3, F4, G3, G5, G10, G11, H1, H4.

Whatever the order: Stack Auth is asked as seldom as it can be, everyone gets a verdict that is right,
nobody waits for ever, and nothing is left aloft.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from functools import cache, partial
from typing import Any

import pytest

from stackauth_middleware import AuthServerError, ErrorCode, RefusedError, StackAuthConfig, User, UserProfile
from stackauth_middleware._core.flow import Flow
from stackauth_middleware._core.key_set_cache import KeySetCache
from stackauth_middleware._core.key_sets import FRESH_FOR, MIN_FETCH_INTERVAL
from stackauth_middleware._core.profiles import ProfileLookup
from stackauth_middleware._core.tokens import Token
from stackauth_middleware._core.upstream import OPEN_FOR, OPENS_AFTER, Answer, Call
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
    Pump,
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
timed = pytest.mark.parametrize("takes", [0.0, 0.1], ids=["no time passes", "a call takes time"])


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
    """Return what Stack Auth says to `call`."""
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


class Ring:
    """A key ring in the state in which the askers find it."""

    def __init__(
        self, *, warm: bool = False, later: float = 0.0, rotated: bool = False, answer: Answer | None = None
    ) -> None:
        self.clock, self.answer, self.rotated = Clock(), answer, rotated
        self.ring = KeySetCache(config())
        if warm:
            Pump(self.clock, partial(key_set, rotated=False))(self.ring.prefetch_keys(self.clock.now))
        self.clock.pass_by(later)

    def asker(self, kid: str = "", kind: UserType = NORMAL, *, defer: bool = False, **how: Any) -> Asker:
        wanted = Token(kid or SIGNERS[kind][0].kid, kind, {}, b"", b"", b"")
        return Asker(partial(self.ring.key_for, wanted, defer_refresh=defer), kid, **how)

    def remembered(self) -> Hashable:
        records = [self.ring.record(kind) for kind in UserType]
        return tuple((tuple(each.keys), each.fetched_at, each.asked_at, each.failure) for each in records)

    def world(self, askers: list[Asker], judge: Any, check: Any, takes: float = 0.1) -> World:
        def answers(call: Call, number: int) -> list[Answer]:
            return [self.answer or key_set(call, rotated=self.rotated)]

        return World(askers, self.clock, answers, self.remembered, judge, check, takes=takes)


def by_kid(asker: Asker) -> None:
    """Hold an asker to the kid that it asked for: junk is refused, never put off."""
    if str(asker.alike).startswith("junk"):
        failed(asker, ErrorCode.INVALID_TOKEN)
    else:
        got(asker, str(asker.alike) or FIRST)


@timed
@pytest.mark.parametrize(("kind", "documents"), [(NORMAL, 1), (RESTRICTED, 2), (ANONYMOUS, 2)], ids=str)
def test_h4_a_cold_set_is_fetched_once(kind: UserType, documents: int, takes: float) -> None:
    def world() -> World:
        ring = Ring()
        judge = partial(got, kid=SIGNERS[kind][0].kid)
        return ring.world([ring.asker(kind=kind) for _ in range(3)], judge, calls(documents), takes)

    assert walk(world) > 10


@pytest.mark.parametrize("kids", [("", SECOND, "junk"), ("", "junk", "junk too")], ids=str)
def test_h4_a_cold_set_and_junk(kids: tuple[str, ...]) -> None:
    """One call serves all, whoever carried it."""

    def world() -> World:
        ring = Ring()
        return ring.world([ring.asker(kid) for kid in kids], by_kid, calls(1))

    assert walk(world) > 10


def test_h4_two_unpruned() -> None:
    """Every course of two to its end, none left out for coming to a state that was seen before."""

    def world() -> World:
        ring = Ring()
        return ring.world([ring.asker(), ring.asker("junk")], by_kid, calls(1))

    assert walk(world, pruned=False) > 50


def test_f1_junk_kids_at_once_are_one_call_and_hold_up_nobody() -> None:
    def check(course: Course) -> None:
        assert len(course.calls) == 1
        assert "2 board" not in course.steps

    def world() -> World:
        ring = Ring(warm=True, later=MIN_FETCH_INTERVAL)
        return ring.world([ring.asker(kid) for kid in ("junk", "junk too", "")], by_kid, check)

    assert walk(world) > 10


def test_h4_a_rotation_is_one_call() -> None:
    """Whoever comes with the new key gets it; the junk among them spoils nothing."""

    def world() -> World:
        ring = Ring(warm=True, later=MIN_FETCH_INTERVAL, rotated=True)
        return ring.world([ring.asker(kid) for kid in (NEW.kid, NEW.kid, "junk")], by_kid, calls(1))

    assert walk(world) > 10


@pytest.mark.parametrize("answer", [None, OUTAGE, TIMED_OUT], ids=["healthy", "500", "silence"])
def test_f4_a_stale_set_serves_all_and_one_looks(answer: Answer | None) -> None:
    """Under threads one carries the refresh, under tasks it comes after the answer; a failure takes no key away."""

    def judge(asker: Asker) -> None:
        if asker.alike == "deferred":
            assert asker.outcome is None
        else:
            got(asker, FIRST)

    def world() -> World:
        ring = Ring(warm=True, later=FRESH_FOR, answer=answer)
        deferred = Asker(partial(ring.ring.refresh_if_stale, NORMAL), "deferred")
        return ring.world([ring.asker(), ring.asker(FIRST, defer=True), deferred], judge, calls(1))

    assert walk(world) > 10


def test_f3_a_cold_failure_is_told_to_all_and_asked_once() -> None:
    def world() -> World:
        ring = Ring(answer=OUTAGE)
        judge = partial(failed, code=ErrorCode.SERVER_ERROR, retry_after=10)
        return ring.world([ring.asker() for _ in range(3)], judge, calls(1))

    assert walk(world) > 10


@pytest.mark.parametrize("answer", [None, OUTAGE], ids=["healthy", "down"])
def test_h1_whoever_leaves_the_others_get_their_verdict(answer: Answer | None) -> None:
    """Each may leave at any step. A call is made again only where the one who made it left."""

    def judge(asker: Asker) -> None:
        if answer is None:
            got(asker, FIRST)
        else:
            failed(asker, ErrorCode.SERVER_ERROR, 10)

    def check(course: Course) -> None:
        assert len(course.calls) <= 1 + course.left

    def world() -> World:
        ring = Ring(answer=answer)
        return ring.world([ring.asker(mortal=True) for _ in range(3)], judge, check)

    assert walk(world) > 50


def test_h1_whoever_waits_too_long_is_told_so_and_nobody_else() -> None:
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
        ring = Ring()
        return ring.world([ring.asker(impatient=True) for _ in range(3)], judge, check)

    assert walk(world) > 10


def test_h8_the_early_fetch_and_the_first_requests_are_one_call() -> None:
    def judge(asker: Asker) -> None:
        if asker.alike == "early":
            assert asker.outcome is None
        else:
            got(asker, FIRST)

    def world() -> World:
        ring = Ring()
        early = Asker(ring.ring.prefetch_keys, "early")
        return ring.world([early, ring.asker(), ring.asker()], judge, calls(1))

    assert walk(world) > 10


# -- profiles --------------------------------------------------------------------------------------


class Desk:
    """A desk among askers. A profile bears the number of the call that brought it."""

    def __init__(self, answer: Answer | None = None, **settings: Any) -> None:
        self.clock, self.answer = Clock(), answer
        self.desk = ProfileLookup(config.__wrapped__(**settings))

    def asker(
        self, user_id: str = USER_ID, number: int = 0, *, fresh: bool = False, alike: Any = None, **how: Any
    ) -> Asker:
        text = f"{user_id} {number}"
        digest = hashlib.sha256(text.encode()).digest()
        begin = partial(self.desk.profile, user_of(user_id), text, digest, fresh=fresh)
        return Asker(begin, alike or (user_id, fresh), **how)

    def answers(self, call: Call, number: int) -> list[Answer]:
        user_id = call.headers["x-stack-access-token"].partition(" ")[0]
        return [self.answer or profile_of(user_id, f"{number}")]

    def remembered(self) -> Hashable:
        kept = tuple(
            (key, each.asked_at, each.arrived_at, each.fresh_at, type(each.reading))
            for key, each in self.desk._kept._values.items()
        )
        failed = tuple((key, each.arrived_at) for key, each in self.desk._failed._values.items())
        refused = tuple((key, each[1]) for key, each in self.desk._refused._values.items())
        return kept, failed, refused, self.desk._api.breaker.record

    def world(self, askers: list[Asker], judge: Any, check: Any, on_call: Any = None, takes: float = 0.1) -> World:
        nothing: Any = lambda course, asker: None  # noqa: E731
        return World(askers, self.clock, self.answers, self.remembered, judge, check, on_call or nothing, takes)


def shown(asker: Asker, user_id: str = USER_ID) -> int:
    """Return the number of the call that brought what `asker` was given, which must be of `user_id`."""
    assert isinstance(asker.outcome, UserProfile), asker.outcome
    assert asker.outcome.id == user_id
    return int(asker.outcome.display_name or 0)


def not_in_vain(course: Course, asker: Asker) -> None:
    """Assert that whoever calls came after the last call was back, and could not have shared it."""
    assert asker.saw_back == course.back, "a call for one who could have shared the last"


@timed
@pytest.mark.parametrize("settings", [{}, {"profile_ttl": 0}, {"profile_cache_size": 0}], ids=str)
def test_g11_one_user_at_once_is_one_call(settings: dict[str, Any], takes: float) -> None:
    """By different tokens. Where nothing is remembered, one call for each who came after the last was back."""

    def check(course: Course) -> None:
        assert len(course.calls) == 1 or (settings and takes and len(course.calls) <= 3)

    def world() -> World:
        desk = Desk(**settings)
        return desk.world([desk.asker(number=at) for at in range(3)], shown, check, not_in_vain, takes)

    assert walk(world) > 10


def test_g11_who_asks_afresh_gets_what_was_asked_for_since() -> None:
    """Never an answer that was on its way before, but one that another asked for afresh within the second."""

    def check(course: Course) -> None:
        assert 1 <= len(course.calls) <= 2

    def world() -> World:
        callers: list[Any] = []

        def judge(asker: Asker) -> None:
            number = shown(asker)
            if asker.alike == "fresh":
                assert number > asker.saw_sent or "fresh" in callers[:number]

        desk = Desk()
        fresh = [desk.asker(number=at, fresh=True, alike="fresh") for at in range(2)]
        askers = [*fresh, desk.asker(number=2)]
        return desk.world(askers, judge, check, lambda _, asker: callers.append(asker.alike))

    assert walk(world) > 10


@timed
@pytest.mark.parametrize("answer", [OUTAGE, TIMED_OUT, reply([])], ids=["500", "silence", "a list"])
def test_g5_a_failure_is_shared(answer: Answer, takes: float) -> None:
    """What may be one user's own trouble is not asked about again for a second; of an outage each may see anew."""

    def check(course: Course) -> None:
        assert len(course.calls) == 1 or (takes and answer is TIMED_OUT)

    def world() -> World:
        desk = Desk(answer)
        judge = partial(failed, code=ErrorCode.SERVER_ERROR)
        return desk.world([desk.asker(number=at) for at in range(3)], judge, check, not_in_vain, takes)

    assert walk(world) > 10


def test_g3_a_refusal_is_of_its_token() -> None:
    """Two with one token share it; the third, with another, is asked about for itself."""

    def check(course: Course) -> None:
        assert sorted(call.headers["x-stack-access-token"][-1] for call in course.calls) == ["0", "1"]

    def world() -> World:
        desk = Desk(reply({"code": "CANNOT_GET_OWN_USER_WITHOUT_USER"}, 400))
        judge = partial(failed, code=ErrorCode.INVALID_TOKEN)
        askers = [desk.asker(number=number, alike=number + 1) for number in (0, 0, 1)]
        return desk.world(askers, judge, check)

    assert walk(world) > 10


@pytest.mark.parametrize("recovered", [True, False])
def test_g5_one_probe_at_a_time(recovered: bool) -> None:
    """After an open breaker's pause one call goes out for all users; the rest only once that was answered well."""

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
        desk = Desk(None if recovered else OUTAGE)
        pump = Pump(desk.clock, lambda call: BROKEN)
        for _ in range(OPENS_AFTER):
            with pytest.raises(AuthServerError):
                pump(desk.asker().begin(desk.clock.now))
            desk.clock.pass_by(0.001)
        desk.clock.pass_by(OPEN_FOR)
        askers = [desk.asker(user_id) for user_id in (USER_ID, OTHER_ID, USER_ID)]
        return desk.world(askers, judge, check, on_call)

    assert walk(world) > 10


def test_h1_whoever_leaves_the_others_get_the_profile() -> None:
    def check(course: Course) -> None:
        assert len(course.calls) <= 1 + course.left

    def world() -> World:
        desk = Desk()
        return desk.world([desk.asker(number=at, mortal=at < 2, alike=at < 2) for at in range(3)], shown, check)

    assert walk(world) > 50


# -- both, one after the other ---------------------------------------------------------------------


def test_g10_two_users_in_rest_mode_each_get_their_own() -> None:
    """From the cold: the keys for both in one call, then each user's profile, in any order, one of them leaving."""
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

        def remembered() -> Hashable:
            record, desk = flow.keys.record(NORMAL), flow._profiles
            return record.asked_at, tuple(record.keys), tuple(desk._kept._values), desk._api.breaker.record

        return World(pair, Clock(), answers, remembered, judge, check, takes=0.1)

    assert walk(world) > 10
