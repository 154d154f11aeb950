"""The endpoints of teams, memberships and the profiles of members."""

from __future__ import annotations

import uuid as uuids
from typing import Any

from .._context import SERVER, Context, endpoint
from .._responses import KnownError, PlainError, Response
from .._schema import Field, anything, one_of, text, uuid, uuid_or_me
from .._teams import Team

_TEAM = {"team_id": Field(uuid)}
_MEMBER = {**_TEAM, "user_id": Field(uuid_or_me)}
_QUERY = {"user_id": Field(uuid_or_me), "add_current_user": Field(one_of("true", "false"))}
_JSON = Field(anything, nullable=True)
_CLIENT_UPDATE = {
    "display_name": Field(text),
    "profile_image_url": Field(text, nullable=True),
    "client_metadata": _JSON,
}
_UPDATE = {**_CLIENT_UPDATE, "client_read_only_metadata": _JSON, "server_metadata": _JSON}
_NEW = {"display_name": Field(text, required=True), "creator_user_id": Field(uuid_or_me)}
_OWN_ONLY = 'Client can only list teams for their own user. user_id must be either "me" or the ID of the current user'


def list_all(context: Context) -> Response:
    user_id = context.read(query=_QUERY).get("user_id")
    context.require_own(user_id, _OWN_ONLY)
    found = context.store.teams.of_project(context.project_id, user_id)
    return context.items([team.read(as_client=context.as_client) for team in found])


def create(context: Context) -> Response:
    values = context.read(query=_QUERY, body={**(_CLIENT_UPDATE if context.as_client else _UPDATE), **_NEW})
    creator = values.pop("creator_user_id", None)
    if values.pop("add_current_user", None) == "true":
        creator = context.access.own_account.id
    if context.as_client:
        if context.access.account is None:
            raise KnownError("USER_AUTHENTICATION_REQUIRED")
        if not context.access.project.client_team_creation:
            raise PlainError(403, "Client team creation is disabled for this project")
        if creator not in (None, context.access.account.id):
            raise PlainError(
                403,
                "You cannot create a team as a user that is not yourself. Make sure you set the creator_user_id to"
                " 'me'.",
            )
        creator = context.access.account.id
    if creator is not None:
        context.existing_user(creator)
    values = {name: value for name, value in values.items() if name != "user_id"}
    team = Team(
        id=str(uuids.uuid4()), project_id=context.project_id, created_at_millis=context.store.now_millis, **values
    )
    context.store.teams.add(team)
    if creator is not None:
        context.store.teams.add_member(team.id, creator, permission_id="team_admin")
    return context.json(team.read(as_client=context.as_client), status=201)


def read_one(context: Context) -> Response:
    team_id = context.read(query=_QUERY, params=_TEAM)["team_id"]
    if context.as_client:
        _require_member(context, team_id, context.access.own_account.id)
    return context.json(_existing(context, team_id).read(as_client=context.as_client))


def update_one(context: Context) -> Response:
    values = context.read(query=_QUERY, params=_TEAM, body=_CLIENT_UPDATE if context.as_client else _UPDATE)
    team_id = values.pop("team_id")
    _require_permission(context, team_id, "$update_team")
    _existing(context, team_id)
    changed = context.store.teams.update(team_id, {name: values[name] for name in _UPDATE if name in values})
    return context.json(changed.read(as_client=context.as_client))


def delete_one(context: Context) -> Response:
    team_id = context.read(query=_QUERY, params=_TEAM)["team_id"]
    _require_permission(context, team_id, "$delete_team")
    _existing(context, team_id)
    context.store.remove_team(team_id)
    return context.success()


def add_member(context: Context) -> Response:
    member = context.read(query={}, params=_MEMBER)
    context.existing_user(member["user_id"])
    _existing(context, member["team_id"])
    if member["user_id"] in context.store.teams.members(member["team_id"]):
        raise KnownError("TEAM_MEMBERSHIP_ALREADY_EXISTS")
    context.store.teams.add_member(member["team_id"], member["user_id"])
    return context.json(member, status=201)


def remove_member(context: Context) -> Response:
    member = context.read(query={}, params=_MEMBER)
    if context.as_client and member["user_id"] != context.access.own_account.id:
        _require_permission(context, member["team_id"], "$remove_members")
    _require_member(context, member["team_id"], member["user_id"])
    context.store.teams.remove_member(member["team_id"], member["user_id"])
    return context.success()


def list_profiles(context: Context) -> Response:
    query = context.read(query=_MEMBER)
    if context.as_client and query.get("user_id") != context.access.own_account.id:
        _require_permission(context, query.get("team_id", ""), "$read_members")
    found = [
        _profile(context, team.id, user_id)
        for team in context.store.teams.of_project(context.project_id)
        for user_id in context.store.teams.members(team.id)
        if query.get("team_id") in (None, team.id) and query.get("user_id") in (None, user_id)
    ]
    return context.items(found)


def read_profile(context: Context) -> Response:
    member = context.read(query={}, params=_MEMBER)
    if context.as_client and member["user_id"] != context.access.own_account.id:
        _require_permission(context, member["team_id"], "$read_members")
    _require_member(context, member["team_id"], member["user_id"])
    return context.json(_profile(context, member["team_id"], member["user_id"]))


def _profile(context: Context, team_id: str, user_id: str) -> dict[str, Any]:
    account = context.existing_user(user_id)
    members: dict[str, Any] = {
        "team_id": team_id,
        "user_id": user_id,
        "display_name": account.display_name,
        "profile_image_url": account.profile_image_url,
    }
    return members if context.as_client else {**members, "user": account.read()}


def _existing(context: Context, team_id: str) -> Team:
    team = context.store.teams.get(team_id, context.project_id)
    if team is None:
        raise KnownError("TEAM_NOT_FOUND", {"team_id": team_id})
    return team


def _require_member(context: Context, team_id: str, user_id: str) -> None:
    context.existing_user(user_id)
    if user_id not in context.store.teams.members(team_id):
        raise KnownError("TEAM_MEMBERSHIP_NOT_FOUND", {"team_id": team_id, "user_id": user_id})


def _require_permission(context: Context, team_id: str, permission_id: str) -> None:
    """Refuse a client whose user does not hold a permission in a team."""
    if not context.as_client:
        return
    user_id = context.access.own_account.id
    _require_member(context, team_id, user_id)
    held = context.store.teams.held(
        context.project_id, "team", user_id=user_id, team_id=team_id, permission_id=permission_id, recursive=True
    )
    if not held:
        details = {"team_id": team_id, "user_id": user_id, "permission_id": permission_id}
        raise KnownError("TEAM_PERMISSION_REQUIRED", details)


ENDPOINTS = (
    endpoint("teams", "GET", "/teams", list_all),
    endpoint("teams", "POST", "/teams", create),
    endpoint("teams", "GET", "/teams/{team_id}", read_one),
    endpoint("teams", "PATCH", "/teams/{team_id}", update_one),
    endpoint("teams", "DELETE", "/teams/{team_id}", delete_one),
    endpoint("teams", "POST", "/team-memberships/{team_id}/{user_id}", add_member, access=SERVER),
    endpoint("teams", "DELETE", "/team-memberships/{team_id}/{user_id}", remove_member),
    endpoint("teams", "GET", "/team-member-profiles", list_profiles),
    endpoint("teams", "GET", "/team-member-profiles/{team_id}/{user_id}", read_profile),
)
