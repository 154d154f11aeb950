"""User profiles: the call to users/me, the reader of its reply, and the lookup that caches profiles.

The reader decides by the ``code`` in the body of a reply, and by the status only if there is none
(docs/stack-auth.md section 6). The status alone is ambiguous: a deleted user is a 400, our wrong secret key is a 401
like a client's bad token, and an unusual token is a 500.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from .._version import __version__
from ..errors import ErrorCode
from .api import MISCONFIGURED
from .config import StackAuthConfig
from .lookup import Lookup, parts_of
from .records import Clocks
from .upstream import Answer, Call, Failure, NoReply, NoReplyKind, Refusal, Reply, Script
from .user_profile import UserProfile, profile_from_json
from .users import User

MAX_BYTES = 1024 * 1024
"""Bytes of a reply."""
MAX_PARTS = 32 * 1024
"""Number of commas, lists and objects in a profile, a cheap bound on parsing cost: metadata is user-controlled."""
MAX_REASON = 128
"""Characters of a restriction reason; longer ones are dropped, since thousands of refusals may be cached."""

_TOKEN_REFUSED = {
    "UNPARSABLE_ACCESS_TOKEN": ErrorCode.INVALID_TOKEN,
    "ACCESS_TOKEN_EXPIRED": ErrorCode.EXPIRED_TOKEN,
    "INVALID_PROJECT_FOR_ACCESS_TOKEN": ErrorCode.INVALID_TOKEN,
    "CANNOT_GET_OWN_USER_WITHOUT_USER": ErrorCode.INVALID_TOKEN,  # the account was deleted
    "ANONYMOUS_AUTHENTICATION_NOT_ALLOWED": ErrorCode.ANONYMOUS_NOT_ALLOWED,
    "RESTRICTED_USER_NOT_ALLOWED": ErrorCode.RESTRICTED_NOT_ALLOWED,
}
_MISCONFIGURED = MISCONFIGURED | {"INSUFFICIENT_ACCESS_TYPE", "SCHEMA_ERROR"}


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
            digest: of that token.
            now: both clocks.
            fresh: whether to bypass the cache, as `Lookup.get` describes.

        Raises:
            RefusedError: Stack Auth refuses the token.
            AuthServerError: Stack Auth cannot be reached, or rejects our key.
        """

        def make_call() -> Call:
            return call(self.config, token, __version__)

        return self.get(user.user_id, make_call, now, credential=digest, until=user.expires_at, fresh=fresh)


def call(config: StackAuthConfig, token: str, version: str) -> Call:
    """Return the call that fetches the user of `token`, a token that passed the local check.

    It always allows anonymous and restricted users: the middleware itself decides about them, so that both modes
    agree (docs/stack-auth.md section 5).
    """
    if config.secret_server_key:
        access = {"x-stack-access-type": "server", "x-stack-secret-server-key": config.secret_server_key}
    else:
        access = {"x-stack-access-type": "client", "x-stack-publishable-client-key": config.publishable_client_key}
    headers = {
        "accept": "application/json",
        "x-stack-project-id": config.project_id,
        "x-stack-access-token": token,
        "x-stack-allow-anonymous-user": "true",
        "x-stack-client-version": f"python @stackauth/middleware@{version}",
        **access,
    }
    return Call("GET", config.users_me_url, headers, max_bytes=MAX_BYTES)


def read(answer: Answer, key: str, clocks: Clocks) -> Reading:
    """Return the profile of the user with the id `key`, or why `answer` holds none.

    A `Reader` for `Lookup`.
    """
    if isinstance(answer, NoReply) and answer.kind is NoReplyKind.TOO_LARGE:
        return _too_large(answer.reason)
    if not isinstance(answer, Reply):
        return Failure(ErrorCode.SERVER_ERROR, str(answer))
    status, body = answer.meant_status, _object(answer.body)
    if isinstance(body, Failure):
        if status == 200:
            return body
        body = {}
    code = body.get("code")
    if isinstance(code, str) and (code in _TOKEN_REFUSED or code in _MISCONFIGURED):
        return _by_code(code, body)
    if status == 200:
        return _by_body(body, key)
    retry_after = answer.retry_after(clocks.wall)
    # A 5xx, or a code that we do not know, may concern this user alone; a Retry-After concerns the whole project.
    key_only = (status >= 500 or isinstance(code, str)) and not retry_after
    return Failure(ErrorCode.SERVER_ERROR, f"status {status}", retry_after, key_only=key_only)


def _too_large(detail: str) -> Failure:
    return Failure(ErrorCode.SERVER_ERROR, detail, key_only=True, too_large=True)


def _object(body: bytes) -> Mapping[str, Any] | Failure:
    """Return the JSON object in `body`, an empty one if it holds none, or a failure if it is too large to parse."""
    if parts_of(body) > MAX_PARTS:
        return _too_large("a profile of too many parts")
    try:
        value = json.loads(body.decode("utf-8"))
    except ValueError:
        return {}
    except RecursionError:
        return _too_large("a profile nested too deeply")
    return value if isinstance(value, dict) else {}


def _by_code(code: str, body: Mapping[str, Any]) -> Refusal | Failure:
    if code in _MISCONFIGURED:
        return Failure(ErrorCode.MISCONFIGURED, f"users/me says {code}")
    details = body.get("details")
    reason = details.get("restricted_reason") if isinstance(details, dict) else None
    kind = reason.get("type") if isinstance(reason, dict) else None
    known = isinstance(kind, str) and len(kind) <= MAX_REASON
    return Refusal(_TOKEN_REFUSED[code], f"users/me says {code}", kind if known else None)


def _by_body(body: Mapping[str, Any], user_id: str) -> UserProfile | Failure:
    if body.get("id") != user_id:
        return Failure(ErrorCode.SERVER_ERROR, "a 200 that is not the profile of this user", key_only=True)
    try:
        return profile_from_json(body)
    except ValueError:
        return Failure(ErrorCode.SERVER_ERROR, "a profile whose flags are no booleans", key_only=True)
    except RecursionError:
        return _too_large("a profile nested too deeply")
