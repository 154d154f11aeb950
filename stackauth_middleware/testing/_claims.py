"""Claims of the tokens: the full set of a real token, and overrides.

Names, order, issuers and audiences are those of docs/stack-auth.md sections 2 and 3.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from .._core.users import UserType
from ._account import LONG_AGO_MILLIS, Account, team
from ._accounts import Accounts
from ._issuer import AUDIENCE_SUFFIXES, ISSUER_PATHS
from ._projects import EVERY

LIFETIME = 600
"""Default lifetime of a token, in seconds."""


class Omit:
    """The type of `OMIT`."""

    def __repr__(self) -> str:
        return "OMIT"


OMIT: Final = Omit()
"""Value of a claim or header parameter that is to be left out."""

_DEFAULTS = {
    UserType.NORMAL: Account(
        id="11111111-1111-4111-8111-111111111111",
        primary_email="jane@example.com",
        primary_email_verified=True,
        primary_email_auth_enabled=True,
        has_password=True,
        display_name="Jane Doe",
    ),
    UserType.RESTRICTED: Account(
        id="22222222-2222-4222-8222-222222222222",
        primary_email="john@example.com",
        primary_email_auth_enabled=True,
        has_password=True,
        must_verify_email=True,
        display_name="John Doe",
    ),
    UserType.ANONYMOUS: Account(id="33333333-3333-4333-8333-333333333333", is_anonymous=True),
}


def default_account(user_type: UserType) -> Account:
    """Return the default user of a user type, for tokens that name no user."""
    return _DEFAULTS[user_type]


def subject_of(
    accounts: Accounts, user: Account | str | None, user_type: UserType | str | None, claims: Mapping[str, Any]
) -> tuple[Account, UserType]:
    """Return the user and the user type of a token. The arguments are those of `LocalStackAuth.token`.

    Raises:
        KeyError: `user` is an id without an account.
        ValueError: there is no such user type.
    """
    subject = claims.get("sub")
    account = accounts.get(user) if isinstance(user, str) else user
    if isinstance(user, str) and account is None:
        raise KeyError(user)
    if account is None and isinstance(subject, str):
        account = accounts.explicit(subject)
    user_type = None if user_type is None else UserType(user_type)
    kind = user_type or _type_of(claims, account)
    if account is not None:
        return account, kind
    usual = default_account(kind)
    if isinstance(subject, str):
        return replace(usual, id=subject), kind
    explicit = accounts.explicit(usual.id)
    return (usual, kind) if explicit is None else (explicit, user_type or _type_of(claims, explicit))


def _type_of(claims: Mapping[str, Any], account: Account | None) -> UserType:
    """Return the user type of the given flags; else that of the account; else normal."""
    if claims.get("is_anonymous") is True:
        return UserType.ANONYMOUS
    if claims.get("is_restricted") is True:
        return UserType.RESTRICTED
    default = UserType.NORMAL if account is None else account.user_type
    denied = claims.get("is_restricted") is False or (
        claims.get("is_anonymous") is False and default is UserType.ANONYMOUS
    )
    return UserType.NORMAL if denied else default


def full_claims(  # in the order in which the real server writes them
    account: Account,
    user_type: UserType,
    *,
    project_id: str,
    issuer_url: str,
    session_id: str | None,
    now: float,
    expires_in: float,
) -> dict[str, Any]:
    """Return all claims of a token for `account`.

    Args:
        account: the user.
        user_type: decides issuer, audience and flags, even if the account has another type.
        project_id: the project.
        issuer_url: base URL of the issuer, without a trailing slash.
        session_id: the claim ``refresh_token_id``; None for one derived from the user id.
        now: seconds since the epoch.
        expires_in: seconds from now to the expiry; if negative, the token was issued `LIFETIME` before its expiry.
    """
    expires_at = math.floor(now) + math.floor(expires_in)
    anonymous = user_type is UserType.ANONYMOUS
    return {
        "sub": account.id,
        "project_id": project_id,
        "branch_id": "main",
        "refresh_token_id": session_id or str(uuid.uuid5(uuid.NAMESPACE_URL, account.id)),
        "role": "authenticated",
        "name": None if anonymous else account.display_name,
        "email": None if anonymous else account.primary_email,
        "email_verified": not anonymous and account.primary_email_verified,
        "selected_team_id": account.selected_team_id,
        "signed_up_at": account.signed_up_at_millis // 1000,
        "is_anonymous": anonymous,
        "is_restricted": user_type is not UserType.NORMAL,
        "restricted_reason": _reason(account, user_type),
        "requires_totp_mfa": account.requires_totp_mfa,
        "iss": issuer_url + ISSUER_PATHS[user_type] + project_id,
        "iat": math.floor(now) if expires_in > 0 else expires_at - LIFETIME,
        "aud": project_id + AUDIENCE_SUFFIXES[user_type],
        "exp": expires_at,
    }


def _reason(account: Account, user_type: UserType) -> dict[str, str] | None:
    if user_type is UserType.NORMAL:
        return None
    if user_type is UserType.ANONYMOUS:
        return {"type": "anonymous"}
    if account.user_type is UserType.RESTRICTED:
        return account.restricted_reason
    return {"type": "restricted_by_administrator" if account.primary_email_verified else "email_not_verified"}


def overridden(members: Mapping[str, Any], by: Mapping[str, Any]) -> dict[str, Any]:
    """Return `members` updated by `by`, without those whose value is `OMIT`."""
    return {name: value for name, value in {**members, **by}.items() if not isinstance(value, Omit)}


def account_from_claims(claims: Mapping[str, Any], project_id: str) -> Account | None:
    """Return the account of a project that these claims describe; None if they have no subject."""
    user_id = claims.get("sub")
    if not isinstance(user_id, str) or not user_id:
        return None
    reason = claims.get("restricted_reason")
    reason_type = reason.get("type") if isinstance(reason, dict) else None
    anonymous = claims.get("is_anonymous") is True
    team_id = claims.get("selected_team_id")
    millis = _millis(claims.get("signed_up_at"))
    return Account(
        id=user_id,
        projects=None if project_id == EVERY else frozenset({project_id}),
        primary_email=_text(claims.get("email")),
        primary_email_verified=claims.get("email_verified") is True,
        primary_email_auth_enabled=not anonymous,
        has_password=not anonymous,
        display_name=_text(claims.get("name")),
        signed_up_at_millis=millis,
        last_active_at_millis=millis,
        requires_totp_mfa=claims.get("requires_totp_mfa") is True,
        selected_team=team(team_id) if isinstance(team_id, str) else None,
        is_anonymous=anonymous,
        must_verify_email=reason_type == "email_not_verified",
        restricted_by_admin=reason_type == "restricted_by_administrator",
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _millis(seconds: object) -> int:
    return int(seconds * 1000) if isinstance(seconds, int | float) and math.isfinite(seconds) else LONG_AGO_MILLIS
