"""The order of steps from a request to its outcome. This block is the theory of operation of the package.

Effects. A step that needs nothing from outside is a plain call. One that may need Stack Auth returns either its
result or a script: a generator that yields what it needs, and is resumed with the answer. Scripts decide, and do no
I/O; a runner (`SyncEdge` for threads, `AsyncEdge` for tasks) performs the effects and decides nothing. So the order
of steps is written once for both worlds. A fetch, told by its effects:

    script = flow.gate(inbound, clocks)         no usable key is held: not an `Outcome`, but a script
    effect = next(script)                       Share(("keys", "normal"), ...)
      inner = effect.script()                   this caller leads: the runner drives the shared script
      next(inner)                               Call("GET", ".../jwks.json")
      inner.send(Tick(Reply(200, ...), clocks)) StopIteration: the keys are kept, the fetch is done
    script.send(Tick(Led(...), clocks))         StopIteration(Authenticated): signature and claims hold

An exception of a runner is thrown into the script. A script that is abandoned is closed, which is how it learns that
its caller has left.

Single flight. Concurrent callers that need the same thing share one fetch. The first is the leader and runs the
script; the others are followers. The leader gets the script's result. A follower is resumed when the leader is done,
whatever became of it, and looks again at what is kept: it finds the answer, or leads the next fetch itself. A leader
looks once more before it calls, since a thread can lose the processor between its look and its lead. A leader whose
task is cancelled goes on for a grace period, so that clients that disconnect do not make each other start over.
Runners, and event loops, do not share with each other; that is why what is kept is replaced only by what was asked
for later.

Two clocks. Every resumption brings both. The wall clock judges claims (`exp`, `nbf`), and what ends with a token.
The monotonic clock tells ages, and the time until the next fetch. Below the flow nothing reads a clock.

Freshness (RFC 5861). Keys are fresh for ten minutes at most. Stale keys are served while one caller refreshes them
(stale-while-revalidate), after the response where the middleware can defer it; and for a day while Stack Auth fails
(stale-if-error). Past that, and while there are none, requests wait for a fetch, or are refused with 503 until the
next may start. `_keyset.ACTIONS` is the table. Profiles and other lookups are fresh for their time to live and are
never served stale: they say who may come in.
"""

from __future__ import annotations

import hashlib
import logging
from typing import NamedTuple

from ._config import StackAuthConfig
from ._cors import Cors, preflight_of
from ._credentials import extract
from ._flow_keys import KeyRing, no_key
from ._keyset import Action, Key
from ._memory import Memory
from ._notices import KeyedNotice, Notice
from ._profiles import ProfileDesk
from ._responses import Responder
from ._rules import Policy, admit
from ._tokens import ForeignToken, Token, check_signature, is_possible, parse, user_of
from ._upstream import Script
from ._user import User, UserProfile, with_profile
from ._verdict import Authenticated, Outcome, Refused, Unauthenticated
from ._wire import Clocks, Inbound
from .errors import AuthServerError, ConfigError, ErrorCode, Event, RefusedError, forget_locals

logger = logging.getLogger("stackauth_middleware")


_NOTHING = Inbound("GET", "/", "", {})


class _Seen(NamedTuple):
    """A token that was verified.

    Attributes:
        key: by which it was, and `kid` its id: the token holds for as long as that key is published.
        stale: whether the set of that key is to be refreshed.
    """

    user: User
    digest: bytes
    kid: str
    key: Key
    stale: bool = False


class _Pending(NamedTuple):
    """A token whose form holds and whose key must be asked for."""

    token: Token
    digest: bytes


class Flow:
    """The steps of one config, and what they remember."""

    def __init__(self, config: StackAuthConfig) -> None:
        self.config = config
        self.keys = KeyRing(config)
        self._profiles = ProfileDesk(config)
        self._respond = Responder(config)
        self._tokens: Memory[bytes, _Seen] = Memory(config.token_memory)
        self._foreign = Notice(logging.WARNING)
        self._cors = Cors(config)
        self._refused_preflight = KeyedNotice(
            logging.WARNING,
            "refused a CORS preflight from the origin %a: name the origin in cors_origins to have preflights answered, "
            "or set pass_preflights=True where a CORS tool inside the app answers them",
        )
        self._not_plain = Notice(logging.WARNING)
        self._default = Policy(
            "required",
            profile=config.mode == "rest",
            allow_restricted=config.allow_restricted,
            allow_anonymous=config.allow_anonymous,
        )

    # -- requests ----------------------------------------------------------------------------------

    def gate(
        self, inbound: Inbound, now: Clocks, *, defer_refresh: bool, in_event_loop: bool
    ) -> Outcome | Script[Outcome]:
        """Authenticate a request: return the outcome, or the script that comes to it.

        Args:
            inbound: the request.
            now: both clocks.
            defer_refresh: whether the middleware refreshes a stale key set after the app is done.
            in_event_loop: whether the app runs in an event loop that outlives the request, and not in threads.
        """
        try:
            step = self._gate(inbound, now, defer_refresh=defer_refresh, in_event_loop=in_event_loop)
        except Exception as error:
            return self._refuse(inbound, error)
        if not isinstance(step, Outcome):
            return self._gated(inbound, step)
        self._observe(inbound, step)
        return step

    def _gate(
        self, inbound: Inbound, now: Clocks, *, defer_refresh: bool, in_event_loop: bool
    ) -> Outcome | Script[Outcome]:
        policy = self.config.policy(inbound.method, inbound.path, inbound.root_path, websocket=inbound.websocket)
        if policy.every_rule and policy.access != "public":
            self._not_plain(now.mono, _not_plain(inbound))
        if policy.access == "public":
            return Unauthenticated(self.config, inbound, per_user=False)
        preflight = preflight_of(inbound.method, inbound.headers)
        if preflight is not None:
            if self.config.pass_preflights:
                return Unauthenticated(self.config, inbound, is_preflight=True)
            answer = self._cors.answer(preflight)
            if answer is not None:
                return Refused(self.config, answer)
        token = extract(inbound.headers, self.config.carriers)
        if token is None:
            if policy.access == "optional":
                return Unauthenticated(self.config, inbound)
            if preflight is not None:
                self._refused_preflight(now.mono, preflight.origin)
            raise RefusedError(ErrorCode.MISSING_TOKEN, "no token")
        found = self._judge(token, now, defer_refresh=defer_refresh)
        if isinstance(found, _Pending) or policy.profile:
            how = {"defer_refresh": defer_refresh, "in_event_loop": in_event_loop}
            return self._admission(token, found, policy, now, inbound, **how)
        admitted = self._admitted(found.user, token, policy, in_event_loop, found.stale, inbound)
        del token  # error trackers write out the variables of this frame where a check logs an error
        admit(found.user, policy)
        return admitted

    def _admission(
        self,
        token: str,
        found: _Seen | _Pending,
        policy: Policy,
        now: Clocks,
        inbound: Inbound,
        *,
        defer_refresh: bool,
        in_event_loop: bool,
    ) -> Script[Outcome]:
        try:
            if isinstance(found, _Pending):
                found, now = yield from self._with_key(found, now, defer_refresh=defer_refresh)
            user = found.user
            if policy.profile:
                admit(user, policy._replace(checks=()))
                profile = yield from self._profiles.profile(user, token, found.digest, now)
                user = with_profile(user, profile)
        except AuthServerError as error:
            if policy.access == "optional":
                return Unauthenticated(self.config, inbound, error.code, error.retry_after)
            raise
        admitted = self._admitted(user, token, policy, in_event_loop, found.stale, inbound)
        del token
        admit(user, policy)
        return admitted

    def _admitted(
        self,
        user: User,
        token: str,
        policy: Policy,
        in_event_loop: bool,  # noqa: FBT001 - all by position: one is made for each request
        stale: bool,  # noqa: FBT001
        inbound: Inbound,
    ) -> Authenticated:
        refresh = user.user_type if stale else None
        return Authenticated(user, self.config, token, policy, in_event_loop, refresh, inbound)

    def _gated(self, inbound: Inbound, script: Script[Outcome]) -> Script[Outcome]:
        try:
            outcome = yield from script
        except Exception as error:
            return self._refuse(inbound, error)
        self._observe(inbound, outcome)
        return outcome

    # -- tokens ------------------------------------------------------------------------------------

    def verify(self, token: str, now: Clocks) -> User | Script[User]:
        """Return the user of `token`, let in as the settings say, or the script that will.

        Raises:
            RefusedError: the token was refused.
            AuthServerError: the keys to judge it cannot be had.
        """
        found = self._judge(token, now, defer_refresh=False)
        if isinstance(found, _Pending) or self._default.profile:
            return self._verification(token, found, now)
        admit(found.user, self._default)
        return found.user

    def _verification(self, token: str, found: _Seen | _Pending, now: Clocks) -> Script[User]:
        admitted = yield from self._admission(
            token, found, self._default, now, _NOTHING, defer_refresh=False, in_event_loop=False
        )
        assert isinstance(admitted, Authenticated)  # noqa: S101 - the default policy requires a user
        return admitted.user

    def authenticate(self, inbound: Inbound, now: Clocks) -> User | Script[User] | None:
        """Do as `verify` does for the token that `inbound` carries; None where it carries none."""
        token = extract(inbound.headers, self.config.carriers)
        return None if token is None else self.verify(token, now)

    def profile(
        self, token: str, now: Clocks, *, fresh: bool = False, policy: Policy | None = None
    ) -> Script[UserProfile]:
        """Return the profile of the user of `token`, verified first.

        Raises:
            ConfigError: there is no key to ask with.
            RefusedError: the token was refused, or the profile shows a user who is not let in.
            AuthServerError: Stack Auth could not be asked.
        """
        if not (self.config.secret_server_key or self.config.publishable_client_key):
            raise ConfigError(
                "secret_server_key is not set; a profile cannot be asked for without one: set STACK_SECRET_SERVER_KEY"
            )
        found = self._judge(token, now, defer_refresh=False)
        if isinstance(found, _Pending):
            found, now = yield from self._with_key(found, now, defer_refresh=False)
        profile = yield from self._profiles.profile(found.user, token, found.digest, now, fresh=fresh)
        admit(with_profile(found.user, profile), (policy or self._default)._replace(checks=()))
        return profile

    def _judge(self, token: str, now: Clocks, *, defer_refresh: bool) -> _Seen | _Pending:
        """Verify `token` by what is at hand: remembered, or else its form, its key, signature and claims.

        Returns:
            The user, or what is left to do where the key must be asked for first.
        """
        if not is_possible(token):
            raise RefusedError(ErrorCode.INVALID_TOKEN, "not a token by form")
        digest = hashlib.sha256(token.encode("ascii")).digest()
        seen = self._tokens.get(digest)
        if seen is not None:
            seen = self._seen_again(seen, now, defer_refresh=defer_refresh)
            if seen is not None:
                return seen
        parsed = self._parsed(token, now)
        record = self.keys.record(parsed.user_type)
        action = record.action(parsed.kid, now.mono)
        if _is_ready(action, defer_refresh=defer_refresh):
            return self._first_sight(parsed, digest, record.keys[parsed.kid], action, now)
        if action is Action.UNKNOWN and record.failure is None:
            raise no_key(record, now.mono)
        return _Pending(parsed, digest)

    def _seen_again(self, seen: _Seen, now: Clocks, *, defer_refresh: bool) -> _Seen | None:
        """Return what is known of a token that was verified before; None where its key must be looked for again."""
        user = seen.user
        record = self.keys.record(user.user_type)
        if record.keys.get(seen.kid) is not seen.key:
            self._tokens.drop(seen.digest)
            return None
        if user.expires_at <= now.wall - self.config.leeway:
            self._tokens.drop(seen.digest)
            raise RefusedError(ErrorCode.EXPIRED_TOKEN, "expired")
        if record.is_fresh(now.mono):
            return seen
        action = record.action(seen.kid, now.mono)
        ready = _is_ready(action, defer_refresh=defer_refresh)
        return seen._replace(stale=action is Action.USE_AND_REFRESH) if ready else None

    def _parsed(self, token: str, now: Clocks) -> Token:
        try:
            return parse(token, self.config.audiences, self.config.issuers)
        except ForeignToken:
            self._foreign(now.mono, "a token of another project or issuer was refused; is project_id right?")
            raise

    def _with_key(self, pending: _Pending, now: Clocks, *, defer_refresh: bool) -> Script[tuple[_Seen, Clocks]]:
        key, action, now = yield from self.keys.key_for(pending.token, now, defer_refresh=defer_refresh)
        return self._first_sight(pending.token, pending.digest, key, action, now), now

    def _first_sight(self, token: Token, digest: bytes, key: Key, action: Action, now: Clocks) -> _Seen:
        """Check the signature and the claims, and remember the user."""
        check_signature(token, key.public)
        user = user_of(token, now.wall, self.config.leeway)
        seen = _Seen(user, digest, token.kid, key)
        self._tokens.put(digest, seen)
        return seen._replace(stale=True) if action is Action.USE_AND_REFRESH else seen

    def unreadable(self) -> Refused:
        """Return the refusal for a scope or environ that is not of its specification's form."""
        return self._refuse(_NOTHING, RefusedError(ErrorCode.INVALID_REQUEST, "no request that could be read"))

    # -- refusals ----------------------------------------------------------------------------------

    def _refuse(self, inbound: Inbound, error: Exception) -> Refused:
        """Return the refusal for `error`; an unexpected exception fails closed, as a 503."""
        forget_locals(error)  # it is logged here, or with what a hook raises while it is handled
        if not isinstance(error, RefusedError | AuthServerError):
            logger.error("refusing a request: the verification failed", exc_info=error)
            error = AuthServerError(ErrorCode.SERVER_ERROR, 1, "an error of the middleware")
        if logger.isEnabledFor(logging.INFO):
            what, why = (inbound.method, inbound.path), (error.code.value, error.detail)
            logger.info("refused %r %r: %s (%s)", *what, *why, exc_info=error.__cause__)
        if self.config.observers:
            self._tell(Event(inbound.method.upper(), inbound.path, error.code, error.detail))
        response = self._respond(error, inbound.method, inbound.path, inbound.headers.get("origin", ""))
        return Refused(self.config, response)

    def _observe(self, inbound: Inbound, outcome: Outcome) -> None:
        """Report what was not refused. A `Refused` here is the answer to a preflight."""
        if not self.config.observers:
            return
        if isinstance(outcome, Refused):
            self._tell(Event(inbound.method.upper(), inbound.path, detail="a preflight was answered"))
        else:
            user_id = outcome.user.user_id if outcome.user else None
            self._tell(Event(inbound.method.upper(), inbound.path, outcome.error, user_id=user_id))

    def _tell(self, event: Event) -> None:
        for observer in self.config.observers:
            try:
                observer(event)
            except Exception:
                logger.exception("an observer raised; going on without it")


def _is_ready(action: Action, *, defer_refresh: bool) -> bool:
    """Return whether a key can be used without a fetch before the app runs."""
    return action is Action.USE or (defer_refresh and action is Action.USE_AND_REFRESH)


def _not_plain(inbound: Inbound) -> str:
    """Return what to log of a request that has to meet every rule."""
    if inbound.root_path is None:
        why = "its root path is not the setting root_path, or its raw_path is not its path"
    else:
        why = "its path is not plain"
    return f"a request had to meet every rule, since {why}: {inbound.path[:200]!a} (see docs/rules.md)"
