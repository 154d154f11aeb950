"""The server API in threads and tasks. Type-checked, not run."""

from __future__ import annotations

from uuid import UUID

from stackauth_middleware import StackAuthConfig, UserProfile
from stackauth_middleware.client import (
    UNSET,
    ApiKey,
    AsyncStackAuthClient,
    NotFoundError,
    Permission,
    Session,
    StackAuthClient,
    Team,
    UserFields,
)

client = StackAuthClient(StackAuthConfig())


def sync(user_id: str, name: str | None) -> UserProfile | None:
    changes: UserFields = {"display_name": name, "server_metadata": {"plan": ["pro"]}}
    updated: UserProfile = client.update_user(user_id, **changes)
    client.update_user(user_id, display_name=UNSET, primary_email=None)
    names: list[str | None] = [user.display_name for user in client.list_users(desc=True, page_size=10)]
    team: Team = client.create_team(names[0] or "", creator_user_id=updated.id, client_metadata=None)
    held: list[Permission] = client.list_permissions(user_id, team_id=team.id)
    sessions: list[Session] = client.get_active_sessions(user_id)
    key: ApiKey = client.check_api_key("sk_")
    assert key.type == "user" or key.type.value == "team"
    client.request("POST", "/emails", json={"ids": [held[0].id, sessions[0].id]}, params={"dry": True, "at": None})
    try:
        return client.get_user(user_id)
    except NotFoundError as error:
        print(error.code, error.status)
        return client.find_user_by_email("jane@example.com")


async def tasks(user_id: str) -> int:
    async with AsyncStackAuthClient(project_id="internal", secret_server_key="ssk_") as client:
        async for user in client.list_users(query=str(UUID(user_id))):
            await client.delete_user(user.id)
        teams: list[Team] = await client.list_teams()
        await client.update_team(teams[0].id, display_name="Sales")
        return await client.revoke_all_sessions(user_id)
