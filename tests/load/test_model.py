"""The model that judges a soak: what is right of every answer, and what a fault excuses."""

from __future__ import annotations

import pytest

from .keys import FRESH, LATE, MIN_FETCH_INTERVAL, Keys
from .model import (
    ANONYMOUS,
    EXPIRED,
    INVALID,
    MISSING,
    OK,
    RESTRICTED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    Answer,
    Credential,
    Model,
    Shot,
    Window,
)

HOLDER = (1, "jwt", "normal")


def model() -> Model:
    """Return a model in which one key is published since 0 and one user has been normal since then."""
    made = Model(profile_ttl=2.0)
    made.keys.publish(frozenset({"k"}), 0.0)
    made.changed("u", 0.0, "normal", "Jane")
    return made


def shot(path: str = "/jwt/me", **more: object) -> Shot:
    credential = Credential(**{"kind": "token", "user_id": "u", "name": "Jane", "kid": "k", **more})
    return Shot("asgi", path, (), credential, "")


def answer(outcome: str = OK, at: float = 100.0, **more: object) -> Answer:
    user = {"user_id": "u", "name": "Jane"} if outcome == OK else {}
    return Answer(at, at + 0.01, 1, outcome, **{**user, **more})


def test_only_the_users_own_identity_is_right() -> None:
    assert model().complaint(shot(), answer()) is None
    assert model().complaint(shot(), answer(user_id="other")) is not None
    assert model().complaint(shot(), answer(name="other")) is not None


@pytest.mark.parametrize(
    ("path", "more", "right"),
    [
        ("/jwt/public", {}, {UNAUTHENTICATED}),
        ("/jwt/me", {"kind": "none"}, {MISSING}),
        ("/jwt/open", {"kind": "none"}, {UNAUTHENTICATED}),
        ("/jwt/open", {"kind": "unreadable"}, {INVALID}),
        ("/jwt/me", {"forged": True}, {INVALID}),
        ("/jwt/me", {"kid": "never published"}, {INVALID}),
        ("/jwt/me", {"expires_at": 94.0}, {EXPIRED}),
        ("/jwt/me", {"expires_at": 96.0}, {OK}),
        ("/jwt/me", {"expires_at": 95.005}, {OK, EXPIRED}),
        ("/jwt/me", {"user_type": "restricted"}, {RESTRICTED}),
        ("/jwt/open", {"user_type": "anonymous"}, {ANONYMOUS}),
        ("/jwt/any", {"user_type": "anonymous"}, {OK}),
        ("/rest/me", {}, {OK}),
        ("/rest/me", {"expires_at": 96.0}, {OK, EXPIRED}),
    ],
)
def test_what_is_right_in_calm(path: str, more: dict[str, object], right: set[str]) -> None:
    assert model().allowed(shot(path, **more), answer()) == right


def test_an_outage_excuses_only_those_who_need_stack_auth() -> None:
    made = model()
    assert made.complaint(shot(), answer(at=80.0)) is None  # the keys are held from now on
    made.windows.append(Window(90.0, frozenset({"jwks", "users/me"}), ended=99.0))
    assert made.allowed(shot(), answer()) == {OK}
    assert made.allowed(shot(kid="never published"), answer()) == {INVALID, UNAVAILABLE}
    assert made.allowed(shot("/rest/open"), answer(at=100.0)) == {OK, INVALID, UNAUTHENTICATED}
    assert made.allowed(shot(kid="never published"), answer(at=200.0)) == {INVALID}


def test_a_short_stall_excuses_only_those_who_wait_for_a_key() -> None:
    made = model()
    assert made.complaint(shot(), answer(at=80.0)) is None
    made.stalled(99.0, 99.3)
    assert made.allowed(shot(kid="never published"), answer()) == {INVALID, UNAVAILABLE}
    assert made.allowed(shot("/jwt/profile"), answer()) == {OK}
    made.stalled(99.1, 99.2)
    assert len(made.windows) == 1
    made.stalled(97.0, 99.6)
    assert made.allowed(shot("/jwt/profile"), answer()) == {OK, UNAVAILABLE}


def test_profiles_expire_in_a_long_outage() -> None:
    made = model()
    made.keys.learnt((1, "rest", "normal"), "k", 50.0)
    made.windows.append(Window(60.0, frozenset({"users/me"})))
    assert made.allowed(shot("/rest/me"), answer()) == {UNAVAILABLE}


def test_changed_profile_is_visible_after_profile_ttl() -> None:
    made = model()
    made.changed("u", 90.0, "restricted", "Jane")
    assert made.allowed(shot("/rest/me"), answer(at=91.0)) == {OK, RESTRICTED}
    assert made.allowed(shot("/rest/me"), answer()) == {RESTRICTED}
    assert made.allowed(shot("/jwt/me"), answer()) == {OK}


def test_a_withdrawn_key_is_over_once_a_process_has_shown_a_later_one() -> None:
    keys = Keys()
    keys.publish(frozenset({"old"}), 0.0)
    keys.publish(frozenset({"new"}), 50.0)
    assert keys.possible(HOLDER, "old", 51.0, 51.1, excused=False) == (True, True)
    keys.learnt(HOLDER, "new", 52.0)
    assert keys.possible(HOLDER, "old", 51.9, 52.1, excused=False) == (True, True)
    assert keys.possible(HOLDER, "old", 52.1, 52.2, excused=False) == (False, True)
    assert keys.possible((2, "jwt", "normal"), "old", 52.1, 52.2, excused=False) == (True, True)


def test_a_new_key_may_be_unknown_only_for_a_while() -> None:
    keys = Keys()
    keys.publish(frozenset({"old"}), 0.0)
    keys.publish(frozenset({"old", "new"}), 50.0)
    late = 50.0 + MIN_FETCH_INTERVAL + LATE + 1
    assert keys.possible(HOLDER, "new", 51.0, 51.1, excused=False) == (True, True)
    assert keys.possible(HOLDER, "new", late, late, excused=False) == (True, False)
    assert keys.possible(HOLDER, "new", late, late, excused=True) == (True, True)


def test_a_withdrawn_key_is_over_once_every_key_set_must_have_gone_stale() -> None:
    keys = Keys()
    keys.publish(frozenset({"old"}), 0.0)
    keys.publish(frozenset({"new"}), 50.0)
    late = 50.0 + FRESH + MIN_FETCH_INTERVAL + LATE + 1
    assert keys.possible(HOLDER, "old", late - 2, late, excused=False) == (True, True)
    assert keys.possible(HOLDER, "old", late, late, excused=False) == (False, True)
    assert keys.possible(HOLDER, "old", late, late, excused=True) == (True, True)


def test_what_is_not_excused_is_counted() -> None:
    made = model()
    kinds = frozenset({"jwks"})
    made.windows += [Window(10.0, kinds, ended=12.0, settle=5.0), Window(15.0, kinds, ended=16.0, settle=4.0)]
    assert made.unexcused("jwks", 0.0, 30.0) == 10.0 + 10.0
    assert made.unexcused("jwks", 0.0, 14.0) == 10.0
    assert made.unexcused("users/me", 0.0, 30.0) == 30.0
