"""Users by id: the call with server access, the reader of its reply, and the lookup that caches the owners of keys."""

from __future__ import annotations

from ..errors import ErrorCode, RefusedError
from .api import server_call
from .api_keys import ApiKey
from .config import StackAuthConfig
from .lookup import Lookup
from .policy import uuid_of
from .profiles import profile_of
from .records import Clocks
from .replies import read_object
from .upstream import Answer, Call, Failure, Refusal, Script
from .user_profile import UserProfile
from .users import User, UserType, with_profile

NO_EXPIRY = 253_402_300_799.0
"""`User.expires_at` for an API key that does not expire: the end of the year 9999, the latest for `datetime`."""
_REFUSED = {"USER_NOT_FOUND": ErrorCode.INVALID_API_KEY}


class UserLookup(Lookup[str, UserProfile]):
    """Profiles of the owners of API keys, by user id.

    Args:
        config: its API address, secret key and cache settings are used.
    """

    def __init__(self, config: StackAuthConfig) -> None:
        super().__init__(
            config,
            "user",
            f"{config.api_url}/api/v1/users/",
            read,
            ttl=config.api_key_ttl,
            max_entries=config.profile_cache_size,
            max_bytes=config.profile_cache_bytes,
        )
        self._config = config

    def profile(self, user_id: str, now: Clocks, *, fresh: bool = False) -> Script[UserProfile]:
        """Return the profile of a user, from the cache or from Stack Auth.

        Args:
            user_id: as Stack Auth sent it.
            now: both clocks.
            fresh: whether to bypass the cache, as `Lookup.get` describes.

        Raises:
            RefusedError: there is no such user.
            AuthServerError: Stack Auth cannot be reached, or rejects our key.
        """
        if uuid_of(user_id) is None:
            raise RefusedError(ErrorCode.INVALID_API_KEY, "the id of the owner is no UUID")

        def make_call() -> Call:
            return server_call(self._config, "GET", f"/users/{user_id}")

        return self.get(user_id, make_call, now, fresh=fresh)


def read(answer: Answer, key: str, clocks: Clocks) -> UserProfile | Refusal | Failure:
    """Return the profile of the user with the id `key`, or why `answer` holds none. A `Reader` for `Lookup`."""
    body = read_object(answer, clocks, _REFUSED, "users")
    return body if isinstance(body, Refusal | Failure) else profile_of(body, key)


def owner_of(key: ApiKey, profile: UserProfile) -> User:
    """Return the owner of `key` as a user with the profile, without claims and without a session."""
    blank = User(
        user_id=profile.id,
        user_type=UserType.NORMAL,
        is_anonymous=False,
        is_restricted=False,
        restricted_reason=None,
        email=None,
        email_verified=False,
        display_name=None,
        selected_team_id=None,
        signed_up_at=None if profile.signed_up_at_millis is None else profile.signed_up_at_millis / 1000,
        session_id=None,
        requires_totp_mfa=False,
        issued_at=key.created_at,
        expires_at=NO_EXPIRY if key.expires_at is None else key.expires_at,
    )
    return with_profile(blank, profile)
