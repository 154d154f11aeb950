"""Public value types: `UserType` and `User`.

Facts of Stack Auth (docs/stack-auth.md sections 3 and 5): the audience of a token gives the user type:
``<project>``, ``<project>:restricted`` or ``<project>:anon``. An anonymous user is also restricted, with the
reason ``anonymous``. The claim ``role`` is ``authenticated`` for all types, so it is not used.
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

__all__ = ["GUEST", "Permissions", "User", "UserProfile", "UserType", "project_of", "user_from_claims", "with_profile"]

_NO_CLAIMS = Sealed(b"{}")


class UserType(str, Enum):
    """Type of a Stack Auth user, by the audience of the token (docs/stack-auth.md section 3).

    All three types have a verified token. By default, only `NORMAL` is allowed.

    Attributes:
        NORMAL: a user who has signed in and meets all requirements of the project.
        RESTRICTED: a user who has signed in but not met a requirement, such as a verified email address.
        ANONYMOUS: a user without an account; a session made by the client.

    Example::

        if user.user_type is UserType.ANONYMOUS:
            return trial_page()
    """

    NORMAL = "normal"
    RESTRICTED = "restricted"
    ANONYMOUS = "anonymous"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True)
class User(Sealing):
    """The user of a verified token. Immutable, hashable, picklable; holds no credential.

    The fields are what an encoder sends when a handler returns a user. They hold only what Stack Auth shows to
    clients. Decoders cannot create a `User` from a request. A claim that the token lacks is None or False.

    With a `profile`, the values of the profile replace those of the token; where they disagree on
    `is_anonymous` or `is_restricted`, the stricter wins.

    Attributes:
        user_id: id in Stack Auth, a UUID as text (claim ``sub``).
        user_type: `UserType`, by the audience of the token.
        is_anonymous: whether the user has no account.
        is_restricted: whether the account is restricted. True for anonymous users.
        restricted_reason: such as ``"email_not_verified"`` or ``"anonymous"``, or None.
        email: primary address, or None.
        email_verified: whether the user has verified `email`.
        display_name: name chosen by the user, or None. Untrusted text.
        selected_team_id: id of the team that the user has selected, or None. Not a proof of membership.
        signed_up_at: seconds since the epoch, or None.
        session_id: id of the session (claim ``refresh_token_id``), or None.
        requires_totp_mfa: whether the account has a second factor; not whether this session used it.
        issued_at: time of issue, seconds since the epoch (claim ``iat``), or None.
        expires_at: time of expiry, seconds since the epoch (claim ``exp``).
        profile: the `UserProfile`, where ``mode`` or the rule loads it, or None.

    Not promised: that the session still exists, nor, in ``jwt`` mode, that the account does. A token outlives
    both until `expires_at` (docs/stack-auth.md section 10).

    Example::

        @app.get("/me")
        async def me(user: CurrentUser) -> dict[str, str]:
            return {"id": user.user_id, "name": user.display_name or ""}
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
        seal(self, _sealed, _NO_CLAIMS, is_typed=type(self.user_type) is UserType)

    @property
    def id(self) -> str:
        """Same as `user_id`."""
        return self.user_id

    @property
    def claims(self) -> Mapping[str, Any]:
        """All claims of the token, read-only. A new copy on each access; not a field, so encoders do not send it."""
        frozen: FrozenDict = freeze(json.loads(sealed_of(self)))
        return frozen

    @property
    def is_authenticated(self) -> bool:
        """True, as the user classes of Starlette and Django have it."""
        return True

    @property
    def identity(self) -> str:
        """Same as `user_id`, under the name that Starlette uses."""
        return self.user_id

    def to_dict(self, *, server_only: bool = False) -> dict[str, Any]:
        """Return the fields as JSON values in a new dict.

        Args:
            server_only: include the members of `profile` that Stack Auth does not show to clients. Do not send
                them to a browser.

        Example::

            return JSONResponse(user.to_dict())
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
    """Return the user that `dataclasses.asdict` returned `value` for, or None if a decoder made `value`."""
    if type(value.get("user_type")) is not UserType:  # decoders make strings
        return None
    profile = value["profile"]
    return User(**{**value, "profile": profile_from_asdict(profile) if profile else None})


def user_from_claims(claims: Mapping[str, Any], user_type: UserType, payload: bytes) -> User:
    """Return the user of verified claims.

    A claim that does not affect access is None or False if its type is wrong.

    Args:
        claims: verified claims.
        user_type: by the audience.
        payload: the JSON text of `claims`.
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
    """Return `user` with the values of `profile`, and the stricter flags of the two."""
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


def project_of(user: User) -> str:
    """Return the id of the project that issued the token of `user`, or "" for the owner of an API key."""
    audience = json.loads(sealed_of(user)).get("aud")
    return audience.partition(":")[0] if isinstance(audience, str) else ""


def _number(value: object) -> float | None:
    """Return a finite number, or None. JSON encoders reject infinity."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return value if -math.inf < value < math.inf else None


class Guest:
    """The user of an unauthenticated request, for code that reads ``request.user``: falsy, not authenticated."""

    __slots__ = ()
    is_authenticated = False
    display_name = ""
    identity = ""

    def __bool__(self) -> bool:
        return False


GUEST = Guest()


class Permissions(NamedTuple):
    """The value of ``request.auth``, which the ``requires`` decorator of Starlette reads."""

    scopes: list[str]
