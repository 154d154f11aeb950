"""Reads access tokens as the back end does. It shares no code with the verifier of this package, on purpose.

The back end verifies the signature, the issuer, the expiry, and then whether the claims agree with each other; if
they do not, it responds 500 (docs/stack-auth.md sections 2 and 6). It allows no clock skew.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import jwt
from jwt.exceptions import PyJWTError

from ._issuer import AUDIENCE_SUFFIXES, ISSUER_PATHS, Issuer
from ._responses import KnownError, server_fault

_SIGNATURE_ONLY = {
    "verify_signature": True,
    **{f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")},
}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TYPES_BY_SUFFIX = {suffix[1:]: user_type for user_type, suffix in AUDIENCE_SUFFIXES.items()}


class Seen(NamedTuple):
    """What the back end reads from a token."""

    project_id: str
    user_id: str
    session_id: str | None
    is_anonymous: bool
    is_restricted: bool
    restricted_reason: Any


def decode(token: str, issuer: Issuer, issuer_urls: Collection[str], now: float) -> Seen:
    """Read an access token.

    Args:
        token: the access token.
        issuer: holds the keys.
        issuer_urls: base URLs of the accepted issuers.
        now: seconds since the epoch.

    Raises:
        KnownError: the token is invalid or has expired.
        PlainError: its claims contradict each other.
    """
    claims, audience = _verified(token, issuer)
    project_id = audience.split(":")[0]
    if claims.get("iss") not in [url + path + project_id for url in issuer_urls for path in ISSUER_PATHS.values()]:
        raise KnownError("UNPARSABLE_ACCESS_TOKEN")
    for name in ("iat", "nbf", "exp"):
        if name in claims and not _is_number(claims[name]):
            raise KnownError("UNPARSABLE_ACCESS_TOKEN")
    # the back end compares whole seconds
    if claims.get("nbf", 0) > math.floor(now):
        raise KnownError("UNPARSABLE_ACCESS_TOKEN")
    if claims.get("exp", math.inf) <= math.floor(now):
        raise _expired(claims, project_id)
    return _consistent(claims, audience, project_id)


def _verified(token: str, issuer: Issuer) -> tuple[dict[str, Any], str]:
    """Return the claims and the audience of a token with a valid signature. The audience selects the keys."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        unverified: Any = json.loads(_unb64url(token.split(".")[1]))
        audience = unverified["aud"]
        project_id, _, suffix = audience.partition(":")
        keys = {key.kid: key for key in issuer.keys(project_id, _TYPES_BY_SUFFIX[suffix])}
        public = keys[str(kid)].private.public_key()
        claims: dict[str, Any] = jwt.decode(token, public, algorithms=["ES256"], options=_SIGNATURE_ONLY)  # type: ignore[arg-type]
    except (PyJWTError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise KnownError("UNPARSABLE_ACCESS_TOKEN") from None
    return claims, audience


def _expired(claims: Mapping[str, Any], project_id: str) -> KnownError:
    """Return the error with the details that the back end gives; an expiry that is not a date is a 500."""
    try:
        millis = int(claims["exp"] * 1000)
        return expired_at(
            millis, project_id, claims.get("sub"), claims.get("refresh_token_id", claims.get("refreshTokenId"))
        )
    except (OverflowError, ValueError):
        raise server_fault() from None


def expired_at(millis: int, project_id: str | None = None, user_id: Any = None, session_id: Any = None) -> KnownError:
    """Return the error for a token that expired at `millis`; without ids for a token that is missing."""
    moment = _EPOCH + timedelta(milliseconds=millis)
    details = {
        "expired_at_millis": millis,
        "project_id": project_id,
        "user_id": user_id,
        "refresh_token_id": session_id,
    }
    ids = f" Project ID: {project_id}. User ID: {user_id}. Refresh token ID: {session_id}." if project_id else ""
    text = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return KnownError("ACCESS_TOKEN_EXPIRED", details, expired_at=text, ids=ids)


def _consistent(claims: Mapping[str, Any], audience: str, project_id: str) -> Seen:
    """Return the content of the claims, in their current or older form, if they agree with each other."""
    anonymous = claims.get("is_anonymous")
    restricted = claims.get("is_restricted", anonymous)
    reason = claims.get("restricted_reason", {"type": "anonymous"} if anonymous else None)
    session_id = claims.get("refresh_token_id", claims.get("refreshTokenId"))
    user_id = claims.get("sub")
    agree = (
        isinstance(user_id, str)
        and isinstance(session_id, str | None)
        and isinstance(anonymous, bool)
        and isinstance(restricted, bool)
        and "exp" in claims
        and (restricted or not anonymous)
        and restricted is (reason is not None)
        and (reason is None or (isinstance(reason, dict) and "type" in reason))
        and audience.endswith(":anon") is anonymous
        and audience.endswith(":restricted") is (restricted and not anonymous)
        and claims.get("branch_id", claims.get("branchId")) == "main"
    )
    if not agree:
        raise server_fault()
    return Seen(project_id, str(user_id), session_id, bool(anonymous), bool(restricted), reason)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
