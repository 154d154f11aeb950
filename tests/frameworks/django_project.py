"""A Django project in one module: settings, URL configuration and views of the site that `sites` describes."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

if not settings.configured:  # once per process: other tests may have configured it
    settings.configure(SECRET_KEY="for tests only", LOGGING_CONFIG=None, USE_TZ=True)
    django.setup()

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import override_settings
from django.urls import path

from stackauth_middleware import get_user

from .sites import READ, ROUTES, WRITE, ran


def _view(template: str) -> Any:
    def view(request: HttpRequest, **params: str) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            return HttpResponse(status=405)
        ran.append(template)
        return HttpResponse(template)

    return view


def _posts(request: HttpRequest) -> HttpResponse:
    ran.append(READ if request.method in ("GET", "HEAD") else WRITE)
    return HttpResponse("posts")


urlpatterns = [path(template[1:].replace("{", "<").replace("}", ">"), _view(template)) for template in ROUTES]
urlpatterns.append(path("posts", _posts))


def _id_of(request: HttpRequest) -> JsonResponse:
    user = get_user(request)
    return JsonResponse({"id": user.id if user else None})


class IdViews:
    """Another URL configuration: each view sends the id of the user."""

    urlpatterns = (path("healthz", _id_of), path("hello", _id_of), path("me", _id_of))


def installed(**more: Any) -> Any:
    """Return the context manager under which Django runs this project."""
    return override_settings(**{"ROOT_URLCONF": __name__, "ALLOWED_HOSTS": ["*"], "MIDDLEWARE": [], **more})


def asgi_application() -> Any:
    from django.core.asgi import get_asgi_application

    with installed():
        return get_asgi_application()


def wsgi_application() -> Any:
    from django.core.wsgi import get_wsgi_application

    with installed():
        return get_wsgi_application()
