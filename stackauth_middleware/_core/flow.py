"""The order of steps from a request to its outcome. This block is the theory of operation of the package.

Effects. A step that may need Stack Auth returns either its result or a script: a generator that yields what it needs,
and is resumed with the answer. Scripts decide, and do no I/O; a runner (`SyncRunner` for threads, `AsyncRunner` for
tasks) performs the effects and decides nothing. So the order of steps is written once. A fetch, by its effects:

    script = flow.authorize(request, clocks)      no usable key is held: not an `Outcome`, but a script
    effect = next(script)                         Share(("keys", "normal"), ...)
      inner = effect.script()                     this caller leads: the runner drives the shared script
      next(inner)                                 Call("GET", ".../jwks.json")
      inner.send(Resume(Reply(200, ...), clocks)) StopIteration: the keys are kept, the fetch is done
    script.send(Resume(Led(...), clocks))         StopIteration(Authenticated): signature and claims hold

What a runner raises is thrown into the script; a script whose caller has left is closed.

Single flight. Concurrent callers that need the same thing share one fetch. The first is the leader and runs the
script; the others are followers. The leader gets the script's result. A follower is resumed when the leader is done,
whatever became of it, and looks again at what is kept: it finds the answer, or leads the next fetch itself. A leader
whose task is cancelled goes on for a grace period, so that clients that disconnect do not make each other start over.
Runners and event loops do not share with each other; so what is kept is replaced only by what was asked for later.

Two clocks come with every resumption. The wall clock judges claims (`exp`, `nbf`), and what ends with a token; the
monotonic clock tells ages, and the time until the next fetch.

Freshness (RFC 5861). Keys are fresh for ten minutes at most. Stale keys are served while one caller refreshes them
(stale-while-revalidate), after the response where the middleware can defer it; and for a day while Stack Auth fails
(stale-if-error). Without usable keys requests wait for a fetch, or are refused with 503 until the next may start;
`key_sets.ACTIONS` is the table. Lookups are fresh for their time to live and never served stale.
"""

from __future__ import annotations

import hashlib
import logging
from typing import NamedTuple

from ..errors import AuthServerError, ConfigError, ErrorCode, Event, RefusedError, clear_frame_locals
from .cache import LRUCache
from .config import StackAuthConfig
from .cors import Cors, preflight_of
from .credentials import extract
from .key_set_cache import KeySetCache, no_key
from .key_sets import Action, Key
from .outcome import Authenticated, Outcome, Refused, Unauthenticated
from .profiles import ProfileLookup
from .rate_limited_log import KeyedRateLimitedLog, RateLimitedLog
from .records import Clocks, RequestRecord
from .responses import Responder
from .rules import Policy, enforce
from .tokens import ForeignToken, Token, check_signature, is_possible, parse, user_of
from .upstream import Script
from .users import User, UserProfile, with_profile

logger = logging.getLogger("stackauth_middleware")


_NOTHING = RequestRecord("GET", "/", "", {})


class _VerifiedToken(NamedTuple):
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


class _AwaitingKey(NamedTuple):
    """A token whose form holds and whose key must be asked for."""

    token: Token
    digest: bytes


class Flow:
    """The steps of one config, and what they remember."""

    def __init__(self, config: StackAuthConfig) -> None:
        self.config = config
        self.keys = KeySetCache(config)
        self._profiles = ProfileLookup(config)
        self._respond = Responder(config)
        self._tokens: LRUCache[bytes, _VerifiedToken] = LRUCache(config.token_cache_size)
        self._foreign = RateLimitedLog(logging.WARNING)
        self._cors = Cors(config)
        self._refused_preflight = KeyedRateLimitedLog(
            logging.WARNING,
            "refused a CORS preflight from the origin %a: name the origin in cors_origins to have preflights answered, "
            "or set pass_preflights=True where a CORS tool inside the app answers them",
        )
        self._not_plain = RateLimitedLog(logging.WARNING)
        restricted, anonymous = config.allow_restricted, config.allow_anonymous
        self._default = Policy("required", config.mode == "rest", restricted, anonymous)

    # -- requests ----------------------------------------------------------------------------------

    def authorize(
        self, request: RequestRecord, now: Clocks, *, defer_refresh: bool, in_event_loop: bool
    ) -> Outcome | Script[Outcome]:
        """Authenticate a request: return the outcome, or the script that comes to it.

        Args:
            inbound: the request.
            now: both clocks.
            defer_refresh: whether the middleware refreshes a stale key set after the app is done.
            in_event_loop: whether the app runs in an event loop that outlives the request, and not in threads.
        """
        try:
            step = self._authorize_now(request, now, defer_refresh=defer_refresh, in_event_loop=in_event_loop)
        except Exception as error:
            return self._refuse(request, error)
        if not isinstance(step, Outcome):
            return self._finish(request, step)
        self._report(request, step)
        return step

    def _authorize_now(
        self, request: RequestRecord, now: Clocks, *, defer_refresh: bool, in_event_loop: bool
    ) -> Outcome | Script[Outcome]:
        policy = self.config.policy(request.method, request.path, request.root_path, websocket=request.websocket)
        if policy.every_rule and policy.access != "public":
            self._not_plain(now.mono, _not_plain(request))
        if policy.access == "public":
            return Unauthenticated(self.config, request, per_user=False)
        preflight = preflight_of(request.method, request.headers)
        if preflight is not None:
            if self.config.pass_preflights:
                return Unauthenticated(self.config, request, is_preflight=True)
            answer = self._cors.answer(preflight)
            if answer is not None:
                return Refused(self.config, answer)
        token = extract(request.headers, self.config.token_sources)
        if token is None:
            if policy.access == "optional":
                return Unauthenticated(self.config, request)
            if preflight is not None:
                self._refused_preflight(now.mono, preflight.origin)
            raise RefusedError(ErrorCode.MISSING_TOKEN, "no token")
        found = self._verify_locally(token, now, defer_refresh=defer_refresh)
        if isinstance(found, _AwaitingKey) or policy.profile:
            how = {"defer_refresh": defer_refresh, "in_event_loop": in_event_loop}
            return self._authorize_with_io(token, found, policy, now, request, **how)
        refresh = found.user.user_type if found.stale else None
        authenticated = Authenticated(found.user, self.config, token, policy, in_event_loop, refresh, request)
        del token  # error trackers write out the variables of this frame where a check logs an error
        enforce(found.user, policy)
        return authenticated

    def _authorize_with_io(
        self,
        token: str,
        found: _VerifiedToken | _AwaitingKey,
        policy: Policy,
        now: Clocks,
        request: RequestRecord,
        *,
        defer_refresh: bool,
        in_event_loop: bool,
    ) -> Script[Outcome]:
        try:
            if isinstance(found, _AwaitingKey):
                found, now = yield from self._with_key(found, now, defer_refresh=defer_refresh)
            user = found.user
            if policy.profile:
                enforce(user, policy._replace(checks=()))
                profile = yield from self._profiles.profile(user, token, found.digest, now)
                user = with_profile(user, profile)
        except AuthServerError as error:
            if policy.access == "optional":
                return Unauthenticated(self.config, request, error.code, error.retry_after)
            raise
        refresh = user.user_type if found.stale else None
        authenticated = Authenticated(user, self.config, token, policy, in_event_loop, refresh, request)
        del token
        enforce(user, policy)
        return authenticated

    def _finish(self, request: RequestRecord, script: Script[Outcome]) -> Script[Outcome]:
        try:
            outcome = yield from script
        except Exception as error:
            return self._refuse(request, error)
        self._report(request, outcome)
        return outcome

    # -- tokens ------------------------------------------------------------------------------------

    def verify(self, token: str, now: Clocks) -> User | Script[User]:
        """Return the user of `token`, let in as the settings say, or the script that will.

        Raises:
            RefusedError: the token was refused.
            AuthServerError: the keys to judge it cannot be had.
        """
        found = self._verify_locally(token, now, defer_refresh=False)
        if isinstance(found, _AwaitingKey) or self._default.profile:
            return self._verification(token, found, now)
        enforce(found.user, self._default)
        return found.user

    def _verification(self, token: str, found: _VerifiedToken | _AwaitingKey, now: Clocks) -> Script[User]:
        authenticated = yield from self._authorize_with_io(
            token, found, self._default, now, _NOTHING, defer_refresh=False, in_event_loop=False
        )
        assert isinstance(authenticated, Authenticated)  # noqa: S101 - the default policy requires a user
        return authenticated.user

    def authenticate(self, request: RequestRecord, now: Clocks) -> User | Script[User] | None:
        """Do as `verify` does for the token that `inbound` carries; None where it carries none."""
        token = extract(request.headers, self.config.token_sources)
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
        found = self._verify_locally(token, now, defer_refresh=False)
        if isinstance(found, _AwaitingKey):
            found, now = yield from self._with_key(found, now, defer_refresh=False)
        profile = yield from self._profiles.profile(found.user, token, found.digest, now, fresh=fresh)
        enforce(with_profile(found.user, profile), (policy or self._default)._replace(checks=()))
        return profile

    def _verify_locally(self, token: str, now: Clocks, *, defer_refresh: bool) -> _VerifiedToken | _AwaitingKey:
        """Verify `token` by what is at hand: remembered, or else its form, its key, signature and claims.

        Returns:
            The user, or what is left to do where the key must be asked for first.
        """
        if not is_possible(token):
            raise RefusedError(ErrorCode.INVALID_TOKEN, "not a token by form")
        digest = hashlib.sha256(token.encode("ascii")).digest()
        seen = self._tokens.get(digest)
        if seen is not None:
            seen = self._recheck(seen, now, defer_refresh=defer_refresh)
            if seen is not None:
                return seen
        parsed = self._parsed(token, now)
        record = self.keys.record(parsed.user_type)
        action = record.action(parsed.kid, now.mono)
        if action.is_ready(defer_refresh=defer_refresh):
            return self._verify_signature(parsed, digest, record.keys[parsed.kid], action, now)
        if action is Action.UNKNOWN and record.failure is None:
            raise no_key(record, now.mono)
        return _AwaitingKey(parsed, digest)

    def _recheck(self, seen: _VerifiedToken, now: Clocks, *, defer_refresh: bool) -> _VerifiedToken | None:
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
        ready = action.is_ready(defer_refresh=defer_refresh)
        return seen._replace(stale=action is Action.USE_AND_REFRESH) if ready else None

    def _parsed(self, token: str, now: Clocks) -> Token:
        try:
            return parse(token, self.config.audiences, self.config.issuers)
        except ForeignToken:
            self._foreign(now.mono, "a token of another project or issuer was refused; is project_id right?")
            raise

    def _with_key(
        self, pending: _AwaitingKey, now: Clocks, *, defer_refresh: bool
    ) -> Script[tuple[_VerifiedToken, Clocks]]:
        key, action, now = yield from self.keys.key_for(pending.token, now, defer_refresh=defer_refresh)
        return self._verify_signature(pending.token, pending.digest, key, action, now), now

    def _verify_signature(self, token: Token, digest: bytes, key: Key, action: Action, now: Clocks) -> _VerifiedToken:
        """Check the signature and the claims, and remember the user."""
        check_signature(token, key.public)
        user = user_of(token, now.wall, self.config.leeway)
        seen = _VerifiedToken(user, digest, token.kid, key)
        self._tokens.put(digest, seen)
        return seen._replace(stale=True) if action is Action.USE_AND_REFRESH else seen

    def unreadable(self) -> Refused:
        """Return the refusal for a scope or environ that is not of its specification's form."""
        return self._refuse(_NOTHING, RefusedError(ErrorCode.INVALID_REQUEST, "no request that could be read"))

    # -- refusals ----------------------------------------------------------------------------------

    def _refuse(self, request: RequestRecord, error: Exception) -> Refused:
        """Return the refusal for `error`; an unexpected exception fails closed, as a 503."""
        clear_frame_locals(error)  # it is logged here, or with what a hook raises while it is handled
        if not isinstance(error, RefusedError | AuthServerError):
            logger.error("refusing a request: the verification failed", exc_info=error)
            error = AuthServerError(ErrorCode.SERVER_ERROR, 1, "an error of the middleware")
        if logger.isEnabledFor(logging.INFO):
            what, why = (request.method, request.path), (error.code.value, error.detail)
            logger.info("refused %r %r: %s (%s)", *what, *why, exc_info=error.__cause__)
        if self.config.observers:
            self._notify(Event(request.method.upper(), request.path, error.code, error.detail))
        response = self._respond(error, request.method, request.path, request.headers.get("origin", ""))
        return Refused(self.config, response)

    def _report(self, request: RequestRecord, outcome: Outcome) -> None:
        """Report what was not refused. A `Refused` here is the answer to a preflight."""
        if not self.config.observers:
            return
        if isinstance(outcome, Refused):
            self._notify(Event(request.method.upper(), request.path, detail="a preflight was answered"))
        else:
            user_id = outcome.user.user_id if outcome.user else None
            self._notify(Event(request.method.upper(), request.path, outcome.error, user_id=user_id))

    def _notify(self, event: Event) -> None:
        for observer in self.config.observers:
            try:
                observer(event)
            except Exception:
                logger.exception("an observer raised; going on without it")


def _not_plain(request: RequestRecord) -> str:
    """Return what to log of a request that has to meet every rule."""
    if request.root_path is None:
        why = "its root path is not the setting root_path, or its raw_path is not its path"
    else:
        why = "its path is not plain"
    return f"a request had to meet every rule, since {why}: {request.path[:200]!a} (see docs/rules.md)"
