"""The endpoints of users: the user of the token, a user by id, and the list with pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .._account import Account
from .._context import SERVER, Context, endpoint
from .._request import schema_error
from .._responses import KnownError, PlainError, Response
from .._schema import Field, anything, boolean, email, one_of, positive, text, uuid, uuid_or_me
from .._teams import Team

_FLAG = Field(one_of("true", "false"))
_LIST = {
    "team_id": Field(uuid),
    "limit": Field(positive),
    "cursor": Field(uuid),
    "order_by": Field(one_of("signed_up_at")),
    "desc": _FLAG,
    "query": Field(text),
    "include_anonymous": _FLAG,
    "only_anonymous": _FLAG,
    "include_restricted": _FLAG,
}
_OPTIONAL_TEXT = Field(text, nullable=True)
_JSON = Field(anything, nullable=True)
_CLIENT_UPDATE = {
    "display_name": _OPTIONAL_TEXT,
    "profile_image_url": _OPTIONAL_TEXT,
    "client_metadata": _JSON,
    "selected_team_id": Field(uuid, nullable=True),
    "totp_secret_base64": _OPTIONAL_TEXT,
    "otp_auth_enabled": Field(boolean),
    "passkey_auth_enabled": Field(boolean),
    "primary_email": Field(email, nullable=True),
}
_UPDATE = {
    **_CLIENT_UPDATE,
    "client_read_only_metadata": _JSON,
    "server_metadata": _JSON,
    "primary_email_verified": Field(boolean),
    "primary_email_auth_enabled": Field(boolean),
    "password": _OPTIONAL_TEXT,
    "password_hash": Field(text),
    "is_anonymous": Field(boolean),
    "restricted_by_admin": Field(boolean),
    "restricted_by_admin_reason": _OPTIONAL_TEXT,
    "restricted_by_admin_private_details": _OPTIONAL_TEXT,
    "country_code": _OPTIONAL_TEXT,
    "risk_scores": Field(anything),
}
_CREATE = {
    **{name: field for name, field in _UPDATE.items() if name != "selected_team_id"},
    "oauth_providers": Field(anything),
}
_CLEARED = {
    "restricted_by_admin": False,
    "restricted_by_admin_reason": None,
    "restricted_by_admin_private_details": None,
}
_STORED_AS = {"totp_secret_base64": "requires_totp_mfa", "password": "has_password", "password_hash": "has_password"}


def read_own(context: Context) -> Response:
    context.read(query={})
    return context.json(context.access.own_account.read(as_client=context.as_client))


def update_own(context: Context) -> Response:
    values = context.read(query={}, body=_CLIENT_UPDATE if context.as_client else _UPDATE)
    return _updated(context, context.access.own_account, values)


def delete_own(context: Context) -> Response:
    context.read(query={})
    if context.as_client and not context.access.project.client_user_deletion:
        raise PlainError(400, "Client user deletion is not enabled for this project")
    context.store.accounts.delete(context.access.own_account.id)
    return context.success()


def read_one(context: Context) -> Response:
    found = context.read(query={}, params={"user_id": Field(uuid_or_me)})
    return context.json(context.existing_user(found["user_id"]).read())


def update_one(context: Context) -> Response:
    values = context.read(query={}, params={"user_id": Field(uuid_or_me)}, body=_UPDATE)
    return _updated(context, context.existing_user(values.pop("user_id")), values)


def delete_one(context: Context) -> Response:
    found = context.read(query={}, params={"user_id": Field(uuid_or_me)})
    context.store.accounts.delete(context.existing_user(found["user_id"]).id)
    return context.success()


def create(context: Context) -> Response:
    values = context.read(query={}, body=_CREATE)
    now = context.store.now_millis
    new: dict[str, Any] = {
        "projects": frozenset({context.project_id}),
        "signed_up_at_millis": now,
        "last_active_at_millis": now,
        "must_verify_email": context.access.project.require_email_verification,
    }
    created = context.store.accounts.create(**new, **_changes(context, Account(id="", **new), values))
    return context.json(created.read(), status=201)


def list_all(context: Context) -> Response:
    query = context.read(query=_LIST)
    if query.get("only_anonymous") == "true" and query.get("include_anonymous") != "true":
        raise PlainError(400, "only_anonymous=true requires include_anonymous=true")
    found = [account for account in context.store.accounts if _is_listed(context, account, query)]
    found.sort(key=lambda each: (each.signed_up_at_millis, each.id), reverse=query.get("desc") == "true")
    ids = [account.id for account in found]
    start = 0 if "cursor" not in query else ids.index(query["cursor"]) if query["cursor"] in ids else len(ids)
    end = start + query["limit"] if "limit" in query else len(ids)
    return context.json(
        {
            "items": [account.read() for account in found[start:end]],
            "is_paginated": True,
            "pagination": {"next_cursor": ids[end] if end < len(ids) else None},
        }
    )


def _is_listed(context: Context, account: Account, query: Mapping[str, Any]) -> bool:
    sought = query.get("query", "")
    anonymous = query.get("include_anonymous") == "true"
    return (
        account.exists_in(context.project_id)
        and (anonymous or not account.is_anonymous)
        and (account.is_anonymous or query.get("only_anonymous") != "true")
        and (anonymous or query.get("include_restricted") == "true" or account.restricted_reason is None)
        and ("team_id" not in query or account.id in context.store.teams.members(query["team_id"]))
        and (
            sought in ("", account.id)
            or any(sought.lower() in (text or "").lower() for text in (account.display_name, account.primary_email))
        )
    )


def _updated(context: Context, account: Account, values: dict[str, Any]) -> Response:
    changed = context.store.accounts.update(account.id, **_changes(context, account, values))
    if "password" in values or "password_hash" in values:
        context.store.accounts.end_sessions(account.id)
    return context.json(changed.read(as_client=context.as_client))


def _changes(context: Context, account: Account, values: dict[str, Any]) -> Any:
    """Return the fields of an account that a request changes."""
    for name in ("restricted_by_admin_reason", "restricted_by_admin_private_details"):
        if values.get(name) is not None and not values.get("restricted_by_admin"):
            raise schema_error(context.request, [f"{name} must be null when restricted_by_admin is not true"])
    if values.get("passkey_auth_enabled"):
        text = "Cannot manually enable passkey auth, it is enabled iff there is a passkey auth method"
        raise PlainError(400, text)
    changes = {name: value for name, value in values.items() if name not in (*_STORED_AS, "selected_team_id")}
    changes |= {to: values[name] is not None for name, to in _STORED_AS.items() if name in values}
    for name in ("display_name", "restricted_by_admin_reason", "restricted_by_admin_private_details"):
        if name in changes:
            changes[name] = changes[name] or None
    if values.get("restricted_by_admin") is False:
        changes |= _CLEARED
    if account.is_anonymous and values.get("is_anonymous") is False:
        changes["signed_up_at_millis"] = context.store.now_millis
    if "selected_team_id" in values:
        changes["selected_team"] = _selected(context, account, values["selected_team_id"])
    return _with_email(context, account, changes)


def _with_email(context: Context, account: Account, changes: dict[str, Any]) -> dict[str, Any]:
    """Add the changes that follow from a changed address, and check the result."""
    new = changes.get("primary_email", account.primary_email)
    if "primary_email" in changes:
        if new is None:
            changes |= {"primary_email_auth_enabled": False, "primary_email_verified": False}
        elif new != account.primary_email:
            changes.setdefault("primary_email_verified", False)
    changed = replace(account, **changes)
    for name in ("auth_enabled", "verified"):
        if new is None and getattr(changed, f"primary_email_{name}"):
            raise PlainError(400, f"primary_email_{name} cannot be true without primary_email")
    taken = (
        other.id != account.id
        and other.primary_email == new
        and other.primary_email_auth_enabled
        and other.exists_in(context.project_id)
        for other in context.store.accounts
    )
    if changed.primary_email_auth_enabled and new != account.primary_email and any(taken):
        details = {"email": new, "would_work_if_email_was_verified": False}
        raise KnownError("USER_EMAIL_ALREADY_EXISTS", details)
    return changes


def _selected(context: Context, account: Account, team_id: str | None) -> dict[str, Any] | None:
    """Return the team that a user selects. Refuse a user who is not a member of it."""
    if team_id is None:
        return None
    team: Team | None = context.store.teams.get(team_id, context.project_id)
    if team is None or account.id not in context.store.teams.members(team_id):
        raise KnownError("TEAM_MEMBERSHIP_NOT_FOUND", {"team_id": team_id, "user_id": account.id})
    return team.read()


ENDPOINTS = (
    endpoint("users/me", "GET", "/users/me", read_own),
    endpoint("users/me", "PATCH", "/users/me", update_own),
    endpoint("users/me", "DELETE", "/users/me", delete_own),
    endpoint("users", "GET", "/users", list_all, access=SERVER),
    endpoint("users", "POST", "/users", create, access=SERVER),
    endpoint("users", "GET", "/users/{user_id}", read_one, access=SERVER),
    endpoint("users", "PATCH", "/users/{user_id}", update_one, access=SERVER),
    endpoint("users", "DELETE", "/users/{user_id}", delete_one, access=SERVER),
)
