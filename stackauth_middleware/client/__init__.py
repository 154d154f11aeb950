"""The server API of Stack Auth: read and change users, teams, permissions and sessions with the secret server key."""

from __future__ import annotations

from .._core.api_keys import ApiKey, ApiKeyType
from .._core.server_api.errors import ApiError, ConflictError, NotFoundError, PermissionDeniedError
from .._core.server_api.permissions import Permission
from .._core.server_api.sessions import Session
from .._core.server_api.teams import Team, TeamDetails, TeamFields
from .._core.server_api.users import UserFields, UserListOptions
from .._core.server_api.values import UNSET, Unset
from ..errors import AuthServerError
from ._async import AsyncStackAuthClient
from ._sync import StackAuthClient

__all__ = [
    "UNSET",
    "ApiError",
    "ApiKey",
    "ApiKeyType",
    "AsyncStackAuthClient",
    "AuthServerError",
    "ConflictError",
    "NotFoundError",
    "Permission",
    "PermissionDeniedError",
    "Session",
    "StackAuthClient",
    "Team",
    "TeamDetails",
    "TeamFields",
    "Unset",
    "UserFields",
    "UserListOptions",
]
