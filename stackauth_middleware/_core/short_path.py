"""The short path: the outcome of the most common request, without the steps that cannot change it."""

from __future__ import annotations

from functools import lru_cache

from .config import StackAuthConfig
from .credentials import HEADERS, TokenSource
from .outcome import Authenticated
from .policy import Policy
from .records import RequestRecord
from .rules import CACHED_LENGTH, CACHED_PATHS
from .token_cache import TokenCache

_PREFIXES: dict[TokenSource, dict[str, str]] = {
    "bearer": {"authorization": "Bearer "},
    "x-stack-access-token": {"x-stack-access-token": "", "x-hexclave-access-token": ""},
}
"""Token sources whose headers hold only a token, and for each header the text before the token."""


class ShortPath:
    """The short path of one config."""

    def __init__(self, config: StackAuthConfig, tokens: TokenCache) -> None:
        self._config = config
        self._tokens = tokens
        self._prefixes = {
            header: prefix
            for source, prefixes in _PREFIXES.items()
            if source in config.token_sources
            for header, prefix in prefixes.items()
        }
        self._policy = lru_cache(CACHED_PATHS)(self._policy_of_any_normal_user)

    def outcome(self, request: RequestRecord, wall: float, mono: float, *, in_event_loop: bool) -> Authenticated | None:
        """Return the outcome that `Flow.authorize` would return, or None for a request that needs `authorize`.

        The steps are those of `authorize`, in an order that returns early if the token is not cached. The reason why
        each may be shortened:

        - Credential: exactly one is present, so no other token source comes before it. A repeated or malformed one is
          never cached.
        - Token: equal to one that was verified; what can change since is checked (`TokenCache.current`).
        - User: a normal user. Others are left to `authorize`.
        - Policy: cached, and None if it asks for more than a token of a normal user, if the path is not plain, and for
          OPTIONS, which may be a CORS preflight.

        Where `authorize` would call a function of the app (the check of a rule, an observer), the result is None.

        Args:
            request: the request.
            wall: seconds since the epoch.
            mono: seconds on the monotonic clock.
            in_event_loop: as for `authorize`.
        """
        token = ""
        for name, value in request.headers.items():
            if name in HEADERS:
                prefix = self._prefixes.get(name)
                if token or prefix is None or not value.startswith(prefix):
                    return None
                token = value[len(prefix) :]
        verified = self._tokens.current(token, wall, mono) if token else None
        if verified is None or verified.user.is_restricted:
            return None
        path, root_path = request.path, request.root_path
        method = request.method
        if root_path is None or request.websocket or len(path) + len(root_path) + len(method) > CACHED_LENGTH:
            return None
        policy = self._policy(method, path, root_path)
        if policy is None:
            return None
        return Authenticated(verified.user, self._config, token, policy, in_event_loop, None, request)

    def _policy_of_any_normal_user(self, method: str, path: str, root_path: str) -> Policy | None:
        """Return the policy of a request if it allows every normal user without further checks, else None.

        It is compared with a policy that sets only the fields which do not concern normal users, so that a policy
        which uses a field added later is left to `authorize`.
        """
        policy = self._config.policy(method, path, root_path)
        flags = policy.allow_restricted, policy.allow_anonymous
        simple = Policy(policy.access, False, *flags, api_keys=policy.api_keys)  # noqa: FBT003
        if policy != simple or policy.access == "public" or method == "OPTIONS" or self._config.observers:
            return None
        return policy
