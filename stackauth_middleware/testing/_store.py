"""What a Stack Auth server stores: one object that the endpoints and `LocalStackAuth` share."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ._account import Account
from ._accounts import Accounts, Session
from ._api_keys import ApiKeys
from ._issuer import Issuer
from ._projects import Project, Projects
from ._teams import Teams

_MAX_TOKENS = 10_000


class ImplicitTokens:
    """The newest tokens that were made without naming a project, each with a function that signs it for another one.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._signers: dict[str, Callable[[str, str], str]] = {}

    def __contains__(self, token: str) -> bool:
        return token in self._signers

    def add(self, token: str, sign: Callable[[str, str], str]) -> None:
        """Add a token. `sign` takes a project id and the base URL of an issuer."""
        with self._lock:
            self._signers[token] = sign
            if len(self._signers) > _MAX_TOKENS:
                del self._signers[next(iter(self._signers))]

    def signed_for(self, token: str, project_id: str, issuer_url: str) -> str | None:
        """Return the token signed for a project; None if the token was made with a project named."""
        sign = self._signers.get(token)
        return None if sign is None else sign(project_id, issuer_url)


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
        self.accounts = Accounts(self._remove_user_data)
        self.implicit_tokens = ImplicitTokens()

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

    def _remove_user_data(self, user_id: str) -> None:
        self.teams.remove_user(user_id)
        self.api_keys.remove_owner(user_id)
