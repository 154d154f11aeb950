"""Stack Auth (Hexclave) authentication for any ASGI or WSGI app: two middlewares, two verifiers, and the user."""

from __future__ import annotations

from ._core.config import StackAuthConfig
from ._core.rules import Rule
from ._core.users import User, UserProfile, UserType
from ._handler_api import aload_profile, get_user, load_profile, require_user
from ._verifiers import AsyncVerifier, Verifier
from ._version import __version__ as __version__
from .asgi import StackAuthASGIMiddleware
from .errors import AuthServerError, ConfigError, ErrorCode, RefusedError, StackAuthError
from .wsgi import StackAuthWSGIMiddleware

__all__ = [
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
    "aload_profile",
    "get_user",
    "load_profile",
    "require_user",
]
