"""The routes of `table` as a Django URL configuration."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

if not settings.configured:  # once a process; other tests may have come first
    settings.configure(SECRET_KEY="for tests only", LOGGING_CONFIG=None, USE_TZ=True)
    django.setup()

from django.http import HttpResponse
from django.test import override_settings
from django.urls import path

from .table import ROUTES, Route, record


def _view(*routes: Route) -> Any:
    """Return a function view, which takes every method unless it looks at the method itself."""

    def view(request: Any, **_: str) -> HttpResponse:
        method = "GET" if request.method == "HEAD" else request.method
        for route in routes:
            if method in route.methods:
                record(route.name, getattr(request, "scope", request.META))
                return HttpResponse(route.name)
        return HttpResponse(status=405)

    return view


def _patterns() -> list[Any]:
    by_template: dict[str, list[Route]] = {}
    for route in ROUTES:
        if route.kind != "websocket":
            by_template.setdefault(route.template, []).append(route)
    patterns = []
    for template, routes in by_template.items():
        written = template[1:].replace("{name}", "<str:name>").replace("{rest}", "<path:rest>")
        patterns.append(path(written, _view(*routes)))
        if routes[0].kind == "mount":
            patterns.append(path(f"{written}/<path:rest>", _view(*routes)))
    return patterns


urlpatterns = _patterns()


def installed(**more: Any) -> Any:
    """Return the context manager under which Django runs this project."""
    return override_settings(**{"ROOT_URLCONF": __name__, "ALLOWED_HOSTS": ["*"], "MIDDLEWARE": [], **more})
