"""What each answer may be: the driver's own account of keys, users and faults, written from the design alone.

A request is answered at some moment between its sending and the end of its answer. The model says
which outcomes were right at any such moment; an answer that is none of them is a wrong outcome.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .keys import MIN_FETCH_INTERVAL, Keys

LEEWAY = 5.0
TIMEOUT = 5.0
SLACK = 5.0
"""Seconds on top of what the design says of recovery: both sides share a busy machine."""

OK, UNAUTHENTICATED = "200", "200 without a user"
MISSING, AMBIGUOUS, INVALID = "401 missing_token", "400 invalid_request", "401 invalid_token"
EXPIRED, ANONYMOUS = "401 expired_token", "401 anonymous_not_allowed"
RESTRICTED, DELETED = "403 restricted_not_allowed", "401 invalid_token"
UNAVAILABLE, MISCONFIGURED = "503 auth_server_error", "500 auth_misconfigured"
CANNOT_TELL = frozenset({UNAVAILABLE, MISCONFIGURED})
SIGNED = frozenset({OK, EXPIRED, ANONYMOUS, RESTRICTED})
"""Outcomes that need the key."""


class Route(NamedTuple):
    """A path, and how the app's rules have it."""

    config: str
    access: str = "required"
    profile: bool = False
    lenient: bool = False


ROUTES: Mapping[str, Route] = {
    "/jwt/me": Route("jwt"),
    "/jwt/open": Route("jwt", "optional"),
    "/jwt/public": Route("jwt", "public"),
    "/jwt/any": Route("jwt", lenient=True),
    "/jwt/profile": Route("jwt", profile=True),
    "/rest/me": Route("rest", profile=True),
    "/rest/open": Route("rest", "optional", profile=True),
}


@dataclass(frozen=True)
class Credential:
    """What a request presents.

    Attributes:
        kind: ``none``, ``ambiguous``, ``unreadable`` (refused on sight) or ``token``, which the rest is about.
        forged: whether the signature is not that of the key it names.
    """

    kind: str
    user_id: str = ""
    user_type: str = "normal"
    name: str | None = None
    kid: str = ""
    expires_at: float = math.inf
    forged: bool = False


class Shot(NamedTuple):
    """A request. `label` is for the figures."""

    middleware: str
    path: str
    headers: tuple[tuple[str, str], ...]
    credential: Credential
    label: str


@dataclass(frozen=True)
class Answer:
    """An answer as the driver read it, between `began` and `ended`."""

    began: float
    ended: float
    pid: int
    outcome: str
    user_id: str | None = None
    name: str | None = None


@dataclass
class Window:
    """A time in which Stack Auth failed, and for how long after it that may still show."""

    began: float
    kinds: frozenset[str]
    outcomes: frozenset[str] = frozenset({UNAVAILABLE})
    settle: float = MIN_FETCH_INTERVAL + SLACK
    whole: bool = True
    ended: float = math.inf


@dataclass
class State:
    """What a user was from a moment on: ``normal``, ``restricted`` or ``deleted``."""

    since: float
    what: str
    name: str | None


@dataclass
class Model:
    """Judges answers. All times are seconds of one clock."""

    profile_ttl: float
    keys: Keys = field(default_factory=Keys)
    windows: list[Window] = field(default_factory=list)
    users: dict[str, list[State]] = field(default_factory=dict)

    def changed(self, user_id: str, now: float, what: str, name: str | None) -> None:
        """Note the state of a user from `now` on."""
        self.users.setdefault(user_id, []).append(State(now, what, name))

    def stalled(self, began: float, ended: float) -> None:
        """Note a time in which this machine gave Stack Auth or a worker no turn.

        It uses up what a request waits for an unknown key, which is a second, and a time budget only if it is long.
        """
        kinds = frozenset({"jwks", "users/me"} if ended - began > TIMEOUT / 2 else {"jwks"})
        if not any(each.began <= began and ended <= each.ended and kinds <= each.kinds for each in self.windows):
            self.windows.append(Window(began, kinds, whole=False, ended=ended))

    @staticmethod
    def may_ask(shot: Shot) -> bool:
        """Say whether a request may cost a call of users/me; never more than one."""
        return ROUTES[shot.path].profile and shot.credential.kind == "token" and not shot.credential.forged

    def complaint(self, shot: Shot, answer: Answer) -> str | None:
        """Return what is wrong with an answer; None, and learn from it, where nothing is."""
        allowed = self.allowed(shot, answer)
        if answer.outcome not in allowed:
            return f"{answer.outcome} where only {sorted(allowed)} would do"
        if answer.outcome == OK:
            if answer.user_id != shot.credential.user_id:
                return f"a token of {shot.credential.user_id} let in {answer.user_id}"
            if answer.name not in self._names(shot, answer):
                return f"{answer.name!r} is the name of no user"
        if answer.outcome in SIGNED:
            config = ROUTES[shot.path].config
            self.keys.learnt((answer.pid, config, shot.credential.user_type), shot.credential.kid, answer.ended)
        return None

    def circumstances(self, shot: Shot, answer: Answer) -> Iterator[str]:
        """Return the history of the keys, the user and Stack Auth before a complaint."""
        credential = shot.credential
        yield f"the token ends in {credential.expires_at - answer.began:.2f} s"
        yield f"its key {credential.kid!r} is published: {self.keys.published(credential.kid, answer.began)}"
        for each in self.users.get(credential.user_id, ())[-3:]:
            yield f"the user was made {each.what} {answer.began - each.since:.2f} s before"
        for window in self.windows[-8:]:
            lasted = f"{answer.began - window.began:.2f} to {answer.began - window.ended:.2f} s before"
            yield f"{sorted(window.kinds)} failed {lasted}"

    def allowed(self, shot: Shot, answer: Answer) -> set[str]:
        """Return every outcome that was right at a moment of the request."""
        route, credential = ROUTES[shot.path], shot.credential
        if route.access == "public":
            return {UNAUTHENTICATED}
        if credential.kind == "none":
            return {UNAUTHENTICATED if route.access == "optional" else MISSING}
        if credential.kind != "token":
            return {AMBIGUOUS if credential.kind == "ambiguous" else INVALID}
        outcomes = self._judged(route, credential, answer)
        if route.access == "optional" and outcomes & CANNOT_TELL:
            return (outcomes - CANNOT_TELL) | {UNAUTHENTICATED}
        return outcomes

    def _judged(self, route: Route, credential: Credential, answer: Answer) -> set[str]:
        began, ended = answer.began, answer.ended
        holder = (answer.pid, route.config, credential.user_type)
        kinds = {"jwks"} if credential.user_type == "normal" else {"jwks", "jwks pair"}
        failing = self._failing(kinds, began, ended)
        known, unknown = self.keys.possible(holder, credential.kid, began, ended, excused=bool(failing))
        outcomes: set[str] = set()
        if unknown:
            outcomes |= {INVALID} | failing
        if known:
            outcomes |= {INVALID} if credential.forged else self._signed(route, credential, began, ended)
        return outcomes

    def _signed(self, route: Route, credential: Credential, began: float, ended: float) -> set[str]:
        over = credential.expires_at + LEEWAY
        outcomes = {EXPIRED} if ended >= over else set()
        if began >= over:
            return outcomes
        if credential.user_type != "normal" and not route.lenient:
            return outcomes | {ANONYMOUS if credential.user_type == "anonymous" else RESTRICTED}
        return outcomes | (self._profiled(credential, began, ended) if route.profile else {OK})

    def _profiled(self, credential: Credential, began: float, ended: float) -> set[str]:
        since = began - self.profile_ttl - TIMEOUT - 1
        by_state = {"normal": OK, "restricted": RESTRICTED, "deleted": DELETED}
        outcomes = {by_state[state.what] for state in self._states(credential.user_id, since, ended)}
        if any(
            each.whole and "users/me" in each.kinds and each.began < since and ended <= each.ended
            for each in self.windows
        ):
            outcomes.clear()  # no call has succeeded for so long that every cached profile has expired
        # Stack Auth grants no leeway, and knows of its own rotations at once.
        if ended >= credential.expires_at:
            outcomes.add(EXPIRED)
        if not self.keys.published(credential.kid, ended):
            outcomes.add(INVALID)
        return outcomes | self._failing({"users/me"}, began, ended) - {MISCONFIGURED}

    def _failing(self, kinds: set[str], began: float, ended: float) -> set[str]:
        """Return the 5xx outcomes that faults of these kinds of calls excuse."""
        met = [each for each in self.windows if each.kinds & kinds and each.began <= ended]
        return {outcome for each in met if began <= each.ended + each.settle for outcome in each.outcomes}

    def unexcused(self, kind: str, began: float, ended: float) -> float:
        """Return for how many seconds between these no fault excused that calls of a kind failed."""
        covered, free = began, 0.0
        for each in sorted(self.windows, key=lambda window: window.began):
            if kind in each.kinds:
                free += max(0.0, min(each.began, ended) - covered)
                covered = max(covered, each.ended + each.settle)
        return free + max(0.0, ended - covered)

    def _states(self, user_id: str, since: float, until: float) -> Iterable[State]:
        """Return what a user was at any moment between these."""
        history = self.users[user_id]
        ends = [each.since for each in history[1:]] + [math.inf]
        return [state for state, end in zip(history, ends, strict=True) if state.since <= until and end >= since]

    def _names(self, shot: Shot, answer: Answer) -> set[str | None]:
        if not ROUTES[shot.path].profile:
            return {shot.credential.name}
        since = answer.began - self.profile_ttl - TIMEOUT - 1
        return {each.name for each in self._states(shot.credential.user_id, since, answer.ended)}
