"""Which projects there are, and what opens their doors."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project's keys and requirements (contract.md section 3).

    Attributes:
        id: the project id.
        secret_server_key: the only one that passes; None lets any pass that is not empty.
        publishable_client_key: likewise.
        super_secret_admin_key: likewise.
        require_publishable_client_key: whether client access needs the key; if sent, it must be right anyway.
    """

    id: str
    secret_server_key: str | None = None
    publishable_client_key: str | None = None
    super_secret_admin_key: str | None = None
    require_publishable_client_key: bool = False


class Projects:
    """Hold the projects. Thread-safe.

    Args:
        any_id: whether a project is there for any id that is asked for, unless it was removed.
    """

    def __init__(self, *, any_id: bool) -> None:
        self._any_id = any_id
        self._lock = threading.Lock()
        self._projects: dict[str, Project | None] = {}

    def add(self, project: Project) -> None:
        """Have this project, in place of what went by its id."""
        with self._lock:
            self._projects[project.id] = project

    def remove(self, project_id: str) -> None:
        """Have no project by this id."""
        with self._lock:
            self._projects[project_id] = None

    def get(self, project_id: str) -> Project | None:
        """Return the project by this id, if there is one."""
        with self._lock:
            if self._any_id:
                return self._projects.setdefault(project_id, Project(id=project_id))
            return self._projects.get(project_id)
