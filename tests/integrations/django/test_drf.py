"""Django REST framework behind the middleware."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.db import models
from django.test import override_settings
from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import (
    AllowAny,
    DjangoModelPermissions,
    DjangoObjectPermissions,
    IsAdminUser,
    IsAuthenticated,
    IsAuthenticatedOrReadOnly,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory, force_authenticate
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from stackauth_middleware import User, Verifier, load_profile
from stackauth_middleware.contrib.django.drf import APIUser, StackAuthAuthentication
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


class Thing(models.Model):
    class Meta:
        app_label = "shop"


class Permitted(Me):
    """A view whose throttle reads ``pk``, and a permission chosen by the test."""

    throttle_classes = (UserRateThrottle,)

    def get(self, request: Request) -> Response:
        return Response({"pk": request.user.pk})

    @property
    def queryset(self) -> Any:
        return Thing.objects.none()


class Described(Mapped):
    schema = AutoSchema()


class Profile(Me):
    def get(self, request: Request) -> Response:
        return Response(load_profile(request).to_dict())


ROUTES = {
    "me": Me,
    "optional/me": Me,
    "optional/any": AnyRequest,
    "mapped": Mapped,
    "limited": Permitted,
    "profile": Profile,
}


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


def test_throttle_counts_by_user(asgi: bool, stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UserRateThrottle, "rate", "1/day", raising=False)
    cache.clear()
    site, other = Site(asgi=asgi), "22222222-2222-4222-8222-222222222222"
    answers = [site.answer("/limited", stackauth.headers(**sub)) for sub in ({}, {}, {"sub": other})]
    assert [answer.status for answer in answers] == [200, 429, 200]
    assert answers[2].body == {"pk": other}


@pytest.mark.parametrize(
    ("permission", "reading", "writing"),
    [
        (IsAdminUser, 403, 403),
        (DjangoModelPermissions, 200, 403),
        (DjangoObjectPermissions, 200, 403),
        (IsAuthenticatedOrReadOnly, 200, 200),
    ],
)
def test_permission_classes_see_a_user_without_permissions(
    permission: Any, reading: int, writing: int, stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Permitted, "permission_classes", (permission,))
    monkeypatch.setattr(UserRateThrottle, "rate", None, raising=False)
    site, headers = Site(asgi=False), stackauth.headers()
    assert site.answer("/limited", headers).status == reading
    written = site.answer("/limited", headers, method="post", data=b"{}", content_type="application/json")
    assert written.status == writing


def test_user_has_the_attributes_of_a_django_user(stackauth: LocalStackAuth) -> None:
    user = Verifier(config=cases.config()).verify(stackauth.token())
    made = StackAuthAuthentication().user_for(user)
    assert (made, hash(made), made.claims) == (user, hash(user), user.claims)
    assert made not in (JANE, dataclasses.replace(user, email=None))
    assert (made.pk, made.get_username()) == (user.user_id, user.user_id)
    assert (made.is_active, made.is_staff, made.is_superuser) == (True, False, False)
    assert [made.has_perms([]), made.has_perms(["a.b"]), made.has_perm("a.b"), made.has_module_perms("a")] == (
        [True, False, False, False]
    )
    again = pickle.loads(pickle.dumps(made))
    assert (type(again), again, again.claims) == (APIUser, made, user.claims)


@pytest.mark.parametrize(
    ("sources", "scheme"),
    [
        (["bearer", "x-stack-auth"], {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}),
        (["x-stack-access-token"], {"type": "apiKey", "in": "header", "name": "x-stack-access-token"}),
        (["x-stack-auth"], {"type": "apiKey", "in": "header", "name": "x-stack-auth"}),
    ],
    ids=["bearer", "access-token", "json"],
)
def test_spectacular_describes_the_token(sources: list[str], scheme: dict[str, str]) -> None:
    """For subclasses too; the app config registers the extension."""
    urls = (path("mapped", Described.as_view()),)
    apps = ["drf_spectacular", "stackauth_middleware.contrib.django"]
    with installed(token_sources=sources), override_settings(ROOT_URLCONF=urls, INSTALLED_APPS=apps):
        schema = SchemaGenerator(patterns=list(urls)).get_schema(public=True)
    assert schema["components"]["securitySchemes"]["StackAuth"] == scheme
    assert {"StackAuth": []} in schema["paths"]["/mapped"]["get"]["security"]
