"""Django's caches: no user gets the page of another, and no page that requires a user is served without a token."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.views.decorators.cache import cache_control, cache_page
from django.views.decorators.vary import vary_on_headers

from stackauth_middleware import Rule, require_user
from stackauth_middleware.contrib.django import require_auth
from stackauth_middleware.testing import LocalStackAuth

from . import project
from .project import OURS, Site

UPDATE = "django.middleware.cache.UpdateCacheMiddleware"
FETCH = "django.middleware.cache.FetchFromCacheMiddleware"
VARY = "X-Stack-Access-Token, X-Hexclave-Access-Token, Authorization, X-Stack-Auth, X-Hexclave-Auth"
ANN = {"sub": "11111111-1111-4111-8111-111111111111"}
BOB = {"sub": "22222222-2222-4222-8222-222222222222"}


def own(request: HttpRequest) -> HttpResponse:
    return HttpResponse(require_user(request).id)


async def aown(request: HttpRequest) -> HttpResponse:
    return own(request)


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("the same for all")


URLS = (
    path("own", own),
    path("async/own", aown),
    path("stream", project.stream),
    path("async/stream", project.astream),
    path("public/page", page),
    path("shared", cache_control(public=True)(page)),
    path("cached/guarded", cache_page(60)(require_auth(own))),
    path("cached/async", cache_page(60)(require_auth(aown))),
    path("cached/unmarked", cache_page(60)(own)),
    path("cached/varied", cache_page(60)(vary_on_headers("X-Stack-Access-Token")(own))),
)


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


def installed(*middleware: str, **stack_auth: Any) -> Any:
    rules = [Rule("/public/**", "public")]
    return override_settings(
        ROOT_URLCONF=URLS,
        MIDDLEWARE=middleware,
        ALLOWED_HOSTS=["testserver"],
        STACK_AUTH={"PROJECT_ID": project.PROJECT, "RULES": rules, **stack_auth},
    )


@pytest.mark.parametrize("route", ["/own", "/async/own", "/cached/guarded", "/cached/async", "/cached/varied"])
def test_user_never_gets_cached_page_of_another_user(route: str, asgi: bool, stackauth: LocalStackAuth) -> None:
    with installed(UPDATE, OURS, FETCH):
        site = Site(asgi=asgi)
        for user in (ANN, BOB, ANN):
            assert site.get(route, stackauth.headers(**user)).content.decode() == user["sub"]
        assert site.get(route).status_code == 401


def test_public_page_is_cached_as_before(asgi: bool, stackauth: LocalStackAuth) -> None:
    with installed(UPDATE, OURS, FETCH):
        answers = [Site(asgi=asgi).get("/public/page", headers) for headers in ({}, stackauth.headers())]
    assert [answer.content for answer in answers] == [b"the same for all"] * 2
    assert all("Vary" not in answer and answer["Cache-Control"] == "max-age=600" for answer in answers)
    assert answers[0]["Expires"] == answers[1]["Expires"]


def test_wrong_orders_do_what_the_checks_say(stackauth: LocalStackAuth) -> None:
    """Should one of them turn out harmless, its check can go: stackauth.E003 and stackauth.E006."""
    with installed(FETCH, OURS, UPDATE):
        site = Site(asgi=False)
        assert site.get("/own", stackauth.headers(**ANN)).status_code == 200
        assert site.get("/own").content.decode() == ANN["sub"]
    cache.clear()
    with installed(OURS, UPDATE, FETCH):
        site = Site(asgi=False)
        assert [site.get("/own", stackauth.headers(**user)).content.decode() for user in (ANN, BOB)] == [ANN["sub"]] * 2


def test_cached_view_that_is_not_marked_is_shared(stackauth: LocalStackAuth) -> None:
    """As docs/caching.md documents for ``cache_page``: it stores the view's response before the middleware sees it."""
    with installed(OURS):
        site = Site(asgi=False)
        found = [site.get("/cached/unmarked", stackauth.headers(**user)).content.decode() for user in (ANN, BOB)]
    assert found == [ANN["sub"]] * 2


@pytest.mark.parametrize("route", ["/own", "/async/own", "/stream", "/async/stream"])
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_answers_are_private_on_streams_too(route: str, asgi: bool, stackauth: LocalStackAuth) -> None:
    with installed(OURS):
        answer = Site(asgi=asgi).get(route, stackauth.headers())
    assert (answer.status_code, answer["Vary"], answer["Cache-Control"]) == (200, VARY, "private")


def test_vary_names_the_enabled_sources_alone_and_public_stands(asgi: bool, stackauth: LocalStackAuth) -> None:
    with installed(OURS, TOKEN_SOURCES=["bearer"]):
        site = Site(asgi=asgi)
        headers = {"authorization": f"Bearer {stackauth.token()}"}
        assert site.get("/own", headers)["Vary"] == "Authorization"
        shared = site.get("/shared", headers)
    assert (shared["Vary"], shared["Cache-Control"]) == ("Authorization", "public")


def test_refusal_of_a_view_is_as_the_middleware_makes_it(asgi: bool, stackauth: LocalStackAuth) -> None:
    with installed(OURS, DEFAULT_ACCESS="optional"):
        answer = Site(asgi=asgi).get("/own")
    assert (answer.status_code, answer["Cache-Control"], "Vary" in answer) == (401, "no-store", False)
