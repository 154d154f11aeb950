"""``require_auth`` for Django's views: functions and classes, sync and async."""

from __future__ import annotations

from asgiref.sync import iscoroutinefunction
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from stackauth_middleware.contrib.django import SignedInRequest, require_auth
from stackauth_middleware.testing import LocalStackAuth

from .. import cases
from ..cases import JANE
from . import project
from .project import Site, installed


def test_sync_and_async_views_stay_what_they_are() -> None:
    """With the names and marks of the view, in either order with Django's own decorators."""
    assert not iscoroutinefunction(project.guarded)
    assert iscoroutinefunction(project.aguarded)
    assert project.guarded.__name__ == "guarded"
    for view in (csrf_exempt(require_auth(project.post)), require_auth(csrf_exempt(project.post))):
        assert view.csrf_exempt is True


class Item(View):
    """A class of sync handlers."""

    def get(self, request: SignedInRequest, name: str) -> HttpResponse:
        return HttpResponse(f'["{request.stack_user.email}", "{name}"]')


class AsyncItem(View):
    """A class of async handlers."""

    async def get(self, request: SignedInRequest, name: str) -> HttpResponse:
        return HttpResponse(f'["{request.stack_user.email}", "{name}"]')


def test_classes_are_guarded_at_dispatch(asgi: bool, stackauth: LocalStackAuth) -> None:
    by_class = [
        path("optional/plain/<name>", method_decorator(require_auth, name="dispatch")(Item).as_view()),
        path("optional/async/<name>", method_decorator(require_auth, name="dispatch")(AsyncItem).as_view()),
    ]
    with installed(), override_settings(ROOT_URLCONF=tuple(by_class)):
        site = Site(asgi=asgi)
        for kind in ("plain", "async"):
            answer = site.answer(f"/optional/{kind}/axe", stackauth.headers())
            assert answer[::2] == (200, [JANE["email"], "axe"])
            assert site.answer(f"/optional/{kind}/axe") == cases.REFUSED["missing"].answer()
