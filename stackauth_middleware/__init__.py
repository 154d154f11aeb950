"""Stack Auth (Hexclave) authentication for any ASGI or WSGI app: two middlewares, two verifiers, and the user."""

from __future__ import annotations

from ._core.api_keys import ApiKey, ApiKeyType
from ._core.config import StackAuthConfig
from ._core.rules import Rule
from ._core.users import User, UserProfile, UserType
from ._handler_api import aload_profile, get_api_key, get_user, load_profile, require_user
from ._per_user import per_user
from ._permission_api import (
    ahas_permission,
    arequire_permission,
    arequire_team,
    ateams,
    has_permission,
    require_permission,
    require_team,
    teams,
)
from ._verifiers import AsyncVerifier, Verifier
from ._version import __version__ as __version__
from .asgi import StackAuthASGIMiddleware
from .errors import AuthServerError, ConfigError, ErrorCode, RefusedError, StackAuthError
from .wsgi import StackAuthWSGIMiddleware

__all__ = [
    "ApiKey",
    "ApiKeyType",
    "AsyncVerifier",
    "AuthServerError",
    "ConfigError",
    "ErrorCode",
    "RefusedError",
    "Rule",
    "StackAuthASGIMiddleware",
    "StackAuthConfig",
    "StackAuthError",
    "StackAuthWSGIMiddleware",
    "User",
    "UserProfile",
    "UserType",
    "Verifier",
    "ahas_permission",
    "aload_profile",
    "arequire_permission",
    "arequire_team",
    "ateams",
    "get_api_key",
    "get_user",
    "has_permission",
    "load_profile",
    "per_user",
    "require_permission",
    "require_team",
    "require_user",
    "teams",
]
