"""App config that adds checks of ``STACK_AUTH`` and of the order of ``MIDDLEWARE`` to ``manage.py check``."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from ...errors import ConfigError
from .middleware import StackAuthMiddleware, stack_auth_config

_MIDDLEWARE = "stackauth_middleware.contrib.django.StackAuthMiddleware"
_FETCH = "django.middleware.cache.FetchFromCacheMiddleware"
_UPDATE = "django.middleware.cache.UpdateCacheMiddleware"
_CORS = "corsheaders.middleware.CorsMiddleware"


class StackAuthAppConfig(AppConfig):
    """App config that registers the checks. There are no models, templates or commands."""

    name = "stackauth_middleware.contrib.django"
    label = "stackauth"
    verbose_name = "Stack Auth"

    def ready(self) -> None:
        """Register the checks and the extension of drf-spectacular, and make the config."""
        checks.register(check_settings, checks.Tags.security)
        checks.register(check_middleware, checks.Tags.security)
        with suppress(ConfigError):  # reported by the check, and raised when a server starts
            stack_auth_config()  # the fixture `stackauth` reads the project of the newest config
        if apps.is_installed("drf_spectacular"):
            from . import spectacular  # noqa: F401 - its import registers the extension


def check_settings(**options: Any) -> list[checks.CheckMessage]:
    """Return an error if ``STACK_AUTH`` is invalid, so that no server could start."""
    try:
        stack_auth_config()
    except ConfigError as error:
        return [checks.Error(str(error), hint="Correct settings.STACK_AUTH.", id="stackauth.E001")]
    return []


def check_middleware(**options: Any) -> list[checks.CheckMessage]:
    """Return errors and warnings for a ``MIDDLEWARE`` that leaves requests unauthenticated or refusals unreadable."""
    entries = list(settings.MIDDLEWARE)
    ours = [at for at, entry in enumerate(entries) if _is_ours(entry)]
    if len(ours) != 1:
        return [
            checks.Error(
                f"MIDDLEWARE has {len(ours)} Stack Auth middlewares.",
                hint=f"It must have {_MIDDLEWARE!r}, exactly once: without it requests are not authenticated.",
                id="stackauth.E002",
            )
        ]
    above, below = entries[: ours[0]], entries[ours[0] + 1 :]
    found: list[checks.CheckMessage] = []
    if _FETCH in above:
        found.append(
            checks.Error(
                f"{_FETCH!r} stands above the Stack Auth middleware.",
                hint=f"Move it below, and leave {_UPDATE!r} above: otherwise cached pages are served without a token.",
                id="stackauth.E003",
            )
        )
    if _UPDATE in below:
        found.append(
            checks.Error(
                f"{_UPDATE!r} stands below the Stack Auth middleware.",
                hint=f"Move it above, and leave {_FETCH!r} below: otherwise it stores the page of one user before Vary "
                "and Cache-Control are set, and the next user gets it.",
                id="stackauth.E006",
            )
        )
    if _CORS in below and not _names_origins():
        found.append(
            checks.Warning(
                f"{_CORS!r} stands below the Stack Auth middleware.",
                hint="Move it above, or set CORS_ORIGINS in STACK_AUTH: otherwise preflights are refused, and browsers "
                "hide refusals from other origins.",
                id="stackauth.W004",
            )
        )
    if _has_channels() and settings.ASGI_APPLICATION:
        found.append(
            checks.Warning(
                "MIDDLEWARE does not cover the WebSockets of Channels.",
                hint="Wrap the application behind 'websocket' of ProtocolTypeRouter in StackAuthASGIMiddleware. "
                "Where that is done, or there are no WebSockets: SILENCED_SYSTEM_CHECKS = ['stackauth.W005'].",
                id="stackauth.W005",
            )
        )
    return found


def _has_channels() -> bool:
    """Return whether Channels is in use. Its server Daphne may be the only one of the two in ``INSTALLED_APPS``."""
    named = {entry.partition(".")[0] for entry in settings.INSTALLED_APPS}
    return "channels" in named or ("daphne" in named and find_spec("channels") is not None)


def _is_ours(entry: str) -> bool:
    try:
        middleware = import_string(entry)
    except ImportError:
        return False  # Django itself raises when it starts
    return isinstance(middleware, type) and issubclass(middleware, StackAuthMiddleware)


def _names_origins() -> bool:
    try:
        return bool(stack_auth_config().cors_origins)
    except ConfigError:
        return True  # reported as E001
