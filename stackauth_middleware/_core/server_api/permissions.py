"""Permissions of users, in a team or in the whole project."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any

from ..sealed import Sealed, conceal, seal
from .record import NO_MEMBERS, Record, items_of, sealed_members, text_of
from .request import Request, UnreadableError, ignore
from .values import flag, permission_id, uuid


@dataclass(frozen=True, slots=True, eq=False)
class Permission(Record):
    """A permission that a user holds (docs/stack-auth.md section 12). Immutable, hashable.

    Attributes:
        id: id of the permission, such as ``"read"`` or ``"$update_team"``.
        user_id: id of the user who holds it.
        team_id: id of the team in which it is held; None for the whole project.

    Example::

        held = {permission.id for permission in client.list_permissions(user_id, team_id=team_id)}
    """

    id: str
    user_id: str
    team_id: str | None
    _sealed: InitVar[Sealed | None] = field(default=NO_MEMBERS, kw_only=True)

    def __post_init__(self, _sealed: Sealed | None = None) -> None:  # noqa: RUF033 - decoders pass nothing
        seal(self, _sealed, NO_MEMBERS, is_typed=True)


conceal(Permission)

_KNOWN = frozenset({"id", "user_id", "team_id"})


def permission_from_json(body: Any, user_id: str, *, in_team: bool) -> Permission:
    """Return the permission in an answer.

    Args:
        body: the JSON object.
        user_id: id of the user who has to hold it.
        in_team: whether it has to be held in a team.

    Raises:
        ValueError: another user holds it, or the members are not of the form that Stack Auth sends.
    """
    if text_of(body, "user_id") != user_id:
        raise UnreadableError("the answer has permissions of another user")
    team_id = text_of(body, "team_id") if in_team else None
    return Permission(text_of(body, "id"), user_id, team_id, _sealed=sealed_members(body, {}, _KNOWN))


def list_of(user_id: str, team_id: str | None, *, direct: bool = False) -> Request[list[Permission]]:
    """Return the request for the permissions of a user in a team, or in the whole project if `team_id` is None.

    Args:
        user_id: id of the user. Without it, the API would send the permissions of all users.
        team_id: id of the team.
        direct: leave out permissions that are held only because others contain them.
    """
    if team_id is not None:
        return list_of_teams(user_id, team_id, direct=direct)
    user_id = uuid("user_id", user_id)
    read = partial(_read_list, user_id=user_id, in_team=False)
    return Request("GET", "/project-permissions", read, _params(user_id, direct=direct))


def list_of_teams(user_id: str, team_id: str | None = None, *, direct: bool = False) -> Request[list[Permission]]:
    """Return the request for the permissions of a user in one team, or in each of the user's teams.

    Args:
        user_id: id of the user. Without it, the API would send the permissions of all users.
        team_id: id of the team; None for all.
        direct: leave out permissions that are held only because others contain them.
    """
    user_id = uuid("user_id", user_id)
    params = _params(user_id, direct=direct)
    if team_id is not None:
        params["team_id"] = uuid("team_id", team_id)
    return Request("GET", "/team-permissions", partial(_read_list, user_id=user_id, in_team=True), params)


def grant(user_id: str, permission: str, team_id: str | None = None) -> Request[Permission]:
    """Return the request that grants a permission, in a team or in the whole project."""
    path = _path(user_id, permission, team_id)
    read = partial(permission_from_json, user_id=uuid("user_id", user_id), in_team=team_id is not None)
    return Request("POST", path, read, body={})


def revoke(user_id: str, permission: str, team_id: str | None = None) -> Request[None]:
    """Return the request that revokes a permission."""
    return Request("DELETE", _path(user_id, permission, team_id), ignore)


def _params(user_id: str, *, direct: bool) -> dict[str, str]:
    return {"user_id": user_id, "recursive": "false" if flag("direct", direct) else "true"}


def _path(user_id: str, permission: str, team_id: str | None) -> str:
    tail = f"{uuid('user_id', user_id)}/{permission_id('permission_id', permission)}"
    return f"/project-permissions/{tail}" if team_id is None else f"/team-permissions/{uuid('team_id', team_id)}/{tail}"


def _read_list(body: Any, user_id: str, *, in_team: bool) -> list[Permission]:
    return [permission_from_json(each, user_id, in_team=in_team) for each in items_of(body)]
