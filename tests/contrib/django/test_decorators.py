"""``require_auth`` for Django's views: functions and classes, sync and async."""

from __future__ import annotations

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from stackauth_middleware import ConfigError
from stackauth_middleware.contrib.django import SignedInRequest, require_auth
from stackauth_middleware.testing import LocalStackAuth

from .. import cases
from ..cases import JANE
from . import project
from .project import Site, installed, ran


@pytest.mark.parametrize("folder", ["", "async/"])
def test_a_view_has_a_user(folder: str, site: Site, stackauth: LocalStackAuth) -> None:
    assert site.answer(f"/optional/{folder}guarded", stackauth.headers())[::2] == (200, {"email": JANE["email"]})


@pytest.mark.parametrize("folder", ["", "async/"])
def test_a_view_has_the_profile(folder: str, site: Site, stackauth: LocalStackAuth) -> None:
    """With the user, who is then what the account says, not the token."""
    stackauth.users.create(JANE["id"], primary_email="new@example.com", server_metadata={"plan": "pro"})
    assert site.get(f"/optional/{folder}profile", stackauth.headers()).status_code == 200
    assert (ran[-1].email, ran[-1].profile.server_metadata) == ("new@example.com", {"plan": "pro"})
    assert stackauth.requests.count("users/me") == 1


@pytest.mark.parametrize("folder", ["", "async/"])
@pytest.mark.parametrize("name", cases.REFUSED_INSIDE)
def test_nobody_is_let_into_a_view(name: str, folder: str, site: Site, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED_INSIDE[name]
    kind, view = case.path.removeprefix("/").split("/")
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert site.answer(f"/{kind}/{folder}{view}", headers) == case.answer()
    assert [each for each in ran if each != "below"] == []


@pytest.mark.parametrize("folder", ["", "async/"])
@pytest.mark.parametrize("name", cases.NO_PROFILE)
def test_without_the_profile_nobody_is(name: str, folder: str, asgi: bool, stackauth: LocalStackAuth) -> None:
    with installed():
        site, case = Site(asgi=asgi), cases.NO_PROFILE[name]
        headers = case.send(stackauth)
        with case.trouble(stackauth):
            assert site.answer(f"/optional/{folder}profile", headers) == case.answer()
    assert ran == []


def test_sync_and_async_views_stay_what_they_are() -> None:
    """With the names and marks of the view, in either order with Django's own decorators."""
    assert not iscoroutinefunction(project.guarded)
    assert iscoroutinefunction(project.aguarded)
    assert project.guarded.__name__ == "guarded"
    for view in (csrf_exempt(require_auth(project.post)), require_auth(csrf_exempt(project.post))):
        assert view.csrf_exempt is True  # type: ignore[attr-defined]


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


def test_without_a_middleware_the_mistake_is_named(rf: RequestFactory) -> None:
    """It is no 401: nobody could ever be let in."""

    def view(request: HttpRequest) -> HttpResponse:
        raise NotImplementedError

    with pytest.raises(ConfigError, match="no Stack Auth middleware saw this request"):
        require_auth(view)(rf.get("/"))


@pytest.fixture
def rf() -> RequestFactory:
    return RequestFactory()
