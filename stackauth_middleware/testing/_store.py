"""What a Stack Auth server stores: one object that the endpoints and `LocalStackAuth` share."""

from __future__ import annotations

from collections.abc import Callable

from ._account import Account
from ._accounts import Accounts, Session
from ._api_keys import ApiKeys
from ._issuer import Issuer
from ._projects import Project, Projects
from ._teams import Teams


class Store:
    """Keys, projects, accounts, sessions, teams, permissions and API keys.

    Args:
        any_project: whether every project id exists.
        clock: returns the seconds since the epoch.
    """

    def __init__(self, *, any_project: bool, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.issuer = Issuer()
        self.projects = Projects(any_id=any_project)
        self.teams = Teams()
        self.api_keys = ApiKeys()
        self.accounts = Accounts(self._forget_user)

    @property
    def now_millis(self) -> int:
        """The time, in milliseconds since the epoch."""
        return int(self.clock() * 1000)

    def add_project(self, project: Project, *, short_coordinates: bool) -> None:
        """Add a project, or replace the one with its id."""
        self.projects.add(project)
        if short_coordinates:
            self.issuer.with_short_coordinates(project.id)

    def account(self, user_id: str, project_id: str) -> Account | None:
        """Return an account of a project; None if there is none."""
        account = self.accounts.get(user_id)
        return account if account is not None and account.exists_in(project_id) else None

    def start_session(
        self, user_id: str, project_id: str, *, impersonation: bool = False, seconds: float | None = None
    ) -> Session:
        """Start a session; it ends after `seconds`, if given."""
        ends = None if seconds is None else self.now_millis + int(seconds * 1000)
        return self.accounts.start_session(
            user_id, project_id, now_millis=self.now_millis, is_impersonation=impersonation, expires_at_millis=ends
        )

    def remove_team(self, team_id: str) -> None:
        """Remove a team with its memberships, permissions and API keys."""
        self.teams.remove(team_id)
        self.api_keys.remove_owner(team_id)

    def _forget_user(self, user_id: str) -> None:
        self.teams.remove_user(user_id)
        self.api_keys.remove_owner(user_id)
