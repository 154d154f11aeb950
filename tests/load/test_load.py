"""The model that judges a soak, and a soak of three seconds over one server with every fault once or so."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections import Counter

import pytest

from . import million
from .driver import MalformedAnswer, Tally, read
from .faults import FAULTS, Pace
from .keys import APART, LATE, Keys
from .model import (
    ANONYMOUS,
    EXPIRED,
    INVALID,
    MISSING,
    NOBODY,
    OK,
    RESTRICTED,
    UNAVAILABLE,
    Answer,
    Credential,
    Model,
    Shot,
    Window,
)
from .report import Report
from .soak import Soak

HOLDER = (1, "jwt", "normal")
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what processes hold from /proc")


def model() -> Model:
    """Return a model in which one key is published since 0 and one user has been normal since then."""
    made = Model(profile_ttl=2.0)
    made.keys.publish(frozenset({"k"}), 0.0)
    made.changed("u", 0.0, "normal", "Jane")
    return made


def shot(path: str = "/jwt/me", **more: object) -> Shot:
    credential = Credential(**{"kind": "token", "user_id": "u", "name": "Jane", "kid": "k", **more})  # type: ignore[arg-type]
    return Shot("asgi", path, (), credential, "")


def answer(outcome: str = OK, at: float = 100.0, **more: object) -> Answer:
    told = {"user_id": "u", "name": "Jane"} if outcome == OK else {}
    return Answer(at, at + 0.01, 1, outcome, **{**told, **more})  # type: ignore[arg-type]


def test_only_the_users_own_identity_is_right() -> None:
    assert model().complaint(shot(), answer()) is None
    assert model().complaint(shot(), answer(user_id="other")) is not None
    assert model().complaint(shot(), answer(name="other")) is not None


@pytest.mark.parametrize(
    ("path", "more", "right"),
    [
        ("/jwt/public", {}, {NOBODY}),
        ("/jwt/me", {"kind": "none"}, {MISSING}),
        ("/jwt/open", {"kind": "none"}, {NOBODY}),
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
    assert made.allowed(shot("/rest/open"), answer(at=100.0)) == {OK, INVALID, NOBODY}
    assert made.allowed(shot(kid="never published"), answer(at=200.0)) == {INVALID}


def test_a_long_outage_leaves_nothing_remembered() -> None:
    made = model()
    made.keys.learnt((1, "rest", "normal"), "k", 50.0)
    made.windows.append(Window(60.0, frozenset({"users/me"})))
    assert made.allowed(shot("/rest/me"), answer()) == {UNAVAILABLE}


def test_a_change_of_a_user_shows_within_the_time_for_which_profiles_are_remembered() -> None:
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
    late = 50.0 + APART + LATE + 1
    assert keys.possible(HOLDER, "new", 51.0, 51.1, excused=False) == (True, True)
    assert keys.possible(HOLDER, "new", late, late, excused=False) == (True, False)
    assert keys.possible(HOLDER, "new", late, late, excused=True) == (True, True)


@pytest.mark.parametrize(
    "bent", [{"www-authenticate": "Bearer"}, {"cache-control": "no-cache"}, {"retry-after": "1"}, {"content-type": ""}]
)
def test_a_refusal_has_the_promised_headers(bent: dict[str, str]) -> None:
    headers = {
        "x-pid": "1",
        "content-type": "application/json",
        "cache-control": "no-store",
        "www-authenticate": 'Bearer realm="stack-auth"',
    }
    body = b'{"error": "Access token required", "code": "missing_token"}'
    assert read(0.0, 1.0, 401, headers, body).outcome == MISSING
    with pytest.raises(MalformedAnswer):
        read(0.0, 1.0, 401, headers | bent, body)


def test_a_wrong_verdict_or_a_lost_request_fails_the_run() -> None:
    report = Report(1.0, Tally(), Counter(), Counter(), snapshots={"start": {}, "end": {}})
    assert report.failures() == []
    report.tally.wrong.append("x")
    report.tally.lost.append("y")
    report.tally.sent = 1
    report.forbidden_sent = 1
    report.logs["asgi"] = "Traceback"
    assert len(report.failures()) == 4


def test_few_tokens_show_what_many_do() -> None:
    figures = million.run(400, 100)
    assert (figures.failures, figures.remembered, figures.upstream_calls) == ([], 100, 1)
    assert math.isfinite(figures.octets_per_token)


# Failed once in five runs on a busy machine, for a reason not yet found, and takes 17 s there.
@pytest.mark.skipif("STACKAUTH_SOAK" not in os.environ, reason="set STACKAUTH_SOAK=1: not yet steady enough for all")
@LINUX
def test_a_soak_of_three_seconds() -> None:
    pace = Pace(fault=(0.08, 0.12), quiet=0.02, sudden=0.1, rotation=0.5)
    soak = Soak(["asgi"], 3.0, calm=0.5, pace=pace, rate=100, connections=6)
    report = asyncio.run(soak.run())
    assert report.failures() == []
    assert report.tally.answered > 10
    assert set(report.injected) & set(FAULTS)
