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

from . import _tokens
from ._config import StackAuthConfig
from ._credentials import MAX_OCTETS, extract
from ._flow_keys import KeyRing
from ._flow_profiles import ProfileDesk
from ._keyset import Action, Key
from ._memory import Memory
from ._notices import Notice
from ._responses import Responder
from ._rules import Policy, admit
from ._user import User, UserProfile, UserType, with_profile
from ._wire import Clocks, Inbound, Response, Script
from .errors import AuthServerError, ConfigError, ErrorCode, Event, RefusedError

logger = logging.getLogger("stackauth_middleware")


class Presented:
    """A verified token, kept for the request that brought it so that its profile can be asked for."""

    __slots__ = ("flow", "in_threads", "policy", "token")

    def __init__(self, flow: Flow, token: str, policy: Policy, *, in_threads: bool) -> None:
        self.flow = flow
        self.token = token
        self.policy = policy
        self.in_threads = in_threads

    def profile(self, now: Clocks, *, fresh: bool) -> Script[UserProfile]:
        """Return the script that brings the profile, and refuses a user whom the rules would not let in."""
        return self.flow.profile(self.token, now, fresh=fresh, policy=self.policy)


class Admitted(NamedTuple):
    """The verdict on a request that the app gets to see.

    Attributes:
        user: who is there, or None for nobody.
        presented: the token behind `user`.
        error: why nobody is there although somebody tried, on an optional route.
        refresh: the user type whose key set is stale: for a door to see to once the app is done.
    """

    user: User | None = None
    presented: Presented | None = None
    error: ErrorCode | None = None
    refresh: UserType | None = None


NOBODY = Admitted()


class _Remembered(NamedTuple):
    user: User
    kid: str
    key: Key


class _Seen(NamedTuple):
    user: User
    digest: bytes
    action: Action


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
        seen = self._seen(token, now)
        if seen is None or not _is_ready(seen.action, defer_refresh=defer_refresh) or self._wants_profile(policy):
            return self._admission(token, seen, policy, now, defer_refresh=defer_refresh)
        admit(seen.user, policy)
        return Admitted(
            seen.user, Presented(self, token, policy, in_threads=not defer_refresh), refresh=_to_refresh(seen)
        )

    def _admission(
        self, token: str, seen: _Seen | None, policy: Policy, now: Clocks, *, defer_refresh: bool
    ) -> Script[Admitted]:
        try:
            if seen is None or not _is_ready(seen.action, defer_refresh=defer_refresh):
                seen, now = yield from self._verified(token, now, defer_refresh=defer_refresh)
            admit(seen.user, replace(policy, checks=()))
            user = seen.user
            if self._wants_profile(policy):
                profile = yield from self._profiles.profile(user, token, seen.digest, now)
                user = with_profile(user, profile)
        except AuthServerError as error:
            if policy.access == "optional":
                return Admitted(error=error.code)
            raise
        admit(user, policy)
        return Admitted(user, Presented(self, token, policy, in_threads=not defer_refresh), refresh=_to_refresh(seen))

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
        seen = self._seen(token, now)
        if seen is None or seen.action is not Action.USE or self.config.mode == "rest":
            return self._verification(token, seen, now)
        admit(seen.user, self._default)
        return seen.user

    def _verification(self, token: str, seen: _Seen | None, now: Clocks) -> Script[User]:
        admitted = yield from self._admission(token, seen, self._default, now, defer_refresh=False)
        assert admitted.user is not None  # noqa: S101 - access is required
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
        seen = self._seen(token, now)
        if seen is None or seen.action is not Action.USE:
            seen, now = yield from self._verified(token, now, defer_refresh=False)
        profile = yield from self._profiles.profile(seen.user, token, seen.digest, now, fresh=fresh)
        admit(with_profile(seen.user, profile), replace(policy or self._default, checks=()))
        return profile

    def _seen(self, token: str, now: Clocks) -> _Seen | None:
        """Return the user of a token that was verified before, by a key that is still published."""
        if len(token) > MAX_OCTETS or not token.isascii():
            raise RefusedError(ErrorCode.INVALID_TOKEN, "not a token by form")
        digest = _digest(token)
        remembered = self._tokens.get(digest)
        if remembered is None:
            return None
        user, kid, key = remembered
        record = self.keys.record(user.user_type)
        if record.keys.get(kid) is not key:
            self._tokens.drop(digest)
            return None
        if user.expires_at <= now.wall - self.config.leeway:
            self._tokens.drop(digest)
            raise RefusedError(ErrorCode.EXPIRED_TOKEN, "expired")
        return _Seen(user, digest, record.action(kid, now.mono))

    def _verified(self, token: str, now: Clocks, *, defer_refresh: bool) -> Script[tuple[_Seen, Clocks]]:
        """Verify `token`: what can refuse without a key, then the key, the signature, the claims."""
        try:
            parsed = _tokens.parse(token, self.config.audiences, self.config.issuers)
        except _tokens.ForeignToken:
            self._foreign(now.mono, "a token of another project or issuer was refused; is project_id right?")
            raise
        key, action, now = yield from self.keys.key_for(parsed, now, defer_refresh=defer_refresh)
        _tokens.check_signature(parsed, key.public)
        user = _tokens.user_of(parsed, now.wall, self.config.leeway)
        digest = _digest(token)
        self._tokens.put(digest, _Remembered(user, parsed.kid, key))
        return _Seen(user, digest, action), now

    # -- refusals ----------------------------------------------------------------------------------

    def _refuse(self, inbound: Inbound, error: Exception) -> Response:
        """Return the response for `error`; one of our own making closes the door without blaming the client."""
        if not isinstance(error, RefusedError | AuthServerError):
            logger.error("refusing a request: the verification failed", exc_info=error)
            error = AuthServerError(ErrorCode.SERVER_ERROR, 1, "an error of the middleware")
        cause = error.__cause__
        logger.info(
            "refused %s %r: %s (%s)", inbound.method, inbound.path, error.code.value, error.detail, exc_info=cause
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


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii")).digest()


def _is_preflight(inbound: Inbound) -> bool:
    """Say whether this is a CORS preflight, which carries no credentials: the test of the Fetch standard."""
    return (
        inbound.method == "OPTIONS"
        and "origin" in inbound.headers
        and "access-control-request-method" in inbound.headers
    )
