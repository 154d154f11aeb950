"""Teams, permissions and API keys that a test sets up."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from .._core.users import UserType
from ._account import Account
from ._api_keys import StoredApiKey
from ._claims import account_from_claims, full_claims, overridden, subject_of
from ._signing import Signing
from ._teams import Held, Scope, Team


class Arranging(Signing):
    """Base class that sets up users, teams, permissions and API keys.

    Where a method takes a user, it takes the arguments of `LocalStackAuth.token`: an account or the id of one, or
    claims such as ``sub=...``. Without any, it is the default user of ``token()`` and ``headers()``.
    """

    def user(self, user: Account | str | None = None, *, project_id: str | None = None, **claims: Any) -> Account:
        """Return the account of a user, which is created from the claims if a test did not create it.

        Args:
            user: an account or its id.
            project_id: the project; None for every project, or for that of `LocalStackAuth`, if it has one.
            claims: as for `token`, with `user_type`.

        Raises:
            KeyError: `user` is an id without an account.
            ValueError: the claim ``sub`` is not a user id.
        """
        account, kind = subject_of(self.users, user, claims.pop("user_type", None), claims)
        project_id = project_id or self._stored_in
        full = full_claims(
            account,
            kind,
            project_id=project_id,
            issuer_url="",
            session_id=None,
            now=self._store.clock(),
            expires_in=1,
        )
        described = account_from_claims(overridden(full, claims), project_id)
        if described is None:
            raise ValueError("sub must be the id of a user")
        self.users.auto_create(described)
        return self.users.get(described.id) or described

    def team(
        self,
        display_name: str = "Team",
        *,
        members: Iterable[Account | str] = (),
        team_id: str | None = None,
        project_id: str | None = None,
        client_metadata: Any = None,
        client_read_only_metadata: Any = None,
        server_metadata: Any = None,
    ) -> Team:
        """Create a team.

        Args:
            display_name: its name.
            members: accounts or their ids. Each gets the permission ``team_member``. For an id without
                an account, one is created with the claims of the default user.
            team_id: a UUID; None for a new one.
            project_id: the project; None for every project, or for that of `LocalStackAuth`, if it has one.
            client_metadata: metadata that clients may write.
            client_read_only_metadata: metadata that clients may read.
            server_metadata: metadata for servers only.

        Example:
            ``team = stackauth.team(members=["11111111-1111-4111-8111-111111111111"])``
        """
        team = Team(
            id=team_id or str(uuid.uuid4()),
            project_id=project_id or self._stored_in,
            display_name=display_name,
            created_at_millis=self._store.now_millis,
            client_metadata=client_metadata,
            client_read_only_metadata=client_read_only_metadata,
            server_metadata=server_metadata,
        )
        self._store.teams.add(team)
        for member in members:
            user_id = member.id if isinstance(member, Account) else member
            account = self.users.get(user_id) or self.user(sub=user_id, project_id=team.project_id)
            self._store.teams.add_member(team.id, account.id)
        return team

    def grant(
        self,
        permission_id: str,
        user: Account | str | None = None,
        *,
        team: Team | str | None = None,
        project_id: str | None = None,
        **claims: Any,
    ) -> None:
        """Grant a permission in a team, or in the project if no team is given.

        A permission that is not defined yet is defined first, without contained permissions. A user who is not a member
        of the team becomes one.

        Args:
            permission_id: such as ``"read"`` or ``"$read_members"``.
            user: as for `user`.
            team: the team or its id.
            project_id: the project; None for every project, or for that of `LocalStackAuth`, if it has one.
            claims: as for `user`.

        Raises:
            KeyError: there is no such team, or `user` is an id without an account.

        Example:
            ``stackauth.grant("admin")``; ``stackauth.grant("read", sub=jane, team=team)``
        """
        project_id = project_id or self._stored_in
        account = self.user(user, project_id=project_id, **claims)
        scope: Scope = "project" if team is None else "team"
        if permission_id not in self._store.teams.definitions(scope):
            self._store.teams.define(permission_id, scope=scope)
        team_id = "" if team is None else team.id if isinstance(team, Team) else team
        if team_id:
            self._store.teams.add_member(team_id, account.id)
        self._store.teams.grant(project_id, Held(team_id, account.id, permission_id))

    def define_permission(self, permission_id: str, *, contains: Iterable[str] = (), scope: Scope = "team") -> None:
        """Define a permission that contains others, or replace its definition.

        Args:
            permission_id: such as ``"reporter"``.
            contains: ids of permissions of the same scope.
            scope: ``"team"`` or ``"project"``.
        """
        self._store.teams.define(permission_id, contains=contains, scope=scope)

    def api_key(
        self,
        user: Account | str | None = None,
        *,
        team: Team | str | None = None,
        description: str = "",
        expires_in: float | None = None,
        public: bool = False,
        revoked: bool = False,
        project_id: str | None = None,
        user_type: UserType | str | None = None,
        **claims: Any,
    ) -> str:
        """Create an API key of a team, or of a user if no team is given, and return its value.

        Args:
            user: as for `user`.
            team: the team or its id.
            description: what the key is for.
            expires_in: seconds from now to the expiry; negative for an expired key; None for a key that does not
                expire.
            public: whether it is a public key, ``pk_...``.
            revoked: whether it is revoked already. `revoke_api_key` revokes one later.
            project_id: the project; None for every project, or for that of `LocalStackAuth`, if it has one.
            user_type: as for `token`.
            claims: as for `user`.

        Raises:
            KeyError: `user` is an id without an account.

        Example:
            ``client.get("/v1/report", headers={"x-api-key": stackauth.api_key(sub=jane)})``
        """
        project_id = project_id or self._stored_in
        if team is None:
            owner_id = self.user(user, project_id=project_id, user_type=user_type, **claims).id
        else:
            owner_id = team.id if isinstance(team, Team) else team
        now = self._store.now_millis
        key = self._store.api_keys.create(
            "user" if team is None else "team",
            owner_id,
            project_id,
            created_at_millis=now,
            description=description,
            is_public=public,
            expires_at_millis=None if expires_in is None else now + int(expires_in * 1000),
        )
        if revoked:
            self._store.api_keys.revoke(key.id, now)
        return key.value

    def revoke_api_key(self, value: str, *, project_id: str | None = None) -> StoredApiKey:
        """Revoke an API key.

        Args:
            value: what `api_key` returned.
            project_id: the project; None for every project, or for that of `LocalStackAuth`, if it has one.

        Raises:
            KeyError: there is no such key.
        """
        key = self._store.api_keys.find(value, project_id or self.project_id)
        if key is None:
            raise KeyError("there is no such API key")
        return self._store.api_keys.revoke(key.id, self._store.now_millis)
