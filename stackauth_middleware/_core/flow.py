"""The steps from a request, a token or headers to an outcome. `_core/__init__.py` is the theory of operation."""

from __future__ import annotations

import hashlib
import logging
from typing import NamedTuple

from ..errors import AuthServerError, ConfigError, ErrorCode, RefusedError
from .clocks import NEVER
from .config import StackAuthConfig
from .cors import Cors, preflight_of
from .credentials import extract, extract_api_key
from .key_flow import KeyFlow
from .key_set_cache import KeySetCache, no_key
from .key_sets import Action, Key
from .outcome import Authenticated, Outcome, Refused, Unauthenticated
from .permissions import PermissionLookup
from .policy import Policy, enforce
from .profiles import ProfileLookup
from .rate_limited_log import KeyedRateLimitedLog, RateLimitedLog
from .records import Clocks, RequestRecord
from .reporting import Reporter
from .short_path import ShortPath
from .token_cache import TokenCache, VerifiedToken
from .tokens import Token, check_signature, is_possible, parse, user_of
from .upstream import Script
from .users import User, UserProfile, with_profile

_NO_REQUEST = RequestRecord("GET", "/", "", {})
"""Stands for the request where there is none, or where it cannot be read."""


class _AwaitingKey(NamedTuple):
    """A token of the right form whose key has to be fetched first."""

    token: Token
    digest: bytes


class Flow:
    """The steps for one config, with its caches.

    Attributes:
        config: the config.
        keys: its key sets.
        short_path: the short path, which middlewares try before `authorize`.
    """

    def __init__(self, config: StackAuthConfig) -> None:
        self.config = config
        self.keys = KeySetCache(config)
        self._profiles = ProfileLookup(config)
        self._permissions = config.get_or_create(PermissionLookup)
        self._key_flow = config.get_or_create(KeyFlow)
        self._reporter = Reporter(config)
        self._tokens = TokenCache(config, self.keys.cells)
        self.short_path = ShortPath(config, self._tokens)
        self._cors = Cors(config)
        self._default = Policy("required", config.mode == "rest", config.allow_restricted, config.allow_anonymous)
        self._log_not_plain = RateLimitedLog(logging.WARNING)
        self._log_refused_preflight = KeyedRateLimitedLog(
            logging.WARNING,
            "refused a CORS preflight from the origin %a: name the origin in cors_origins to have preflights answered, "
            "or set pass_preflights=True where a CORS tool inside the app answers them",
        )

    # -- requests ----------------------------------------------------------------------------------

    def authorize(
        self, request: RequestRecord, now: Clocks, *, defer_refresh: bool, in_event_loop: bool
    ) -> Outcome | Script[Outcome]:
        """Authenticate a request: return its outcome if no I/O is needed, else a script that returns it.

        Neither this method nor the script raises: every exception becomes a `Refused`.

        Args:
            request: the request.
            now: both clocks.
            defer_refresh: whether the middleware refreshes a stale key set after the response.
            in_event_loop: whether the app runs in an event loop that outlives the request, and not in threads.
        """
        try:
            step = self._authorize_now(request, now, defer_refresh=defer_refresh, in_event_loop=in_event_loop)
        except Exception as error:
            return self._reporter.refuse(request, error, now)
        if not isinstance(step, Outcome):
            return self._finish(request, step, now)
        if self.config.observers and not isinstance(step, Refused):  # a `Refused` has been reported
            self._reporter.report(request, step)
        return step

    def _authorize_now(
        self, request: RequestRecord, now: Clocks, *, defer_refresh: bool, in_event_loop: bool
    ) -> Outcome | Script[Outcome]:
        """Go through the steps, and return a script at the first that needs I/O."""
        # 1. Policy: what the rules demand of this path and method.
        policy = self.config.policy(request.method, request.path, request.root_path, websocket=request.websocket)
        if policy.access == "public":
            return Unauthenticated(self.config, request, per_user=False)
        if policy.every_rule:
            self._log_not_plain(now, _why_every_rule(request))

        # 2. CORS preflights: browsers send no token with them, so no handler may see one as a request.
        preflight = preflight_of(request.method, request.headers) if request.method == "OPTIONS" else None
        if preflight is not None:
            if self.config.pass_preflights:
                return Unauthenticated(self.config, request, is_preflight=True)
            response = self._cors.answer(preflight)
            if response is not None:
                answered = Refused(self.config, response)
                self._reporter.report(request, answered)
                return answered

        # 3. Credential: the token of the first token source that is present, or an API key where the policy takes one.
        token = extract(request.headers, self.config.token_sources)
        if policy.api_keys:
            api_key = extract_api_key(request.headers, self.config.api_key_sources)
            if api_key is not None:
                if token is not None:
                    raise RefusedError(ErrorCode.INVALID_REQUEST, "an access token and an API key")
                return self._key_flow.authorize(api_key, policy, now, request, in_event_loop=in_event_loop)
        if token is None:
            if policy.access == "optional":
                return Unauthenticated(self.config, request)
            if preflight is not None:
                self._log_refused_preflight(now, preflight.origin)
            # Not raised, for speed: this is the most frequent refusal.
            return self._reporter.refuse(request, RefusedError(ErrorCode.MISSING_TOKEN, "no token"), now)

        # 4. Token: verified from the caches, or by a script if a key, the profile or permissions have to be fetched.
        verified = self._verify_locally(token, now, defer_refresh=defer_refresh)
        if isinstance(verified, _AwaitingKey) or policy.profile or policy.permissions:
            how = {"defer_refresh": defer_refresh, "in_event_loop": in_event_loop}
            return self._authorize_with_io(token, verified, policy, now, request, **how)

        # 5. User: the policy has to allow this user.
        user, refresh = verified.user, verified.user.user_type if verified.stale else None
        authenticated = Authenticated(user, self.config, token, policy, in_event_loop, refresh, request)
        del token  # error trackers write out the variables of this frame if a check logs an error
        enforce(user, policy)
        return authenticated

    def _finish(self, request: RequestRecord, script: Script[Outcome], now: Clocks) -> Script[Outcome]:
        """Run `script`; refuse and report as `authorize` does."""
        try:
            outcome = yield from script
        except Exception as error:
            return self._reporter.refuse(request, error, now)
        self._reporter.report(request, outcome)
        return outcome

    def _authorize_with_io(
        self,
        token: str,
        verified: VerifiedToken | _AwaitingKey,
        policy: Policy,
        now: Clocks,
        request: RequestRecord,
        *,
        defer_refresh: bool,
        in_event_loop: bool,
    ) -> Script[Outcome]:
        """Do steps 4 and 5 with I/O: fetch the key, the profile, the permissions, or some of them."""
        try:
            if isinstance(verified, _AwaitingKey):
                verified, now = yield from self._with_key(verified, now, defer_refresh=defer_refresh)
            user = verified.user
            if policy.profile:
                enforce(user, policy._replace(checks=()))  # before the call, since a profile can only add restrictions
                profile = yield from self._profiles.profile(user, token, verified.digest, now)
                user = with_profile(user, profile)
        except AuthServerError as error:
            if policy.access == "optional":
                return Unauthenticated(self.config, request, error.code, error.retry_after)
            raise
        refresh = user.user_type if verified.stale else None
        authenticated = Authenticated(user, self.config, token, policy, in_event_loop, refresh, request)
        del token  # as in `_authorize_now`
        enforce(user, policy)
        yield from self._permissions.require(user, policy, now)
        return authenticated

    def unreadable(self) -> Refused:
        """Return the refusal of a scope or environ that does not follow its specification."""
        error = RefusedError(ErrorCode.INVALID_REQUEST, "the request cannot be read")
        return self._reporter.refuse(_NO_REQUEST, error, NEVER)

    # -- tokens without a request ------------------------------------------------------------------

    def verify(self, token: str, now: Clocks) -> User | Script[User]:
        """Return the user of `token` if no I/O is needed, else a script that returns it. Rules do not apply.

        Raises:
            RefusedError: the token is refused, or the settings do not let its user in.
            AuthServerError: the keys or the profile cannot be fetched.
        """
        verified = self._tokens.current(token, *now) or self._verify_locally(token, now, defer_refresh=False)
        if isinstance(verified, _AwaitingKey) or self._default.profile:
            return self._verify_with_io(token, verified, now)
        if verified.user.is_restricted:
            enforce(verified.user, self._default)
        return verified.user

    def _verify_with_io(self, token: str, verified: VerifiedToken | _AwaitingKey, now: Clocks) -> Script[User]:
        outcome = yield from self._authorize_with_io(
            token, verified, self._default, now, _NO_REQUEST, defer_refresh=False, in_event_loop=False
        )
        assert isinstance(outcome, Authenticated)  # noqa: S101 - the default policy requires a user
        return outcome.user

    def authenticate(self, request: RequestRecord, now: Clocks) -> User | Script[User] | None:
        """Do the same as `verify` for the token in the headers of `request`; return None if there is none."""
        token = extract(request.headers, self.config.token_sources)
        return None if token is None else self.verify(token, now)

    def profile(
        self, token: str, now: Clocks, *, fresh: bool = False, policy: Policy | None = None
    ) -> Script[UserProfile]:
        """Verify `token` and return the profile of its user.

        Args:
            token: the access token.
            now: both clocks.
            fresh: whether to fetch the profile even if it is cached.
            policy: the policy to meet, except for its checks; by default that of the settings.

        Raises:
            ConfigError: no key is set for the Stack Auth API.
            RefusedError: the token is refused, or the policy does not allow the user with this profile.
            AuthServerError: the keys or the profile cannot be fetched.
        """
        if not (self.config.secret_server_key or self.config.publishable_client_key):
            raise ConfigError(
                "secret_server_key is not set; a profile cannot be asked for without one: set STACK_SECRET_SERVER_KEY"
            )
        verified = self._verify_locally(token, now, defer_refresh=False)
        if isinstance(verified, _AwaitingKey):
            verified, now = yield from self._with_key(verified, now, defer_refresh=False)
        profile = yield from self._profiles.profile(verified.user, token, verified.digest, now, fresh=fresh)
        enforce(with_profile(verified.user, profile), (policy or self._default)._replace(checks=()))
        return profile

    # -- local verification ------------------------------------------------------------------------

    def _verify_locally(self, token: str, now: Clocks, *, defer_refresh: bool) -> VerifiedToken | _AwaitingKey:
        """Look up `token` in the cache, or verify its form, signature and claims as far as that needs no I/O."""
        if not is_possible(token):
            raise RefusedError(ErrorCode.INVALID_TOKEN, "not a token by form")
        digest = hashlib.sha256(token.encode("ascii")).digest()
        cached = self._tokens.recheck(digest, now, defer_refresh=defer_refresh)
        if cached is not None:
            return cached
        parsed = parse(token, self.config.audiences, self.config.issuers)
        key_set = self.keys.record(parsed.user_type)
        action = key_set.action(parsed.kid, now)
        if action.is_ready(defer_refresh=defer_refresh):
            return self._verify_signature(parsed, digest, key_set.keys[parsed.kid], action, now)
        if action is Action.UNKNOWN and key_set.failure is None:
            raise no_key(key_set, now)
        return _AwaitingKey(parsed, digest)

    def _with_key(
        self, pending: _AwaitingKey, now: Clocks, *, defer_refresh: bool
    ) -> Script[tuple[VerifiedToken, Clocks]]:
        key, action, now = yield from self.keys.key_for(pending.token, now, defer_refresh=defer_refresh)
        return self._verify_signature(pending.token, pending.digest, key, action, now), now

    def _verify_signature(self, token: Token, digest: bytes, key: Key, action: Action, now: Clocks) -> VerifiedToken:
        """Check the signature and the claims, and cache the result."""
        check_signature(token, key.public)
        user = user_of(token, now.wall, self.config.leeway)
        verified = VerifiedToken(user, digest, token.kid, key)
        self._tokens.put(digest, verified)
        return verified._replace(stale=True) if action is Action.USE_AND_REFRESH else verified


def _why_every_rule(request: RequestRecord) -> str:
    """Return the log message about a request that has to meet every rule."""
    why = "its path is not plain"
    if request.root_path is None:
        why = "its root path is not the setting root_path, or its raw_path is not the usual form of its path"
    return f"a request had to meet every rule, since {why}: {request.path[:200]!a} (see docs/rules.md)"
