"""Who is there: the three user types of Stack Auth, and the values that a handler is given.

What Stack Auth sends (contract.md sections 1 and 3): the type of a user is told by the audience of
the token, ``<project>``, ``<project>:restricted`` or ``<project>:anon``; an anonymous user is always
restricted too, for the reason ``anonymous``; ``role`` says ``authenticated`` for all of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field, fields, replace
from enum import Enum
from typing import Any, NamedTuple

from .frozen import FrozenDict, freeze
from .sealed import Sealed, Sealing, conceal, pydantic_schema, rebuild, seal, sealed_of, state_of
from .user_profile import UserProfile, profile_from_asdict, reason, text

__all__ = ["GUEST", "Permissions", "User", "UserProfile", "UserType", "user_from_claims", "with_profile"]

_NO_CLAIMS = Sealed(b"{}")


class UserType(str, Enum):
    """The three tiers of a Stack Auth user. All three are signed in; only `NORMAL` is by default let in."""

    NORMAL = "normal"
    RESTRICTED = "restricted"
    ANONYMOUS = "anonymous"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True)
class User(Sealing):
    """Who sent the request. A frozen, hashable, picklable value without any credential in it.

    Its fields are the whole of what an encoder sends when a handler returns it, and hold only what Stack
    Auth shows to clients. No decoder makes a User: it comes from a verified token. Times are in seconds
    since the epoch. What a token of an older Stack Auth does not say is None or False.
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
    _sealed: InitVar[Sealed | None] = field(default=_NO_CLAIMS, kw_only=True)

    def __post_init__(self, _sealed: Sealed | None = None) -> None:  # noqa: RUF033 - decoders pass nothing
        seal(self, _sealed)

    @property
    def id(self) -> str:
        """The same as `user_id`."""
        return self.user_id

    @property
    def claims(self) -> Mapping[str, Any]:
        """Every claim of the token, read-only; a fresh copy at each reading. Not among the fields."""
        frozen: FrozenDict = freeze(json.loads(sealed_of(self)))
        return frozen

    @property
    def is_authenticated(self) -> bool:
        """True, for code that asks Starlette's or Django's question."""
        return True

    @property
    def identity(self) -> str:
        """The same as `user_id`, under Starlette's name."""
        return self.user_id

    def to_dict(self, *, server_only: bool = False) -> dict[str, Any]:
        """Return the fields as plain JSON values, which the caller owns.

        Args:
            server_only: also what Stack Auth does not show to clients of the `profile`.
        """
        members = {each.name: getattr(self, each.name) for each in fields(self)}
        members["user_type"] = self.user_type.value
        members["profile"] = self.profile.to_dict(server_only=server_only) if self.profile else None
        return members

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (User, *state_of(self))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic_schema(cls, source, handler, _user_from_asdict)


conceal(User)


def _user_from_asdict(value: dict[str, Any]) -> User | None:
    if type(value.get("user_type")) is not UserType:  # decoders make text
        return None
    profile = value["profile"]
    return User(**{**value, "profile": profile_from_asdict(profile) if profile else None})


def user_from_claims(claims: Mapping[str, Any], user_type: UserType, payload: bytes) -> User:
    """Make the user of verified `claims`; `payload` is the JSON text that they were read from.

    Members that only inform are None or False where their type is not what Stack Auth sends.
    """
    get = claims.get
    return User(
        claims["sub"],
        user_type,
        user_type is UserType.ANONYMOUS,
        user_type is not UserType.NORMAL,
        reason(get("restricted_reason")) or ("anonymous" if user_type is UserType.ANONYMOUS else None),
        text(get("email")),
        get("email_verified") is True,
        text(get("name")),
        text(get("selected_team_id")),
        _number(get("signed_up_at")),
        text(get("refresh_token_id", get("refreshTokenId"))),
        get("requires_totp_mfa") is True,
        _number(get("iat")),
        claims["exp"],
        _sealed=Sealed(payload),
    )


def with_profile(user: User, profile: UserProfile) -> User:
    """Return `user` as `profile` tells it, with the stricter flags of the two."""
    anonymous = user.is_anonymous or profile.is_anonymous
    restricted = user.is_restricted or profile.is_restricted or anonymous
    user_type = UserType.ANONYMOUS if anonymous else UserType.RESTRICTED if restricted else UserType.NORMAL
    return replace(
        user,
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


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return value if -math.inf < value < math.inf else None


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
