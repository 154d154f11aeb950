"""The project of `tests.integrations.django` behind the middleware, under WSGI and ASGI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..cases import ORIGIN
from ..django import project
from . import App

from django.core.asgi import get_asgi_application  # isort: skip - once the project above has its settings
from django.core.wsgi import get_wsgi_application  # isort: skip
from django.test import override_settings  # isort: skip
from django.urls import path  # isort: skip


@contextmanager
def serve(site: App, *, asgi: bool, below: str = "") -> Iterator[Any]:
    """Serve the project's views.

    Args:
        site: the app.
        asgi: whether Django runs under ASGI.
        below: the name of a middleware below ours, which Django has to adapt.
    """
    middleware = [
        *([project.OURS] if site.config is not None else []),
        *(["corsheaders.middleware.CorsMiddleware"] if site.cors else []),
        *([f"{project.__name__}.{below}"] if below else []),
        f"{project.__name__}.OwnErrors",
    ]
    site.ran = project.ran
    with override_settings(
        ROOT_URLCONF=urls(asgi=asgi, coroutines=site.plain),
        STACK_AUTH=site.config,
        MIDDLEWARE=middleware,
        ALLOWED_HOSTS=["*"],
        CORS_ALLOWED_ORIGINS=[ORIGIN],
    ):
        yield get_asgi_application() if asgi else get_wsgi_application()
    project.ran.clear()


def urls(*, asgi: bool, coroutines: bool) -> tuple[Any, ...]:
    """Return the routes, with the coroutine of the name where there is one, and the stream that suits the server."""
    views = dict(project.VIEWS)
    for route, view in project.VIEWS.items():
        usual = route.replace("async/", "")
        if usual != route and (asgi if usual == "stream" else coroutines):
            views[usual] = view
    return tuple(path(route, view) for route, view in views.items())
