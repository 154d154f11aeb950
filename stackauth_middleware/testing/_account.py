"""A user as Stack Auth stores one, and as users/me reads it (docs/stack-auth.md section 5).

The restriction and its reason are computed at each read: anonymous users, users whose address is not verified yet,
and users restricted by an administrator are restricted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

from .._core.users import UserType

LONG_AGO_MILLIS = 1_735_689_600_000
"""Default sign-up time, in milliseconds since the epoch: the start of 2025."""

TEAM_CLIENT_FIELDS = ("client_read_only_metadata", "client_metadata", "profile_image_url", "display_name", "id")
_CLIENT_FIELDS = (
    "restricted_by_admin_reason",
    "restricted_by_admin",
    "restricted_reason",
    "is_restricted",
    "is_anonymous",
    "passkey_auth_enabled",
    "otp_auth_enabled",
    "requires_totp_mfa",
    "selected_team_id",
    "oauth_providers",
    "auth_with_email",
    "has_password",
    "signed_up_at_millis",
    "profile_image_url",
    "client_read_only_metadata",
    "client_metadata",
    "display_name",
    "primary_email_verified",
    "primary_email",
    "id",
    "selected_team",
)
_SERVER_FIELDS = (
    "id",
    "display_name",
    "primary_email",
    "primary_email_verified",
    "primary_email_auth_enabled",
    "profile_image_url",
    "signed_up_at_millis",
    "client_metadata",
    "client_read_only_metadata",
    "server_metadata",
    "has_password",
    "otp_auth_enabled",
    "auth_with_email",
    "requires_totp_mfa",
    "passkey_auth_enabled",
    "oauth_providers",
    "selected_team_id",
    "selected_team",
    "last_active_at_millis",
    "is_anonymous",
    "is_restricted",
    "restricted_reason",
    "restricted_by_admin",
    "restricted_by_admin_reason",
    "restricted_by_admin_private_details",
    "country_code",
    "risk_scores",
)


def _no_risk() -> dict[str, Any]:
    return {"sign_up": {"bot": 0, "free_trial_abuse": 0}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user as stored. Immutable: `Accounts.update` changes a user.

    Attributes:
        id: a UUID in lower case.
        must_verify_email: whether the user is restricted until the address is verified.
        selected_team: the team as a server reads it, or None.
        projects: the ids of the projects that the account exists in; None for all.

    Example::

        account = local.users.create(primary_email="ada@example.com", primary_email_verified=True)
        token = local.token(account)
    """

    id: str
    projects: frozenset[str] | None = None
    primary_email: str | None = None
    primary_email_verified: bool = False
    primary_email_auth_enabled: bool = False
    display_name: str | None = None
    profile_image_url: str | None = None
    signed_up_at_millis: int = LONG_AGO_MILLIS
    last_active_at_millis: int = LONG_AGO_MILLIS
    has_password: bool = False
    otp_auth_enabled: bool = False
    passkey_auth_enabled: bool = False
    requires_totp_mfa: bool = False
    oauth_providers: Sequence[Mapping[str, Any]] = ()
    client_metadata: Any = None
    client_read_only_metadata: Any = None
    server_metadata: Any = None
    selected_team: Mapping[str, Any] | None = None
    is_anonymous: bool = False
    must_verify_email: bool = False
    restricted_by_admin: bool = False
    restricted_by_admin_reason: str | None = None
    restricted_by_admin_private_details: str | None = None
    country_code: str | None = None
    risk_scores: Mapping[str, Any] = field(default_factory=_no_risk)

    def exists_in(self, project_id: str) -> bool:
        """Return whether the account exists in a project."""
        return self.projects is None or project_id in self.projects

    @property
    def restricted_reason(self) -> dict[str, str] | None:
        """Why the user is restricted, in the form of the API; None if the user is not restricted."""
        if self.is_anonymous:
            return {"type": "anonymous"}
        if self.must_verify_email and not self.primary_email_verified:
            return {"type": "email_not_verified"}
        return {"type": "restricted_by_administrator"} if self.restricted_by_admin else None

    @property
    def user_type(self) -> UserType:
        """The user type of the next token of this user."""
        if self.is_anonymous:
            return UserType.ANONYMOUS
        return UserType.RESTRICTED if self.restricted_reason else UserType.NORMAL

    @property
    def selected_team_id(self) -> str | None:
        """The id of the selected team; None if there is none."""
        return None if self.selected_team is None else str(self.selected_team["id"])

    def read(self, *, as_client: bool = False) -> dict[str, Any]:
        """Return the body of users/me, as a client or as a server reads it."""
        members: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        members["selected_team_id"] = self.selected_team_id
        members["auth_with_email"] = self.has_password or self.otp_auth_enabled
        members["restricted_reason"] = self.restricted_reason
        members["is_restricted"] = self.restricted_reason is not None
        members["oauth_providers"] = list(self.oauth_providers)
        if as_client and self.selected_team is not None:
            members["selected_team"] = {name: self.selected_team[name] for name in TEAM_CLIENT_FIELDS}
        return {name: members[name] for name in (_CLIENT_FIELDS if as_client else _SERVER_FIELDS)}


class AccountFields(TypedDict, total=False):
    """Arguments of `Accounts.create` and `Accounts.update`, explained at `Account`."""

    projects: frozenset[str] | None
    primary_email: str | None
    primary_email_verified: bool
    primary_email_auth_enabled: bool
    display_name: str | None
    profile_image_url: str | None
    signed_up_at_millis: int
    last_active_at_millis: int
    has_password: bool
    otp_auth_enabled: bool
    passkey_auth_enabled: bool
    requires_totp_mfa: bool
    oauth_providers: Sequence[Mapping[str, Any]]
    client_metadata: Any
    client_read_only_metadata: Any
    server_metadata: Any
    selected_team: Mapping[str, Any] | None
    is_anonymous: bool
    must_verify_email: bool
    restricted_by_admin: bool
    restricted_by_admin_reason: str | None
    restricted_by_admin_private_details: str | None
    country_code: str | None
    risk_scores: Mapping[str, Any]


def team(team_id: str, display_name: str = "Team") -> dict[str, Any]:
    """Return a team as a server reads it, for `Account.selected_team`.

    Example::

        local.users.create(selected_team=team("3d0a6c55-25a8-4b2e-9d4f-4f7d3a0c8f11", "Staff"))
    """
    return {
        "id": team_id,
        "display_name": display_name,
        "profile_image_url": None,
        "client_metadata": None,
        "client_read_only_metadata": None,
        "server_metadata": None,
        "created_at_millis": LONG_AGO_MILLIS,
    }
