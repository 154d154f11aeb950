"""The steps from an API key to an outcome."""

from __future__ import annotations

from ..errors import AuthServerError, ErrorCode, RefusedError
from .config import StackAuthConfig
from .key_lookup import KeyLookup
from .outcome import KeyAuthenticated, Outcome, Unauthenticated
from .permissions import PermissionLookup
from .policy import Policy, enforce
from .records import Clocks, RequestRecord
from .upstream import Script
from .user_profile import UserProfile
from .users_by_id import UserLookup, owner_of


class KeyFlow:
    """The steps for the API keys of one config, with their caches."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._config = config
        self._keys = KeyLookup(config)
        self._users = UserLookup(config)
        self._permissions = config.get_or_create(PermissionLookup)

    def authorize(
        self, value: str, policy: Policy, now: Clocks, request: RequestRecord, *, in_event_loop: bool
    ) -> Script[Outcome]:
        """Return the outcome of a request with an API key.

        Args:
            value: the API key as the client sent it.
            policy: what the key and its owner must meet.
            now: both clocks.
            request: the request.
            in_event_loop: as for `Flow.authorize`.

        Raises:
            RefusedError: the key or its owner is refused.
            AuthServerError: Stack Auth cannot be reached, rejects our key, or has API keys turned off. Where access is
                optional, the request goes on without a user instead.
        """
        try:
            return (yield from self._authorize(value, policy, now, request, in_event_loop=in_event_loop))
        except AuthServerError as error:
            if policy.access == "optional":
                return Unauthenticated(self._config, request, error.code, error.retry_after)
            raise

    def _authorize(
        self, value: str, policy: Policy, now: Clocks, request: RequestRecord, *, in_event_loop: bool
    ) -> Script[KeyAuthenticated]:
        key = yield from self._keys.key(value, policy, now)
        user = None
        if key.user_id is not None:
            user = owner_of(key, (yield from self._users.profile(key.user_id, now)))
            enforce(user, policy)
            yield from self._permissions.require(user, policy, now)
        elif policy.permissions or policy.checks:
            raise RefusedError(ErrorCode.FORBIDDEN, "the key of a team, where the rule demands something of a user")
        return KeyAuthenticated(key, user, self._config, policy, request, in_event_loop=in_event_loop)

    def profile(self, outcome: KeyAuthenticated, now: Clocks, *, fresh: bool = False) -> Script[UserProfile]:
        """Return the profile of the owner of the API key of a request.

        Args:
            outcome: of that request. Its API key is that of a user.
            now: both clocks.
            fresh: whether to bypass the cache, as `Lookup.get` describes.

        Raises:
            RefusedError: the owner was deleted, or the policy of the request no longer allows the owner.
            AuthServerError: Stack Auth cannot be reached, or rejects our key.
        """
        profile = yield from self._users.profile(str(outcome.api_key.user_id), now, fresh=fresh)
        enforce(owner_of(outcome.api_key, profile), outcome.policy._replace(checks=()))
        return profile
