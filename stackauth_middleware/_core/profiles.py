"""User profiles: the call to users/me, the reader of its reply, and the lookup that caches profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from ..errors import ErrorCode
from .api import headers_of, server_headers
from .config import StackAuthConfig
from .lookup import Lookup
from .records import Clocks
from .replies import nested_too_deeply, read_object
from .upstream import Answer, Call, Failure, Refusal, Script
from .user_profile import UserProfile, profile_from_json
from .users import User

_TOKEN_REFUSED = {
    "UNPARSABLE_ACCESS_TOKEN": ErrorCode.INVALID_TOKEN,
    "ACCESS_TOKEN_EXPIRED": ErrorCode.EXPIRED_TOKEN,
    "INVALID_PROJECT_FOR_ACCESS_TOKEN": ErrorCode.INVALID_TOKEN,
    "CANNOT_GET_OWN_USER_WITHOUT_USER": ErrorCode.INVALID_TOKEN,  # the account was deleted
    "ANONYMOUS_AUTHENTICATION_NOT_ALLOWED": ErrorCode.ANONYMOUS_NOT_ALLOWED,
    "RESTRICTED_USER_NOT_ALLOWED": ErrorCode.RESTRICTED_NOT_ALLOWED,
}

Reading: TypeAlias = UserProfile | Refusal | Failure


class ProfileLookup(Lookup[str, UserProfile]):
    """Profiles of one config by user id. Refusals are cached by token, since a user may have several.

    Args:
        config: its API address, keys and cache settings are used.
    """

    def __init__(self, config: StackAuthConfig) -> None:
        super().__init__(
            config,
            "profile",
            config.users_me_url,
            read,
            ttl=config.profile_ttl,
            max_entries=config.profile_cache_size,
            max_bytes=config.profile_cache_bytes,
        )
        self.config = config

    def profile(
        self, user: User, token: str, digest: bytes, now: Clocks, *, fresh: bool = False
    ) -> Script[UserProfile]:
        """Return the profile of `user`, from the cache or from users/me.

        Args:
            user: of a token that passed the local check.
            token: that token.
            digest: its SHA-256.
            now: both clocks.
            fresh: whether to bypass the cache, as `Lookup.get` describes.

        Raises:
            RefusedError: Stack Auth refuses the token.
            AuthServerError: Stack Auth cannot be reached, or rejects our key.
        """

        def make_call() -> Call:
            return call(self.config, token)

        return self.get(user.user_id, make_call, now, credential=digest, until=user.expires_at, fresh=fresh)


def call(config: StackAuthConfig, token: str) -> Call:
    """Return the call that fetches the user of `token`, a token that passed the local check.

    It always allows anonymous and restricted users: the middleware itself decides about them, so that both modes
    agree (docs/stack-auth.md section 5).
    """
    if config.secret_server_key:
        headers = server_headers(config)
    else:
        access = {"x-stack-access-type": "client", "x-stack-publishable-client-key": config.publishable_client_key}
        headers = headers_of(config) | access
    headers |= {"x-stack-access-token": token, "x-stack-allow-anonymous-user": "true"}
    return Call("GET", config.users_me_url, headers)


def read(answer: Answer, key: str, clocks: Clocks) -> Reading:
    """Return the profile of the user with the id `key`, or why `answer` holds none.

    A `Reader` for `Lookup`.
    """
    body = read_object(answer, clocks, _TOKEN_REFUSED, "users/me")
    return body if isinstance(body, Refusal | Failure) else profile_of(body, key)


def profile_of(body: Mapping[str, Any], user_id: str) -> UserProfile | Failure:
    """Return the profile in the JSON object of a reply, or a failure if it is not that of the user."""
    if body.get("id") != user_id:
        return Failure(ErrorCode.SERVER_ERROR, "a 200 that is not the profile of this user", key_only=True)
    try:
        return profile_from_json(body)
    except ValueError:
        return Failure(ErrorCode.SERVER_ERROR, "a profile whose flags are no booleans", key_only=True)
    except RecursionError:
        return nested_too_deeply()
