"""`UserProfile`: a users/me response, split into client and server-only members (docs/stack-auth.md section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field, fields
from typing import Annotated, Any

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
"""Sealed members: those that clients do not get, objects of which they get a part, and unknown members."""


@dataclass(frozen=True, slots=True)
class UserProfile(Sealing):
    """A user as ``GET /api/v1/users/me`` returns it (docs/stack-auth.md section 5). Deeply immutable, hashable.

    The fields are what Stack Auth shows to clients; encoders and `repr` see nothing else. Server-only members are
    properties. They are None if no ``secret_server_key`` is set.

    Attributes:
        id: id of the user, a UUID as text.
        primary_email: address, or None.
        primary_email_verified: whether the user has verified it.
        display_name: name chosen by the user, or None. Untrusted text.
        profile_image_url: address chosen by the user, or None. Untrusted text.
        signed_up_at_millis: milliseconds since the epoch, or None.
        is_anonymous: whether the user has no account.
        is_restricted: whether the account is restricted.
        restricted_reason: such as ``"email_not_verified"``, or None.
        restricted_by_admin: whether an administrator has restricted the account.
        restricted_by_admin_reason: text of the administrator for the user, or None.
        has_password: whether the user can sign in with a password.
        otp_auth_enabled: whether the user can sign in with a one-time code.
        passkey_auth_enabled: whether the user can sign in with a passkey.
        auth_with_email: whether the user can sign in by email.
        requires_totp_mfa: whether the account has a second factor.
        client_metadata: JSON value that the user can write. Untrusted.
        client_read_only_metadata: JSON value that the user can read and servers can write.
        selected_team_id: id of the selected team, or None.
        selected_team: members of the selected team that clients get, or None.
        oauth_providers: members of the linked accounts that clients get.

    Not promised: that it is newer than ``profile_ttl`` seconds.

    Example::

        profile = load_profile(request)
        plan = (profile.client_read_only_metadata or {}).get("plan", "free")
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
        seal(self, _sealed, _NO_MEMBERS, is_typed=type(self.oauth_providers) is tuple)

    @staticmethod
    def from_json(body: Annotated[Mapping[str, Any], Sealed]) -> UserProfile:
        """Return the profile of a users/me response. For tests of an app.

        Args:
            body: the JSON object. Its ``id`` is a string; other members may be missing. FastAPI refuses to read it from
                a request.

        Raises:
            ValueError: ``is_anonymous`` or ``is_restricted`` is not a boolean.

        Example::

            profile = UserProfile.from_json({"id": "1", "server_metadata": {"plan": "pro"}})
        """
        return profile_from_json(body)

    @property
    def server_only(self) -> Mapping[str, Any]:
        """Server-only members by name, with the team and the OAuth providers as servers get them."""
        members: Mapping[str, Any] = sealed_of(self)
        return members

    @property
    def primary_email_auth_enabled(self) -> bool | None:
        """Whether the primary address can be used to sign in. Server-only."""
        return self.server_only.get("primary_email_auth_enabled")

    @property
    def last_active_at_millis(self) -> int | None:
        """Time of the last activity, milliseconds since the epoch, or None. Server-only."""
        return self.server_only.get("last_active_at_millis")

    @property
    def server_metadata(self) -> Any:
        """JSON value that only servers can read and write. Server-only."""
        return self.server_only.get("server_metadata")

    @property
    def restricted_by_admin_private_details(self) -> str | None:
        """Internal note of the administrator on the restriction, or None. Server-only."""
        return self.server_only.get("restricted_by_admin_private_details")

    @property
    def country_code(self) -> str | None:
        """ISO 3166 code of the country of sign-up, or None. Server-only."""
        return self.server_only.get("country_code")

    @property
    def risk_scores(self) -> Mapping[str, Any] | None:
        """Scores for the risk of abuse, or None. Server-only."""
        return self.server_only.get("risk_scores")

    @property
    def raw(self) -> Mapping[str, Any]:
        """Members unknown to this release. They can be server-only, so they are treated as such."""
        return self.server_only.get("raw", _NO_MEMBERS.value)  # type: ignore[no-any-return]

    def to_dict(self, *, server_only: bool = False) -> dict[str, Any]:
        """Return the fields as JSON values in a new dict.

        Args:
            server_only: include the members that Stack Auth does not show to clients. Do not send them to a browser.
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
    """Return the profile that `dataclasses.asdict` returned `value` for, or None if a decoder made `value`."""
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
"""Members of the selected team, and of an OAuth provider, that clients get."""
_KNOWN = {each.name for each in fields(UserProfile)} | {*_SERVER_ONLY} - {"raw"}


def profile_from_json(body: Mapping[str, Any]) -> UserProfile:
    """Return the profile of a users/me response whose ``id`` is a string.

    Raises:
        ValueError: ``is_anonymous`` or ``is_restricted`` is not a boolean.
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
        selected_team=_select(team, _TEAM) if team is not None else None,
        oauth_providers=tuple(_select(each, _PROVIDER) for each in providers),
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


def _select(value: Mapping[str, Any], names: tuple[str, ...]) -> FrozenDict:
    return FrozenDict({name: value[name] for name in names if name in value})


def text(value: object) -> str | None:
    """Return `value` if it is a string, else None. Lone surrogates, which encoders reject, become ``?``."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def reason(value: object) -> str | None:
    """Return the reason in ``{"type": "..."}``, the form in which Stack Auth sends it, or None."""
    return text(value.get("type")) if isinstance(value, dict) else None
