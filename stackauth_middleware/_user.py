"""Who is there: the three user types of Stack Auth, and the values that a handler is given.

What Stack Auth sends (contract.md sections 1 and 3): the type of a user is told by the audience of
the token, ``<project>``, ``<project>:restricted`` or ``<project>:anon``; an anonymous user is always
restricted too, for the reason ``anonymous``; ``role`` says ``authenticated`` for all of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, NamedTuple

from ._frozen import FrozenDict, freeze, thaw


class UserType(str, Enum):
    """The three tiers of a Stack Auth user. All three are signed in; only `NORMAL` is by default let in."""

    NORMAL = "normal"
    RESTRICTED = "restricted"
    ANONYMOUS = "anonymous"

    __str__ = str.__str__


class _Payload:
    """Holds the claims beside the fields, so that no encoder of dataclasses ever sends them."""

    __slots__ = ("_payload",)
    _payload: bytes


@dataclass(frozen=True, slots=True)
class UserProfile:
    """A user as ``GET /api/v1/users/me`` tells it (contract.md section 3). Frozen in depth.

    What only the server read sends is None after a client read. Times are in milliseconds since
    the epoch, as Stack Auth sends them. `raw` holds the members that this release does not know.
    """

    id: str
    primary_email: str | None
    primary_email_verified: bool
    display_name: str | None
    profile_image_url: str | None
    signed_up_at_millis: int | None
    is_anonymous: bool
    is_restricted: bool
    restricted_reason: str | None
    restricted_by_admin: bool
    restricted_by_admin_reason: str | None
    has_password: bool
    otp_auth_enabled: bool
    passkey_auth_enabled: bool
    auth_with_email: bool
    requires_totp_mfa: bool
    client_metadata: Any
    client_read_only_metadata: Any
    selected_team_id: str | None
    selected_team: Mapping[str, Any] | None
    oauth_providers: tuple[Mapping[str, Any], ...]
    primary_email_auth_enabled: bool | None = None
    last_active_at_millis: int | None = None
    server_metadata: Any = None
    restricted_by_admin_private_details: str | None = None
    country_code: str | None = None
    risk_scores: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] = field(default_factory=FrozenDict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, which the caller owns."""
        return {each.name: thaw(getattr(self, each.name)) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class User(_Payload):
    """Who sent the request. A frozen, hashable, picklable value without any credential in it.

    Its fields are the whole of what an encoder sends when a handler returns it. Times are in
    seconds since the epoch. What a token of an older Stack Auth does not say is None or False.
    With a `profile`, `email`, `display_name` and the flags are the profile's, and where the token
    and the profile disagree about the flags the stricter holds.

    Not promised: that the session still exists, in any mode, or in ``jwt`` mode that the account
    does; a token outlives both until `expires_at` (contract.md section 8).
    """

    user_id: str
    user_type: UserType
    is_anonymous: bool
    is_restricted: bool
    restricted_reason: str | None
    email: str | None
    email_verified: bool
    display_name: str | None
    selected_team_id: str | None
    signed_up_at: float | None
    session_id: str | None
    requires_totp_mfa: bool
    issued_at: float | None
    expires_at: float
    profile: UserProfile | None = None

    @property
    def id(self) -> str:
        """The same as `user_id`."""
        return self.user_id

    @property
    def claims(self) -> Mapping[str, Any]:
        """Every claim of the token, read-only; a fresh copy at each reading. Not among the fields."""
        payload: bytes = getattr(self, "_payload", b"{}")
        frozen: FrozenDict = freeze(json.loads(payload))
        return frozen

    @property
    def is_authenticated(self) -> bool:
        """True, for code that asks Starlette's or Django's question."""
        return True

    @property
    def identity(self) -> str:
        """The same as `user_id`, under Starlette's name."""
        return self.user_id

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, which the caller owns."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        told["user_type"] = self.user_type.value
        told["profile"] = self.profile.to_dict() if self.profile else None
        return told

    def __reduce__(self) -> tuple[Any, ...]:
        values = tuple(getattr(self, each.name) for each in fields(self))
        return _rebuild, (values, getattr(self, "_payload", b"{}"))


def _rebuild(values: tuple[Any, ...], payload: bytes) -> User:
    user = User(*values)
    object.__setattr__(user, "_payload", payload)
    return user


def user_from_claims(claims: Mapping[str, Any], user_type: UserType, payload: bytes) -> User:
    """Make the user of verified `claims`; `payload` is the JSON text that they were read from.

    Members that only inform are None or False where their type is not what Stack Auth sends.
    """
    get = claims.get
    user = User(
        claims["sub"],
        user_type,
        user_type is UserType.ANONYMOUS,
        user_type is not UserType.NORMAL,
        _reason(get("restricted_reason")) or ("anonymous" if user_type is UserType.ANONYMOUS else None),
        _text(get("email")),
        get("email_verified") is True,
        _text(get("name")),
        _text(get("selected_team_id")),
        _number(get("signed_up_at")),
        _text(get("refresh_token_id", get("refreshTokenId"))),
        get("requires_totp_mfa") is True,
        _number(get("iat")),
        claims["exp"],
    )
    object.__setattr__(user, "_payload", payload)
    return user


_TEXTS = (
    "primary_email",
    "display_name",
    "profile_image_url",
    "restricted_by_admin_reason",
    "selected_team_id",
    "restricted_by_admin_private_details",
    "country_code",
)
_FLAGS = (
    "primary_email_verified",
    "is_anonymous",
    "is_restricted",
    "restricted_by_admin",
    "has_password",
    "otp_auth_enabled",
    "passkey_auth_enabled",
    "auth_with_email",
    "requires_totp_mfa",
)
_OBJECTS = ("client_metadata", "client_read_only_metadata", "server_metadata")
_KNOWN = frozenset(each.name for each in fields(UserProfile)) - {"raw"}


def profile_from_json(body: Mapping[str, Any]) -> UserProfile:
    """Make the profile of a users/me answer whose ``id`` is a string.

    Raises:
        ValueError: a flag that decides about access is not a boolean.
    """
    for name in ("is_anonymous", "is_restricted"):
        if not isinstance(body.get(name, False), bool):
            raise ValueError(f"{name} is not a boolean")
    team = body.get("selected_team")
    providers = body.get("oauth_providers")
    email_auth = body.get("primary_email_auth_enabled")
    risk = body.get("risk_scores")
    return UserProfile(
        id=body["id"],
        signed_up_at_millis=_whole(body.get("signed_up_at_millis")),
        last_active_at_millis=_whole(body.get("last_active_at_millis")),
        restricted_reason=_reason(body.get("restricted_reason")),
        selected_team=freeze(team) if isinstance(team, dict) else None,
        oauth_providers=freeze([each for each in providers if isinstance(each, dict)])
        if isinstance(providers, list)
        else (),
        primary_email_auth_enabled=email_auth if isinstance(email_auth, bool) else None,
        risk_scores=freeze(risk) if isinstance(risk, dict) else None,
        raw=FrozenDict({name: freeze(value) for name, value in body.items() if name not in _KNOWN}),
        **{name: _text(body.get(name)) for name in _TEXTS},  # type: ignore[arg-type]
        **{name: body.get(name) is True for name in _FLAGS},  # type: ignore[arg-type]
        **{name: freeze(body.get(name)) for name in _OBJECTS},
    )


def with_profile(user: User, profile: UserProfile) -> User:
    """Return `user` as `profile` tells it, with the stricter flags of the two."""
    anonymous = user.is_anonymous or profile.is_anonymous
    restricted = user.is_restricted or profile.is_restricted or anonymous
    user_type = UserType.ANONYMOUS if anonymous else UserType.RESTRICTED if restricted else UserType.NORMAL
    values = {each.name: getattr(user, each.name) for each in fields(user)}
    values.update(
        user_type=user_type,
        is_anonymous=anonymous,
        is_restricted=restricted,
        restricted_reason=profile.restricted_reason or user.restricted_reason,
        email=profile.primary_email,
        email_verified=profile.primary_email_verified,
        display_name=profile.display_name,
        selected_team_id=profile.selected_team_id,
        requires_totp_mfa=profile.requires_totp_mfa,
        profile=profile,
    )
    return _rebuild(tuple(values.values()), getattr(user, "_payload", b"{}"))


def _text(value: object) -> str | None:
    """Return a string that every encoder can write: lone surrogates, legal in JSON, are replaced."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return value if -math.inf < value < math.inf else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _reason(value: object) -> str | None:
    """Read Stack Auth's ``{"type": "…"}``."""
    return _text(value.get("type")) if isinstance(value, dict) else None


class Guest:
    """Nobody, in the form that Starlette and Django code asks: falsy, and not authenticated."""

    __slots__ = ()
    is_authenticated = False
    display_name = ""
    identity = ""

    def __bool__(self) -> bool:
        return False


GUEST = Guest()


class Permissions(NamedTuple):
    """What Starlette's ``requires`` looks at in ``request.auth``."""

    scopes: list[str]
