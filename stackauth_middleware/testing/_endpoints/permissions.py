"""The endpoints of permissions in teams and in the project, and of their definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from .._context import ADMIN, SERVER, Context, Endpoint, endpoint
from .._responses import KnownError, Response
from .._schema import Field, one_of, permission, permissions, text, uuid, uuid_or_me
from .._teams import Held, Scope

Handler: TypeAlias = "Callable[[Context], Response]"

_OWN_ONLY = (
    'Client can only list permissions for their own user. user_id must be either "me" or the ID of the current user'
)
_PROJECT_QUERY = {
    "user_id": Field(uuid_or_me),
    "permission_id": Field(permission),
    "recursive": Field(one_of("true", "false")),
}
_TEAM_QUERY = {"team_id": Field(uuid), **_PROJECT_QUERY}
_PARAMS = {"team_id": Field(uuid), "user_id": Field(uuid_or_me), "permission_id": Field(permission)}
_DEFINITION = {
    "id": Field(permission, required=True),
    "description": Field(text),
    "contained_permission_ids": Field(permissions),
}


def listing(scope: Scope) -> Handler:
    """Return the endpoint that lists held permissions."""

    def handle(context: Context) -> Response:
        query = context.read(query=_TEAM_QUERY if scope == "team" else _PROJECT_QUERY)
        context.require_own(query.get("user_id"), _OWN_ONLY)
        query["recursive"] = query.get("recursive") == "true"
        found = context.store.teams.held(context.project_id, scope, **query)
        return context.items([held.read() for held in found])

    return handle


def granting(scope: Scope) -> Handler:
    """Return the endpoint that grants a permission."""

    def handle(context: Context) -> Response:
        held = _read(context, scope)
        other: Scope = "project" if scope == "team" else "team"
        if held.id not in context.store.teams.definitions(scope):
            if held.id in context.store.teams.definitions(other):
                details = {"permission_id": held.id, "expected_scope": scope, "actual_scope": other}
                raise KnownError("WRONG_PERMISSION_SCOPE", details)
            raise KnownError("PERMISSION_NOT_FOUND", {"permission_id": held.id})
        context.store.teams.grant(context.project_id, held)
        return context.json(held.read(), status=201)

    return handle


def revoking(scope: Scope) -> Handler:
    """Return the endpoint that revokes a permission that was granted directly."""

    def handle(context: Context) -> Response:
        held = _read(context, scope)
        direct = context.store.teams.held(context.project_id, scope, user_id=held.user_id, permission_id=held.id)
        if held not in direct:
            if scope == "project":
                raise KnownError("PERMISSION_NOT_FOUND", {"permission_id": held.id})
            details = {"team_id": held.team_id, "user_id": held.user_id, "permission_id": held.id}
            raise KnownError("TEAM_PERMISSION_NOT_FOUND", details)
        context.store.teams.revoke(context.project_id, held)
        return context.success()

    return handle


def defining(scope: Scope) -> Handler:
    """Return the endpoint that defines a permission."""

    def handle(context: Context) -> Response:
        values = context.read(query={}, body=_DEFINITION)
        defined = context.store.teams.definitions(scope)
        contained = values.setdefault("contained_permission_ids", [])
        missing = [each for each in contained if each not in defined]
        if values["id"] in defined:
            raise KnownError("PERMISSION_ID_ALREADY_EXISTS", {"permission_id": values["id"]})
        if missing:
            raise KnownError("CONTAINED_PERMISSION_NOT_FOUND", {"permission_id": missing[0]})
        context.store.teams.define(values["id"], contains=contained, scope=scope)
        return context.json({**values, "contained_permission_ids": sorted(contained)}, status=201)

    return handle


def definitions(scope: Scope) -> Handler:
    """Return the endpoint that lists the defined permissions."""

    def handle(context: Context) -> Response:
        context.read(query={})
        defined = sorted(context.store.teams.definitions(scope).items())
        return context.items([{"id": each, "contained_permission_ids": list(contained)} for each, contained in defined])

    return handle


def _read(context: Context, scope: Scope) -> Held:
    """Return the permission that the path names. Refuse an unknown user, and in a team one who is not a member."""
    names = _PARAMS if scope == "team" else {name: _PARAMS[name] for name in ("user_id", "permission_id")}
    params: dict[str, Any] = context.read(query=names, params=names)
    team_id, user_id = params.get("team_id", ""), params["user_id"]
    context.existing_user(user_id)
    if scope == "team" and user_id not in context.store.teams.members(team_id):
        raise KnownError("TEAM_MEMBERSHIP_NOT_FOUND", {"team_id": team_id, "user_id": user_id})
    return Held(team_id, user_id, params["permission_id"])


def _of(scope: Scope, path: str) -> tuple[Endpoint, ...]:
    name = f"{scope}-permission"
    return (
        endpoint("permissions", "GET", f"/{name}s", listing(scope)),
        endpoint("permissions", "POST", f"/{name}s{path}", granting(scope), access=SERVER),
        endpoint("permissions", "DELETE", f"/{name}s{path}", revoking(scope), access=SERVER),
        endpoint("permissions", "GET", f"/{name}-definitions", definitions(scope), access=ADMIN),
        endpoint("permissions", "POST", f"/{name}-definitions", defining(scope), access=ADMIN),
    )


ENDPOINTS = (*_of("team", "/{team_id}/{user_id}/{permission_id}"), *_of("project", "/{user_id}/{permission_id}"))
