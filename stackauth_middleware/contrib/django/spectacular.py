"""drf-spectacular: the security scheme of `StackAuthAuthentication`. The app config imports it if both are in use."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from .middleware import stack_auth_config

__all__ = ["StackAuthScheme"]


class StackAuthScheme(OpenApiAuthenticationExtension):  # type: ignore[misc]  # without annotations
    """Describes the access token in the OpenAPI schema: as a Bearer token, or else as the header that is read.

    drf-spectacular finds it by itself.

    Example::

        INSTALLED_APPS = ["rest_framework", "drf_spectacular", "stackauth_middleware.contrib.django"]
    """

    target_class = "stackauth_middleware.contrib.django.drf.StackAuthAuthentication"
    match_subclasses = True
    name = "StackAuth"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """Return the security scheme object (OpenAPI 3.1 section 4.8.27)."""
        sources = stack_auth_config().token_sources
        if "bearer" in sources:
            return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        name = "x-stack-access-token" if "x-stack-access-token" in sources else "x-stack-auth"
        return {"type": "apiKey", "in": "header", "name": name}
