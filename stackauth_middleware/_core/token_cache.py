"""The cache of verified tokens, and the conditions under which a cached token is used again."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from ..errors import ErrorCode, RefusedError
from .cache import Atomic, LRUCache
from .config import StackAuthConfig
from .credentials import MAX_BYTES
from .key_sets import Action, Key, KeySet
from .records import Clocks
from .tokens import BEFORE_SIGNATURE
from .users import User, UserType


class VerifiedToken(NamedTuple):
    """A token whose signature and claims were checked.

    Attributes:
        user: the user of the token.
        digest: SHA-256 of the token, its key in the cache.
        kid: the id of `key`.
        key: the key that verified the signature. The result is valid while that key is published.
        stale: whether the key set of that key has to be refreshed.
    """

    user: User
    digest: bytes
    kid: str
    key: Key
    stale: bool = False


class TokenCache(LRUCache[bytes, VerifiedToken]):
    """The verified tokens of one config by their SHA-256 digest, so that a dump of it holds no credential.

    Args:
        config: sets the size and the leeway.
        key_sets: the cached key set of each user type.
    """

    def __init__(self, config: StackAuthConfig, key_sets: Mapping[UserType, Atomic[KeySet]]) -> None:
        super().__init__(config.token_cache_size)
        self._leeway = config.leeway
        self._key_sets = key_sets

    def current(self, token: str, wall: float, mono: float) -> VerifiedToken | None:
        """Return the entry of `token` if it is valid as it is; None if the token has to be verified or refused.

        Equal digests mean equal tokens, so what a verification found about the form, the signature and the claims
        still holds. What can change is checked here: the time, the published keys and their age. It calls no
        method of this package and takes floats instead of `Clocks`, for speed: nearly every request calls it.

        Args:
            token: any string.
            wall: seconds since the epoch.
            mono: seconds on the monotonic clock.
        """
        if len(token) > MAX_BYTES or token[BEFORE_SIGNATURE] != "." or not token.isascii():
            return None
        digest = sha256(token.encode("ascii")).digest()
        with self._lock:
            cached = self._values.get(digest)
            if cached is None:
                return None
            self._values.move_to_end(digest)
        user = cached.user
        key_set = self._key_sets[user.user_type].record
        fetched_at, fresh_for = key_set.fetched_at, key_set.fresh_for
        if (
            key_set.keys.get(cached.kid) is cached.key
            and user.expires_at > wall - self._leeway
            and mono - fetched_at.mono < fresh_for
            and wall - fetched_at.wall < fresh_for
        ):
            return cached
        return None

    def recheck(self, digest: bytes, now: Clocks, *, defer_refresh: bool) -> VerifiedToken | None:
        """Return the entry of `digest` if it is valid; None if there is none, or if its key was replaced or is too old.

        Raises:
            RefusedError: EXPIRED_TOKEN.
        """
        cached = self.get(digest)
        if cached is None:
            return None
        key_set = self._key_sets[cached.user.user_type].record
        if key_set.keys.get(cached.kid) is not cached.key:
            self.drop(digest)
            return None
        if cached.user.expires_at <= now.wall - self._leeway:
            self.drop(digest)
            raise RefusedError(ErrorCode.EXPIRED_TOKEN, "expired")
        if key_set.is_fresh(now):
            return cached
        action = key_set.action(cached.kid, now)
        ready = action.is_ready(defer_refresh=defer_refresh)
        return cached._replace(stale=action is Action.USE_AND_REFRESH) if ready else None
