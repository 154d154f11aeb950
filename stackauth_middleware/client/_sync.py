"""`StackAuthClient`: the server API for threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .._core.api_keys import ApiKey
from .._core.server_api import api_keys, permissions, sessions, teams, users
from .._core.server_api.paths import free_request
from .._core.server_api.permissions import Permission
from .._core.server_api.sessions import Session
from .._core.server_api.teams import Team
from .._core.server_api.values import UNSET, Unset
from .._core.users import UserProfile
from .._io.tracebacks import hide_arguments
from ._calls import SyncCalls

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .._core.server_api.teams import TeamDetails, TeamFields
    from .._core.server_api.users import UserFields, UserListOptions


class StackAuthClient(SyncCalls):
    """The server API of Stack Auth, from any thread (docs/stack-auth.md sections 5, 10, 11 and 12).

    It shares connections, time budget and circuit breaker with the middlewares and verifiers of the same config.
    Making one sends nothing, so it can be made when a module is imported. Only GET requests are retried.

    Args:
        config: the settings; ``secret_server_key`` has to be set.
        settings: the settings as keywords, if `config` is None.

    Raises:
        ConfigError: a setting is missing or invalid. The methods raise the other exceptions.
        ValueError: an argument has the wrong form, such as an id that is not a UUID; nothing is sent.
        TypeError: an argument has the wrong type; nothing is sent.
        ApiError: Stack Auth refuses the call: `NotFoundError`, `ConflictError`, `PermissionDeniedError` or another.
        AuthServerError: Stack Auth cannot be reached or rejects the key, or its answer cannot be read. The change may
            have been made.
        RuntimeError: an event loop runs in this thread and would be blocked; use `AsyncStackAuthClient`.

    Not promised: that profiles which middlewares and verifiers have cached change at once; see ``profile_ttl``.

    Example::

        client = StackAuthClient(project_id="6fbbf22e-f4b2-4c6e-95a1-beab6fa41063", secret_server_key=key)
        user = client.get_user(user_id)
        client.update_user(user.id, server_metadata={"plan": "pro"})
    """

    # -- users -------------------------------------------------------------------------------------

    def get_user(self, user_id: str) -> UserProfile:
        """Return a user of any type.

        Args:
            user_id: id of the user, a UUID.

        Raises:
            NotFoundError: there is no such user in this project.
        """
        return self._send(users.get(user_id))

    def find_user_by_email(self, email: str) -> UserProfile | None:
        """Return the user with this primary email address, or None; case is ignored.

        Several users can have the same address, of whom at most one can sign in with it. That user is preferred, then
        one who has verified the address.

        Args:
            email: the address.

        Not promised: that the user owns the address; see ``primary_email_verified``.
        """
        return self._send_all(users.find_by_email(email))

    def list_users(self, **options: Unpack[UserListOptions]) -> Iterator[UserProfile]:
        """Yield users in the order of sign-up. Each page is fetched when it is needed.

        Args:
            options: `UserListOptions`.

        Raises:
            AuthServerError: also if the pages repeat or do not end.

        Not promised: a consistent list, if users sign up or are deleted meanwhile.

        Example::

            emails = [user.primary_email for user in client.list_users(include_restricted=True)]
        """
        return self._each(users.UserPages(**options))

    @hide_arguments
    def create_user(self, **fields: Unpack[UserFields]) -> UserProfile:
        """Create a user and return it.

        Args:
            fields: `UserFields`.

        Raises:
            ConflictError: another user signs in with this email address.

        Example::

            user = client.create_user(primary_email="jane@example.com", primary_email_auth_enabled=True)
        """
        return self._send(users.create(fields))

    @hide_arguments
    def update_user(self, user_id: str, **fields: Unpack[UserFields]) -> UserProfile:
        """Set fields of a user and return the user. Metadata is replaced as a whole.

        Args:
            user_id: id of the user, a UUID.
            fields: `UserFields`. What is absent or `UNSET` stays as it is; None sets a field to null.

        Raises:
            NotFoundError: there is no such user in this project.
            ConflictError: another user signs in with this email address.

        Example::

            client.update_user(user_id, display_name=None, server_metadata={"plan": "pro"})
        """
        return self._send(users.update(user_id, fields))

    def delete_user(self, user_id: str) -> None:
        """Delete a user, with sessions, memberships and API keys. Raises `NotFoundError`.

        Args:
            user_id: id of the user, a UUID.
        """
        self._send(users.delete(user_id))

    # -- teams -------------------------------------------------------------------------------------

    def list_teams(self, user_id: str | Unset = UNSET) -> list[Team]:
        """Return the teams of a user, the oldest first; the teams of the project if there is no argument.

        Args:
            user_id: id of the user, a UUID. None is an error; it does not mean all teams.

        Not promised: an error for an unknown user: the list is empty.
        """
        return self._send(teams.list_of(user_id))

    def get_team(self, team_id: str) -> Team:
        """Return a team. Raises `NotFoundError`.

        Args:
            team_id: id of the team, a UUID.
        """
        return self._send(teams.get(team_id))

    def create_team(
        self, display_name: str, *, creator_user_id: str | None = None, **fields: Unpack[TeamDetails]
    ) -> Team:
        """Create a team and return it.

        Args:
            display_name: name of the team.
            creator_user_id: id of a user who becomes its first member, with the permissions of a creator.
            fields: `TeamDetails`.
        """
        return self._send(teams.create(display_name, creator_user_id, fields))

    def update_team(self, team_id: str, **fields: Unpack[TeamFields]) -> Team:
        """Set fields of a team and return the team. Raises `NotFoundError`.

        Args:
            team_id: id of the team, a UUID.
            fields: `TeamFields`. What is absent or `UNSET` stays as it is.
        """
        return self._send(teams.update(team_id, fields))

    def delete_team(self, team_id: str) -> None:
        """Delete a team. Raises `NotFoundError`.

        Args:
            team_id: id of the team, a UUID.
        """
        self._send(teams.delete(team_id))

    def add_team_member(self, team_id: str, user_id: str) -> None:
        """Make a user a member of a team. Raises `NotFoundError`, or `ConflictError` if the user is one.

        Args:
            team_id: id of the team, a UUID.
            user_id: id of the user, a UUID.
        """
        self._send(teams.add_member(team_id, user_id))

    def remove_team_member(self, team_id: str, user_id: str) -> None:
        """Remove a user from a team, with the user's permissions in it. Raises `NotFoundError`.

        Args:
            team_id: id of the team, a UUID.
            user_id: id of the user, a UUID.
        """
        self._send(teams.remove_member(team_id, user_id))

    # -- permissions -------------------------------------------------------------------------------

    def list_permissions(self, user_id: str, *, team_id: str | None = None, direct: bool = False) -> list[Permission]:
        """Return the permissions of a user in a team, or in the whole project.

        Args:
            user_id: id of the user, a UUID.
            team_id: id of the team; None for the project. `list_team_permissions` has those of all teams.
            direct: leave out the permissions that the user holds only because another one contains them.

        Not promised: an error for an unknown user or team: the list is empty.

        Example::

            may_read = any(held.id == "read" for held in client.list_permissions(user_id, team_id=team_id))
        """
        return self._send(permissions.list_of(user_id, team_id, direct=direct))

    def list_team_permissions(self, user_id: str, *, direct: bool = False) -> list[Permission]:
        """Return the permissions of a user in each of the user's teams.

        Args:
            user_id: id of the user, a UUID.
            direct: as for `list_permissions`.
        """
        return self._send(permissions.list_of_teams(user_id, direct=direct))

    def grant_permission(self, user_id: str, permission_id: str, *, team_id: str | None = None) -> Permission:
        """Grant a permission in a team, or in the whole project. It may be held already.

        Args:
            user_id: id of the user, a UUID.
            permission_id: id of the permission.
            team_id: id of the team; None for the project.

        Raises:
            NotFoundError: there is no such user or permission, or the user is not a member of the team.
        """
        return self._send(permissions.grant(user_id, permission_id, team_id))

    def revoke_permission(self, user_id: str, permission_id: str, *, team_id: str | None = None) -> None:
        """Revoke a permission in a team, or in the whole project. Raises `NotFoundError` if it is not held.

        Args:
            user_id: id of the user, a UUID.
            permission_id: id of a permission that was granted directly.
            team_id: id of the team; None for the project.
        """
        self._send(permissions.revoke(user_id, permission_id, team_id))

    # -- sessions and API keys ---------------------------------------------------------------------

    def get_active_sessions(self, user_id: str) -> list[Session]:
        """Return the sessions of a user.

        Args:
            user_id: id of the user, a UUID.

        Not promised: sessions that a server made to act as the user; Stack Auth hides them.
        """
        return self._send(sessions.list_of(user_id))

    def revoke_session(self, user_id: str, session_id: str) -> None:
        """End a session. Raises `NotFoundError`.

        Args:
            user_id: id of the user, a UUID.
            session_id: id of the session, a UUID, such as `User.session_id`. If a client sent it, check that it is in
                `get_active_sessions`: Stack Auth does not compare it with `user_id`.

        Not promised: that access tokens end with it; see docs/stack-auth.md section 10.
        """
        self._send(sessions.revoke(user_id, session_id))

    def revoke_all_sessions(self, user_id: str) -> int:
        """End the sessions that `get_active_sessions` shows, one after the other, and return how many were ended.

        Args:
            user_id: id of the user, a UUID.

        Not promised: as for `revoke_session`. After an exception, some sessions are ended: call it again.
        """
        return self._send_all(sessions.revoke_all(user_id))

    @hide_arguments
    def check_api_key(self, value: str) -> ApiKey:
        """Return what Stack Auth knows of a valid API key of a user or team.

        Args:
            value: the API key, from a request. A value of another form, or a public key, is not sent.

        Raises:
            NotFoundError: it is not a key of this project, or its owner is deleted.
            PermissionDeniedError: it is expired or revoked.

        Not promised: that its owner may sign in; see `get_user`. Nothing is cached.

        Example::

            key = client.check_api_key(request.headers["x-api-key"])
        """
        return self._send(api_keys.check(value))

    @hide_arguments
    def request(self, method: str, path: str, *, json: Any = None, params: Mapping[str, object] | None = None) -> Any:
        """Send a request to any route of the API, with server access, and return the JSON of its answer.

        Args:
            method: ``"GET"``, ``"POST"``, ``"PUT"``, ``"PATCH"`` or ``"DELETE"``.
            path: plain path below ``/api/v1``, with or without that prefix. Check ids before you insert them.
            json: JSON value to send, or None.
            params: query parameters.

        Example::

            client.request("GET", "/contact-channels", params={"user_id": user_id})
        """
        return self._send(free_request(method, path, json, params))
