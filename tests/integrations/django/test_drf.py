"""Django REST framework behind the middleware."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from django.urls import path
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from stackauth_middleware import User, Verifier, load_profile
from stackauth_middleware.contrib.django.drf import StackAuthAuthentication
from stackauth_middleware.testing import LocalStackAuth

from .. import cases
from ..cases import JANE, Answer
from .project import Site, installed

RENDERED = {"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"], "UNAUTHENTICATED_USER": None}


class AppUser:
    """A Django model for users of the project."""

    is_authenticated = True

    def __init__(self, user: User) -> None:
        self.pk = user.user_id


class AsRow(StackAuthAuthentication):
    def user_for(self, user: User) -> Any:
        return AppUser(user)


class Me(APIView):
    authentication_classes = (StackAuthAuthentication,)
    permission_classes = (IsAuthenticated,)

    def get(self, request: Request) -> Response:
        assert request.auth is None
        return Response({"id": request.user.user_id, "email": request.user.email})

    def post(self, request: Request) -> Response:
        return Response({"id": request.user.user_id, "sent": request.data})


class AnyRequest(Me):
    permission_classes = (AllowAny,)

    def get(self, request: Request) -> Response:
        return Response({"has_user": request.user is not None})


class Mapped(Me):
    authentication_classes = (AsRow, SessionAuthentication)

    def get(self, request: Request) -> Response:
        return Response({"pk": request.user.pk})


class Profile(Me):
    def get(self, request: Request) -> Response:
        return Response(load_profile(request).to_dict())


ROUTES = {"me": Me, "optional/me": Me, "optional/any": AnyRequest, "mapped": Mapped, "profile": Profile}


@pytest.fixture(autouse=True)
def api() -> Iterator[None]:
    urls = tuple(path(route, view.as_view()) for route, view in ROUTES.items())
    with installed(), override_settings(ROOT_URLCONF=urls, REST_FRAMEWORK=RENDERED):
        yield


def test_the_user_is_the_requests_user(asgi: bool, stackauth: LocalStackAuth) -> None:
    """Without any session, or a CSRF token."""
    site = Site(asgi=asgi)
    assert site.answer("/me", stackauth.headers())[::2] == (200, JANE)
    sent = site.answer("/me", stackauth.headers(), method="post", data=b'"x"', content_type="application/json")
    assert sent[::2] == (200, {"id": JANE["id"], "sent": "x"})


def test_the_middleware_refuses_first(asgi: bool) -> None:
    assert Site(asgi=asgi).answer("/me") == cases.REFUSED["missing"].answer()


def test_permissions_decide_about_unauthenticated_requests(asgi: bool, stackauth: LocalStackAuth) -> None:
    """They refuse with the body of the framework and our challenge."""
    site = Site(asgi=asgi)
    answer: Answer = site.answer("/optional/me")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="stack-auth"')
    assert answer.body == {"detail": "Authentication credentials were not provided."}
    assert site.answer("/optional/any").body == {"has_user": False}
    assert site.answer("/optional/any", stackauth.headers()).body == {"has_user": True}


def test_the_challenge_has_the_realm_of_the_settings(asgi: bool) -> None:
    with installed(realm="shop"), override_settings(ROOT_URLCONF=(path("optional/me", Me.as_view()),)):
        assert Site(asgi=asgi).answer("/optional/me").headers["www-authenticate"] == 'Bearer realm="shop"'


def test_app_can_replace_the_user_by_its_own(asgi: bool, stackauth: LocalStackAuth) -> None:
    assert Site(asgi=asgi).answer("/mapped", stackauth.headers())[::2] == (200, {"pk": JANE["id"]})


def test_a_view_loads_the_profile_or_is_answered_for(asgi: bool, stackauth: LocalStackAuth) -> None:
    """By the middleware, in its own form: the framework's handler leaves such an exception alone."""
    site, headers = Site(asgi=asgi), stackauth.headers()
    assert site.answer("/profile", headers).body["primary_email"] == JANE["email"]
    case = cases.NO_PROFILE["unreachable"]
    stackauth.reset()
    with case.trouble(stackauth):
        assert site.answer("/profile", headers) == case.answer()


def test_the_frameworks_own_client_goes_through(stackauth: LocalStackAuth) -> None:
    http = APIClient()
    assert http.get("/me", headers=stackauth.headers()).json() == JANE
    assert http.get("/me").status_code == 401


def test_a_view_can_be_tested_alone(stackauth: LocalStackAuth) -> None:
    """In the framework's own way, with any user, and no middleware."""
    user: Any = Verifier(config=cases.config()).verify(stackauth.token())
    request = APIRequestFactory().get("/me")
    force_authenticate(request, user=user)
    assert Me.as_view()(request).data == JANE
