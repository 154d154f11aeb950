"""Django: a ``MIDDLEWARE`` entry for WSGI and ASGI, a decorator for views, system checks.

::

    INSTALLED_APPS = [..., "stackauth_middleware.contrib.django"]  # for the checks
    MIDDLEWARE = [..., "stackauth_middleware.contrib.django.StackAuthMiddleware", ...]
    STACK_AUTH = {"PROJECT_ID": "…", "RULES": [Rule("/healthz", "public")]}

The keys of ``STACK_AUTH`` are the settings of `StackAuthConfig` in capitals. Settings that are left out, or all of
them without ``STACK_AUTH``, come from the environment. For Django REST framework see `drf`.
"""

from __future__ import annotations

from .decorators import require_auth, require_permission
from .middleware import SignedInRequest, StackAuthMiddleware, StackAuthRequest, stack_auth_config

__all__ = [
    "SignedInRequest",
    "StackAuthMiddleware",
    "StackAuthRequest",
    "require_auth",
    "require_permission",
    "stack_auth_config",
]
