"""Teams, their members, and the permissions of users in teams and in projects.

A permission may contain others. A list of held permissions is direct or recursive. A recursive list includes contained
permissions. Definitions are shared by all projects.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ._account import TEAM_CLIENT_FIELDS
from ._projects import EVERY, is_in

Scope: TypeAlias = Literal["team", "project"]

SYSTEM_PERMISSIONS: Final = (
    "$delete_team",
    "$invite_members",
    "$manage_api_keys",
    "$read_members",
    "$remove_members",
    "$update_team",
)
"""Permissions in teams that every project has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A team as stored. Immutable.

    Example::

        team = local.team("Research", members=[jane])
        assert team.display_name == "Research"
    """

    id: str
    project_id: str
    display_name: str
    created_at_millis: int
    profile_image_url: str | None = None
    client_metadata: Any = None
    client_read_only_metadata: Any = None
    server_metadata: Any = None

    def read(self, *, as_client: bool = False) -> dict[str, Any]:
        """Return the team as a client or as a server reads it."""
        names = TEAM_CLIENT_FIELDS if as_client else (*TEAM_CLIENT_FIELDS, "server_metadata", "created_at_millis")
        return {name: getattr(self, name) for name in names}


class Held(NamedTuple):
    """A permission that a user holds; `team_id` is "" for one in the project."""

    team_id: str
    user_id: str
    id: str

    def read(self) -> dict[str, str]:
        """Return the permission as the API writes it."""
        return {name: value for name, value in self._asdict().items() if value}


class Teams:
    """Teams, memberships and permissions. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._teams: dict[str, Team] = {}
        self._members: dict[str, list[str]] = {}
        self._granted: dict[str, set[Held]] = {}
        self._definitions: dict[Scope, dict[str, tuple[str, ...]]] = {
            "project": {},
            "team": {
                **dict.fromkeys(SYSTEM_PERMISSIONS, ()),
                "team_admin": SYSTEM_PERMISSIONS,
                "team_member": ("$invite_members", "$read_members"),
            },
        }

    def add(self, team: Team) -> None:
        """Add a team, or replace the one with its id, whose members stay."""
        with self._lock:
            self._teams[team.id] = team
            self._members.setdefault(team.id, [])

    def get(self, team_id: str, project_id: str) -> Team | None:
        """Return a team of a project; None if there is none."""
        team = self._teams.get(team_id)
        return team if team is not None and is_in(team.project_id, project_id) else None

    def update(self, team_id: str, values: Mapping[str, Any]) -> Team:
        """Change fields of a team."""
        with self._lock:
            team = self._teams[team_id] = replace(self._teams[team_id], **values)
        return team

    def remove(self, team_id: str) -> None:
        """Remove a team with its memberships and permissions."""
        with self._lock:
            for user_id in self.members(team_id):
                self.remove_member(team_id, user_id)
            del self._teams[team_id], self._members[team_id]

    def of_project(self, project_id: str, user_id: str | None = None) -> list[Team]:
        """Return the teams of a project, oldest first; only those of a user if `user_id` is given."""
        with self._lock:
            found = [
                team
                for team in self._teams.values()
                if is_in(team.project_id, project_id) and (user_id is None or user_id in self._members[team.id])
            ]
        return sorted(found, key=lambda team: team.created_at_millis)

    def members(self, team_id: str) -> list[str]:
        """Return the ids of a team's members, in the order in which they were added."""
        return list(self._members.get(team_id, ()))

    def add_member(self, team_id: str, user_id: str, *, permission_id: str = "team_member") -> None:
        """Add a member with one permission, as Stack Auth does. Nothing happens if the user is a member already."""
        with self._lock:
            if user_id not in self._members[team_id]:
                self._members[team_id].append(user_id)
                self.grant(self._teams[team_id].project_id, Held(team_id, user_id, permission_id))

    def remove_member(self, team_id: str, user_id: str) -> None:
        """Remove a member with the permissions in the team."""
        with self._lock:
            self._members[team_id].remove(user_id)
            self._drop(lambda held: held.team_id == team_id and held.user_id == user_id)

    def remove_user(self, user_id: str) -> None:
        """Remove all memberships and permissions of a user."""
        with self._lock:
            for members in self._members.values():
                if user_id in members:
                    members.remove(user_id)
            self._drop(lambda held: held.user_id == user_id)

    def define(self, permission_id: str, *, contains: Iterable[str] = (), scope: Scope = "team") -> None:
        """Define a permission, or replace its definition."""
        with self._lock:
            self._definitions[scope][permission_id] = tuple(sorted(contains))

    def definitions(self, scope: Scope) -> dict[str, tuple[str, ...]]:
        """Return the permissions that each permission contains directly."""
        return dict(self._definitions[scope])

    def grant(self, project_id: str, held: Held) -> None:
        """Grant a permission."""
        with self._lock:
            self._granted.setdefault(project_id, set()).add(held)

    def revoke(self, project_id: str, held: Held) -> None:
        """Revoke a permission that was granted directly."""
        with self._lock:
            for each in (EVERY, project_id):
                self._granted.get(each, set()).discard(held)

    def held(
        self,
        project_id: str,
        scope: Scope,
        *,
        user_id: str | None = None,
        team_id: str | None = None,
        permission_id: str | None = None,
        recursive: bool = False,
    ) -> list[Held]:
        """Return the permissions that users hold, sorted by team, user and id.

        Args:
            project_id: the project.
            scope: whether permissions in teams or in the project.
            user_id: only those of this user.
            team_id: only those in this team.
            permission_id: only this one.
            recursive: whether to include contained permissions. Permissions that are not defined are always left out.
        """
        definitions = self._definitions[scope]
        found: set[Held] = set()
        with self._lock:
            left = [
                held
                for each in {EVERY, project_id}
                for held in self._granted.get(each, ())
                if bool(held.team_id) is (scope == "team")
                and user_id in (None, held.user_id)
                and team_id in (None, held.team_id)
            ]
        while left:
            held = left.pop()
            if held.id in definitions and held not in found:
                found.add(held)
                left += [held._replace(id=each) for each in definitions[held.id] if recursive]
        return sorted(held for held in found if permission_id in (None, held.id))

    def _drop(self, dropped: Any) -> None:
        for project_id, granted in self._granted.items():
            self._granted[project_id] = {held for held in granted if not dropped(held)}
