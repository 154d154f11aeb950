"""Projects and their keys."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final, TypedDict

EVERY: Final = ""
"""Project id of objects that a test creates without naming a project: they exist in every project."""


def is_in(stored: str, project_id: str) -> bool:
    """Return whether an object stored under the project id `stored` exists in the project `project_id`."""
    return stored in (EVERY, project_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project's keys and requirements (docs/stack-auth.md section 5).

    Attributes:
        id: the project id.
        secret_server_key: the accepted key; None accepts any that is not empty.
        publishable_client_key: likewise.
        super_secret_admin_key: likewise.
        require_publishable_client_key: whether client access needs the key; if sent, it must be right in any case.
        require_email_verification: whether users created by the API are restricted until the address is verified.
        user_api_keys: whether API keys of users are enabled.
        team_api_keys: whether API keys of teams are enabled.
        client_team_creation: whether clients may create teams.
        client_user_deletion: whether clients may delete their own user.
    """

    id: str
    secret_server_key: str | None = None
    publishable_client_key: str | None = None
    super_secret_admin_key: str | None = None
    require_publishable_client_key: bool = False
    require_email_verification: bool = False
    user_api_keys: bool = True
    team_api_keys: bool = True
    client_team_creation: bool = True
    client_user_deletion: bool = False


class ProjectFields(TypedDict, total=False):
    """Arguments of `LocalStackAuth.add_project`, explained at `Project`."""

    secret_server_key: str | None
    publishable_client_key: str | None
    super_secret_admin_key: str | None
    require_publishable_client_key: bool
    require_email_verification: bool
    user_api_keys: bool
    team_api_keys: bool
    client_team_creation: bool
    client_user_deletion: bool


class Projects:
    """The projects. Thread-safe.

    Args:
        any_id: whether every project id exists, unless it was removed.
    """

    def __init__(self, *, any_id: bool) -> None:
        self._any_id = any_id
        self._lock = threading.Lock()
        self._projects: dict[str, Project | None] = {}

    def add(self, project: Project) -> None:
        """Add a project, or replace the one with its id."""
        with self._lock:
            self._projects[project.id] = project

    def remove(self, project_id: str) -> None:
        """Remove a project."""
        with self._lock:
            self._projects[project_id] = None

    def get(self, project_id: str) -> Project | None:
        """Return the project with this id; None if there is none."""
        with self._lock:
            if self._any_id:
                return self._projects.setdefault(project_id, Project(id=project_id))
            return self._projects.get(project_id)
