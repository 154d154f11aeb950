"""The order of steps, written once: with `_flow_keys` and `_flow_profiles`, the only generators here.

A step that needs nothing from outside is a plain call. One that may need Stack Auth returns either
its result or a script: a generator that yields what it needs, a `Call` or a `Flight`, and is resumed
with a `Tick`. Either pump can drive it. Nothing below the flow knows that time passes.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import NamedTuple

from ._config import StackAuthConfig
from ._credentials import MAX_OCTETS, extract
from ._flow_keys import KeyRing
from ._flow_profiles import ProfileDesk
from ._keyset import Action, Key
from ._memory import Memory
from ._notices import Notice
from ._responses import Responder
from ._rules import Policy, admit
from ._tokens import ForeignToken, Token, check_signature, parse, user_of
from ._user import User, UserProfile, UserType, with_profile
from ._verdict import NOBODY, Admitted, Presented
from ._wire import Clocks, Inbound, Response, Script
from .errors import AuthServerError, ConfigError, ErrorCode, Event, RefusedError, forget_locals

logger = logging.getLogger("stackauth_middleware")


_NOTHING = Inbound("GET", "/", "", {})


class _Remembered(NamedTuple):
    user: User
    kid: str
    key: Key


class _Seen(NamedTuple):
    """A token that was verified, and how its key was found."""

    user: User
    digest: bytes
    action: Action


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
        self._tokens: Memory[bytes, _Remembered] = Memory(config.token_memory)
        self._foreign = Notice(logging.WARNING)
        self._default = Policy(
            "required",
            profile=False,
            allow_restricted=config.allow_restricted,
            allow_anonymous=config.allow_anonymous,
        )

    # -- requests ----------------------------------------------------------------------------------

    def gate(
        self, inbound: Inbound, now: Clocks, *, defer_refresh: bool
    ) -> Admitted | Response | Script[Admitted | Response]:
        """Let a request in, or refuse it.

        Args:
            inbound: what the door saw.
            now: both clocks.
            defer_refresh: whether the door sees to a stale key set after the app is done.
        """
        try:
            admitted = self._gate(inbound, now, defer_refresh=defer_refresh)
        except Exception as error:
            return self._refuse(inbound, error)
        if isinstance(admitted, Admitted):
            self._observe(inbound, admitted)
            return admitted
        return self._gated(inbound, admitted)

    def _gate(self, inbound: Inbound, now: Clocks, *, defer_refresh: bool) -> Admitted | Script[Admitted]:
        if _is_preflight(inbound):
            return NOBODY
        policy = self.config.policy(inbound.method, inbound.path, inbound.root_path)
        if policy.access == "public":
            return NOBODY
        token = extract(inbound.headers, self.config.carriers)
        if token is None:
            if policy.access == "optional":
                return NOBODY
            raise RefusedError(ErrorCode.MISSING_TOKEN, "no token")
        found = self._judge(token, now, defer_refresh=defer_refresh)
        if isinstance(found, _Pending) or self._wants_profile(policy):
            return self._admission(token, found, policy, now, defer_refresh=defer_refresh)
        admit(found.user, policy)
        presented = Presented(self.config, token, policy, in_threads=not defer_refresh)
        return Admitted(found.user, presented, refresh=_to_refresh(found))

    def _admission(
        self, token: str, found: _Seen | _Pending, policy: Policy, now: Clocks, *, defer_refresh: bool
    ) -> Script[Admitted]:
        try:
            if isinstance(found, _Pending):
                found, now = yield from self._with_key(found, now, defer_refresh=defer_refresh)
            user = found.user
            if self._wants_profile(policy):
                admit(user, replace(policy, checks=()))
                profile = yield from self._profiles.profile(user, token, found.digest, now)
                user = with_profile(user, profile)
        except AuthServerError as error:
            if policy.access == "optional":
                return Admitted(error=error.code)
            raise
        admit(user, policy)
        presented = Presented(self.config, token, policy, in_threads=not defer_refresh)
        return Admitted(user, presented, refresh=_to_refresh(found))

    def _wants_profile(self, policy: Policy) -> bool:
        return policy.profile or self.config.mode == "rest"

    def _gated(self, inbound: Inbound, script: Script[Admitted]) -> Script[Admitted | Response]:
        try:
            admitted = yield from script
        except Exception as error:
            return self._refuse(inbound, error)
        self._observe(inbound, admitted)
        return admitted

    # -- tokens ------------------------------------------------------------------------------------

    def verify(self, token: str, now: Clocks) -> User | Script[User]:
        """Return the user of `token`, let in as the settings say, or the script that will.

        Raises:
            RefusedError: the token was refused.
            AuthServerError: the keys to judge it cannot be had.
        """
        found = self._judge(token, now, defer_refresh=False)
        if isinstance(found, _Pending) or self.config.mode == "rest":
            return self._verification(token, found, now)
        admit(found.user, self._default)
        return found.user

    def _verification(self, token: str, found: _Seen | _Pending, now: Clocks) -> Script[User]:
        admitted = yield from self._admission(token, found, self._default, now, defer_refresh=False)
        assert admitted.user is not None  # noqa: S101 - the default policy requires a user
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
        admit(with_profile(found.user, profile), replace(policy or self._default, checks=()))
        return profile

    def _judge(self, token: str, now: Clocks, *, defer_refresh: bool) -> _Seen | _Pending:
        """Verify `token` by what is at hand: remembered, or else its form, its key, signature and claims.

        Returns:
            The user, or what is left to do where the key must be asked for first.
        """
        if len(token) > MAX_OCTETS or not token.isascii():
            raise RefusedError(ErrorCode.INVALID_TOKEN, "not a token by form")
        digest = hashlib.sha256(token.encode("ascii")).digest()
        remembered = self._remembered(digest, now)
        if remembered is not None:
            user, kid, _ = remembered
            record = self.keys.record(user.user_type)
            action = Action.USE if record.is_fresh(now.mono) else record.action(kid, now.mono)
            if _is_ready(action, defer_refresh=defer_refresh):
                return _Seen(user, digest, action)
        parsed = self._parsed(token, now)
        record = self.keys.record(parsed.user_type)
        action = record.action(parsed.kid, now.mono)
        if _is_ready(action, defer_refresh=defer_refresh):
            return self._first_sight(parsed, digest, record.keys[parsed.kid], action, now)
        return _Pending(parsed, digest)

    def _remembered(self, digest: bytes, now: Clocks) -> _Remembered | None:
        """Return what is known of a token that was verified before, by a key that is still published."""
        remembered = self._tokens.get(digest)
        if remembered is None:
            return None
        user, kid, key = remembered
        if self.keys.record(user.user_type).keys.get(kid) is not key:
            self._tokens.drop(digest)
            return None
        if user.expires_at <= now.wall - self.config.leeway:
            self._tokens.drop(digest)
            raise RefusedError(ErrorCode.EXPIRED_TOKEN, "expired")
        return remembered

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
        self._tokens.put(digest, _Remembered(user, token.kid, key))
        return _Seen(user, digest, action)

    def unreadable(self) -> Response:
        """Return the refusal for a scope or environ that is not of its specification's form."""
        return self._refuse(_NOTHING, RefusedError(ErrorCode.INVALID_REQUEST, "no request that could be read"))

    # -- refusals ----------------------------------------------------------------------------------

    def _refuse(self, inbound: Inbound, error: Exception) -> Response:
        """Return the response for `error`; one of our own making closes the door without blaming the client."""
        forget_locals(error)  # it is logged here, or with what a hook raises while it is handled
        if not isinstance(error, RefusedError | AuthServerError):
            logger.error("refusing a request: the verification failed", exc_info=error)
            error = AuthServerError(ErrorCode.SERVER_ERROR, 1, "an error of the middleware")
        cause = error.__cause__
        logger.info(
            "refused %r %r: %s (%s)", inbound.method, inbound.path, error.code.value, error.detail, exc_info=cause
        )
        self._tell(Event(inbound.method.upper(), inbound.path, error.code, error.detail))
        return self._respond(error, inbound.method, inbound.path, inbound.headers.get("origin", ""))

    def _observe(self, inbound: Inbound, admitted: Admitted) -> None:
        if self.config.observers:
            user_id = admitted.user.user_id if admitted.user else None
            self._tell(Event(inbound.method.upper(), inbound.path, admitted.error, user_id=user_id))

    def _tell(self, event: Event) -> None:
        for observer in self.config.observers:
            try:
                observer(event)
            except Exception:
                logger.exception("an observer raised; going on without it")


def _is_ready(action: Action, *, defer_refresh: bool) -> bool:
    """Say whether a key can be used without a flight before the app runs."""
    return action is Action.USE or (defer_refresh and action is Action.USE_AND_REFRESH)


def _to_refresh(seen: _Seen) -> UserType | None:
    return seen.user.user_type if seen.action is Action.USE_AND_REFRESH else None


def _is_preflight(inbound: Inbound) -> bool:
    """Say whether this is a CORS preflight, which carries no credentials: the test of the Fetch standard."""
    return (
        inbound.method == "OPTIONS"
        and "origin" in inbound.headers
        and "access-control-request-method" in inbound.headers
    )
