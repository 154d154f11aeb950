"""`AsyncStackAuthClient`: the server API for tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
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
from ._calls import AsyncCalls

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .._core.server_api.teams import TeamDetails, TeamFields
    from .._core.server_api.users import UserFields, UserListOptions


class AsyncStackAuthClient(AsyncCalls):
    """Same as `StackAuthClient`, but async: for any task of an asyncio or trio event loop.

    Args:
        config: the settings; ``secret_server_key`` has to be set.
        settings: the settings as keywords, if `config` is None.

    Raises:
        ConfigError: a setting is missing or invalid. The methods raise what those of `StackAuthClient` raise.

    Not promised: that a cancelled call ends at once, or that it changes nothing: it has up to a second to finish.
    Nor that connections are closed when an event loop ends without `aclose`.

    Example::

        async with AsyncStackAuthClient() as client:
            async for user in client.list_users():
                print(user.id)
    """

    # -- users -------------------------------------------------------------------------------------

    async def get_user(self, user_id: str) -> UserProfile:
        """Same as `StackAuthClient.get_user`, but async."""
        return await self._send(users.get(user_id))

    async def find_user_by_email(self, email: str) -> UserProfile | None:
        """Same as `StackAuthClient.find_user_by_email`, but async."""
        return await self._send_all(users.find_by_email(email))

    def list_users(self, **options: Unpack[UserListOptions]) -> AsyncIterator[UserProfile]:
        """Same as `StackAuthClient.list_users`, but an async iterator."""
        return self._each(users.UserPages(**options))

    @hide_arguments
    async def create_user(self, **fields: Unpack[UserFields]) -> UserProfile:
        """Same as `StackAuthClient.create_user`, but async."""
        return await self._send(users.create(fields))

    @hide_arguments
    async def update_user(self, user_id: str, **fields: Unpack[UserFields]) -> UserProfile:
        """Same as `StackAuthClient.update_user`, but async."""
        return await self._send(users.update(user_id, fields))

    async def delete_user(self, user_id: str) -> None:
        """Same as `StackAuthClient.delete_user`, but async."""
        await self._send(users.delete(user_id))

    # -- teams -------------------------------------------------------------------------------------

    async def list_teams(self, user_id: str | Unset = UNSET) -> list[Team]:
        """Same as `StackAuthClient.list_teams`, but async."""
        return await self._send(teams.list_of(user_id))

    async def get_team(self, team_id: str) -> Team:
        """Same as `StackAuthClient.get_team`, but async."""
        return await self._send(teams.get(team_id))

    async def create_team(
        self, display_name: str, *, creator_user_id: str | None = None, **fields: Unpack[TeamDetails]
    ) -> Team:
        """Same as `StackAuthClient.create_team`, but async."""
        return await self._send(teams.create(display_name, creator_user_id, fields))

    async def update_team(self, team_id: str, **fields: Unpack[TeamFields]) -> Team:
        """Same as `StackAuthClient.update_team`, but async."""
        return await self._send(teams.update(team_id, fields))

    async def delete_team(self, team_id: str) -> None:
        """Same as `StackAuthClient.delete_team`, but async."""
        await self._send(teams.delete(team_id))

    async def add_team_member(self, team_id: str, user_id: str) -> None:
        """Same as `StackAuthClient.add_team_member`, but async."""
        await self._send(teams.add_member(team_id, user_id))

    async def remove_team_member(self, team_id: str, user_id: str) -> None:
        """Same as `StackAuthClient.remove_team_member`, but async."""
        await self._send(teams.remove_member(team_id, user_id))

    # -- permissions -------------------------------------------------------------------------------

    async def list_permissions(
        self, user_id: str, *, team_id: str | None = None, direct: bool = False
    ) -> list[Permission]:
        """Same as `StackAuthClient.list_permissions`, but async."""
        return await self._send(permissions.list_of(user_id, team_id, direct=direct))

    async def list_team_permissions(self, user_id: str, *, direct: bool = False) -> list[Permission]:
        """Same as `StackAuthClient.list_team_permissions`, but async."""
        return await self._send(permissions.list_of_teams(user_id, direct=direct))

    async def grant_permission(self, user_id: str, permission_id: str, *, team_id: str | None = None) -> Permission:
        """Same as `StackAuthClient.grant_permission`, but async."""
        return await self._send(permissions.grant(user_id, permission_id, team_id))

    async def revoke_permission(self, user_id: str, permission_id: str, *, team_id: str | None = None) -> None:
        """Same as `StackAuthClient.revoke_permission`, but async."""
        await self._send(permissions.revoke(user_id, permission_id, team_id))

    # -- sessions and API keys ---------------------------------------------------------------------

    async def get_active_sessions(self, user_id: str) -> list[Session]:
        """Same as `StackAuthClient.get_active_sessions`, but async."""
        return await self._send(sessions.list_of(user_id))

    async def revoke_session(self, user_id: str, session_id: str) -> None:
        """Same as `StackAuthClient.revoke_session`, but async."""
        await self._send(sessions.revoke(user_id, session_id))

    async def revoke_all_sessions(self, user_id: str) -> int:
        """Same as `StackAuthClient.revoke_all_sessions`, but async."""
        return await self._send_all(sessions.revoke_all(user_id))

    @hide_arguments
    async def check_api_key(self, value: str) -> ApiKey:
        """Same as `StackAuthClient.check_api_key`, but async."""
        return await self._send(api_keys.check(value))

    @hide_arguments
    async def request(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, object] | None = None
    ) -> Any:
        """Same as `StackAuthClient.request`, but async."""
        return await self._send(free_request(method, path, json, params))
