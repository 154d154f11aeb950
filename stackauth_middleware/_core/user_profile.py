"""The profile that users/me sends, in two parts: for clients, and for servers only (contract.md section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field, fields
from typing import Any

from .frozen import FrozenDict, freeze, thaw
from .sealed import Sealed, Sealing, conceal, pydantic_schema, rebuild, seal, sealed_of, state_of

_NO_MEMBERS = Sealed(FrozenDict())

_SERVER_ONLY = (
    "primary_email_auth_enabled",
    "last_active_at_millis",
    "server_metadata",
    "restricted_by_admin_private_details",
    "country_code",
    "risk_scores",
    "selected_team",
    "oauth_providers",
    "raw",
)
"""What is sealed in a profile: what the client read lacks, objects that it shows in part, and what is unknown."""


@dataclass(frozen=True, slots=True)
class UserProfile(Sealing):
    """A user as ``GET /api/v1/users/me`` describes it (contract.md section 3). Frozen in depth.

    The fields are what Stack Auth shows to clients, and all that an encoder or a repr finds. What only
    the server read sends is in the properties; None after a client read. Times are in milliseconds
    since the epoch, as Stack Auth sends them.
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
    _sealed: InitVar[Sealed | None] = field(default=_NO_MEMBERS, kw_only=True)

    def __post_init__(self, _sealed: Sealed | None = None) -> None:  # noqa: RUF033 - decoders pass nothing
        seal(self, _sealed)

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> UserProfile:
        """Return the profile that a users/me answer describes; in tests, one with server-only data.

        Args:
            body: the JSON object. Its ``id`` is a string; every other member may be missing.

        Raises:
            ValueError: ``is_anonymous`` or ``is_restricted`` is not a boolean.
        """
        return profile_from_json(body)

    @property
    def server_only(self) -> Mapping[str, Any]:
        """What is not for clients, by name; with the team and the OAuth providers as the server read sends them."""
        members: Mapping[str, Any] = sealed_of(self)
        return members

    @property
    def primary_email_auth_enabled(self) -> bool | None:
        """Whether the primary address may be used to sign in. Server-only."""
        return self.server_only.get("primary_email_auth_enabled")

    @property
    def last_active_at_millis(self) -> int | None:
        """When the user was last seen. Server-only."""
        return self.server_only.get("last_active_at_millis")

    @property
    def server_metadata(self) -> Any:
        """What servers keep about the user. Server-only."""
        return self.server_only.get("server_metadata")

    @property
    def restricted_by_admin_private_details(self) -> str | None:
        """What an administrator noted about the restriction. Server-only."""
        return self.server_only.get("restricted_by_admin_private_details")

    @property
    def country_code(self) -> str | None:
        """ISO 3166 code of the country that the user signed up from. Server-only."""
        return self.server_only.get("country_code")

    @property
    def risk_scores(self) -> Mapping[str, Any] | None:
        """How likely the account is abusive. Server-only."""
        return self.server_only.get("risk_scores")

    @property
    def raw(self) -> Mapping[str, Any]:
        """The members that this release does not know. They may be server-only, so they are treated as such."""
        return self.server_only.get("raw", _NO_MEMBERS.value)  # type: ignore[no-any-return]

    def to_dict(self, *, server_only: bool = False) -> dict[str, Any]:
        """Return the fields as plain JSON values, which the caller owns.

        Args:
            server_only: also what Stack Auth does not show to clients. Not for an answer to a browser.
        """
        members = {each.name: thaw(getattr(self, each.name)) for each in fields(self)}
        if server_only:
            members |= {name: thaw(getattr(self, name)) for name in _SERVER_ONLY} | thaw(self.server_only)
        return members

    def __eq__(self, other: object) -> bool:
        return state_of(self) == state_of(other) if isinstance(other, UserProfile) else NotImplemented

    def __hash__(self) -> int:
        return hash(state_of(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (UserProfile, *state_of(self))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic_schema(cls, source, handler, profile_from_asdict)


conceal(UserProfile)


def profile_from_asdict(value: dict[str, Any]) -> UserProfile | None:
    """Return the profile that `dataclasses.asdict` returned `value` for; None where a decoder made `value`."""
    if type(value.get("oauth_providers")) is not tuple:  # decoders make lists
        return None
    return UserProfile(**value)


_TEXTS = (
    "primary_email",
    "display_name",
    "profile_image_url",
    "restricted_by_admin_reason",
    "selected_team_id",
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
_TEAM = ("id", "display_name", "profile_image_url", "client_metadata", "client_read_only_metadata")
_PROVIDER = ("id", "account_id", "email")
"""The members of the selected team and of an OAuth provider in the client read."""
_KNOWN = {each.name for each in fields(UserProfile)} | {*_SERVER_ONLY} - {"raw"}


def profile_from_json(body: Mapping[str, Any]) -> UserProfile:
    """Make the profile of a users/me answer whose ``id`` is a string.

    Raises:
        ValueError: a flag that decides about access is not a boolean.
    """
    for name in ("is_anonymous", "is_restricted"):
        if not isinstance(body.get(name, False), bool):
            raise ValueError(f"{name} is not a boolean")
    team = body.get("selected_team")
    team = freeze(team) if isinstance(team, dict) else None
    providers = body.get("oauth_providers")
    providers = freeze([each for each in providers if isinstance(each, dict)]) if isinstance(providers, list) else ()
    return UserProfile(
        id=body["id"],
        signed_up_at_millis=_whole(body.get("signed_up_at_millis")),
        restricted_reason=reason(body.get("restricted_reason")),
        client_metadata=freeze(body.get("client_metadata")),
        client_read_only_metadata=freeze(body.get("client_read_only_metadata")),
        selected_team=_some(team, _TEAM) if team is not None else None,
        oauth_providers=tuple(_some(each, _PROVIDER) for each in providers),
        _sealed=Sealed(_server_only(body, team, providers)),
        **{name: text(body.get(name)) for name in _TEXTS},  # type: ignore[arg-type]
        **{name: body.get(name) is True for name in _FLAGS},  # type: ignore[arg-type]
    )


def _server_only(body: Mapping[str, Any], team: object, providers: object) -> FrozenDict:
    email_auth, risk = body.get("primary_email_auth_enabled"), body.get("risk_scores")
    members = {
        "primary_email_auth_enabled": email_auth if isinstance(email_auth, bool) else None,
        "last_active_at_millis": _whole(body.get("last_active_at_millis")),
        "server_metadata": freeze(body.get("server_metadata")),
        "restricted_by_admin_private_details": text(body.get("restricted_by_admin_private_details")),
        "country_code": text(body.get("country_code")),
        "risk_scores": freeze(risk) if isinstance(risk, dict) else None,
        "selected_team": team,
        "oauth_providers": providers,
        "raw": FrozenDict({name: freeze(value) for name, value in body.items() if name not in _KNOWN}),
    }
    return FrozenDict(members)


def _some(value: Mapping[str, Any], names: tuple[str, ...]) -> FrozenDict:
    return FrozenDict({name: value[name] for name in names if name in value})


def text(value: object) -> str | None:
    """Return a string that every encoder can write: lone surrogates, legal in JSON, are replaced."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def reason(value: object) -> str | None:
    """Read Stack Auth's ``{"type": "…"}``."""
    return text(value.get("type")) if isinstance(value, dict) else None
