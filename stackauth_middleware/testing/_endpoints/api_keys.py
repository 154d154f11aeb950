"""The endpoints of API keys: create, check, list, read and revoke, for users and for teams.

The check of a key tests in this order: access type, feature enabled, key found, key type, revocation, expiry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from .._api_keys import ApiKeyType, StoredApiKey
from .._context import SERVER, Context, Endpoint, endpoint
from .._responses import KnownError, PlainError, Response, server_fault
from .._schema import Field, boolean, number, text, uuid, uuid_or_me

Handler: TypeAlias = "Callable[[Context], Response]"

_OWNER = {"user": {"user_id": Field(uuid_or_me)}, "team": {"team_id": Field(uuid, required=True)}}
_NEW = {
    "description": Field(text, required=True),
    "expires_at_millis": Field(number, required=True, nullable=True),
    "is_public": Field(boolean),
}
_UPDATE = {"description": Field(text), "revoked": Field(boolean)}
_KEY = {"key_id": Field(uuid)}


def creating(key_type: ApiKeyType) -> Handler:
    """Return the endpoint that creates a key."""

    def handle(context: Context) -> Response:
        owner = {f"{key_type}_id": _OWNER[key_type][f"{key_type}_id"]._replace(required=True)}
        values = context.read(body={**owner, **_NEW})
        _require_enabled(context, key_type)
        owner_id = values[f"{key_type}_id"]
        _require_manager(context, key_type, owner_id)
        if not _owner_exists(context, key_type, owner_id):
            raise server_fault()
        created = context.store.api_keys.create(
            key_type,
            owner_id,
            context.project_id,
            created_at_millis=context.store.now_millis,
            description=values["description"],
            is_public=values.get("is_public", False),
            expires_at_millis=values["expires_at_millis"] or None,
        )
        return context.json(created.read(with_value=True))

    return handle


def checking(key_type: ApiKeyType) -> Handler:
    """Return the endpoint that checks a key."""

    def handle(context: Context) -> Response:
        value = context.read(body={"api_key": Field(text, required=True)})["api_key"]
        _require_enabled(context, key_type)
        key = context.store.api_keys.find(value, context.project_id)
        if key is None:
            raise KnownError("API_KEY_NOT_FOUND")
        if key.type != key_type:
            raise KnownError("WRONG_API_KEY_TYPE", {"expected_type": key_type, "actual_type": key.type})
        if key.manually_revoked_at_millis is not None:
            raise KnownError("API_KEY_REVOKED")
        if key.expires_at_millis is not None and key.expires_at_millis < context.store.now_millis:
            raise KnownError("API_KEY_EXPIRED")
        return context.json(key.read())

    return handle


def listing(key_type: ApiKeyType) -> Handler:
    """Return the endpoint that lists the keys of a user or team."""

    def handle(context: Context) -> Response:
        owner_id = context.read(query=_OWNER[key_type]).get(f"{key_type}_id")
        _require_enabled(context, key_type)
        if owner_id is None:
            raise KnownError("SCHEMA_ERROR", {"message": "user_id is required for user API keys"})
        _require_manager(context, key_type, owner_id)
        keys = context.store.api_keys.of_owner(key_type, owner_id, context.project_id)
        return context.items([key.read() for key in keys])

    return handle


def reading(key_type: ApiKeyType) -> Handler:
    """Return the endpoint that reads a key."""

    def handle(context: Context) -> Response:
        values = context.read(query=_OWNER[key_type], params=_KEY)
        return context.json(_existing(context, key_type, values["key_id"]).read())

    return handle


def updating(key_type: ApiKeyType) -> Handler:
    """Return the endpoint that revokes a key or changes its description."""

    def handle(context: Context) -> Response:
        values = context.read(query=_OWNER[key_type], params=_KEY, body=_UPDATE)
        key = _existing(context, key_type, values["key_id"])
        if "description" in values:
            key = context.store.api_keys.describe(key.id, values["description"])
        if values.get("revoked"):
            key = context.store.api_keys.revoke(key.id, context.store.now_millis)
        return context.json(key.read())

    return handle


def _existing(context: Context, key_type: ApiKeyType, key_id: str) -> StoredApiKey:
    _require_enabled(context, key_type)
    key = context.store.api_keys.get(key_id, context.project_id)
    if key is None or key.type != key_type:
        raise KnownError("API_KEY_NOT_FOUND")
    _require_manager(context, key_type, key.owner_id)
    return key


def _require_enabled(context: Context, key_type: ApiKeyType) -> None:
    project = context.access.project
    if not (project.user_api_keys if key_type == "user" else project.team_api_keys):
        raise PlainError(400, f"{key_type.title()} API keys are not enabled for this project.")


def _require_manager(context: Context, key_type: ApiKeyType, owner_id: str) -> None:
    """Refuse a client whose user may not manage the keys of this owner."""
    if not context.as_client:
        return
    if context.access.account is None:
        raise KnownError("USER_AUTHENTICATION_REQUIRED")
    user_id = context.access.account.id
    if key_type == "user" and owner_id != user_id:
        raise PlainError(403, "Client can only manage their own api keys")
    held = context.store.teams.held(
        context.project_id,
        "team",
        user_id=user_id,
        team_id=owner_id,
        permission_id="$manage_api_keys",
        recursive=True,
    )
    if key_type == "team" and not held:
        raise KnownError("API_KEY_NOT_FOUND")


def _owner_exists(context: Context, key_type: ApiKeyType, owner_id: str) -> bool:
    if key_type == "user":
        return context.store.account(owner_id, context.project_id) is not None
    return context.store.teams.get(owner_id, context.project_id) is not None


def _of(key_type: ApiKeyType) -> tuple[Endpoint, ...]:
    path = f"/{key_type}-api-keys"
    return (
        endpoint("api-keys", "POST", f"{path}/check", checking(key_type), access=SERVER),
        endpoint("api-keys", "POST", path, creating(key_type)),
        endpoint("api-keys", "GET", path, listing(key_type)),
        endpoint("api-keys", "GET", f"{path}/{{key_id}}", reading(key_type)),
        endpoint("api-keys", "PATCH", f"{path}/{{key_id}}", updating(key_type)),
    )


ENDPOINTS = (*_of("user"), *_of("team"))
