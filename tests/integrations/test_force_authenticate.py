"""`LocalStackAuth.force_authenticate` with what each framework offers to make a request without the app."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stackauth_middleware import User, get_user, require_user
from stackauth_middleware.testing import LocalStackAuth

ROOT = Path(__file__).parents[2]


def flask_request() -> Any:
    import flask

    return flask.Flask("x").test_request_context("/me").request


def starlette_request() -> Any:
    from starlette.requests import Request

    return Request({"type": "http", "method": "GET", "path": "/me", "headers": []})


def falcon_request() -> Any:
    import falcon.testing

    return falcon.testing.create_req(path="/me")


def bottle_request() -> Any:
    import bottle

    return bottle.BaseRequest({"PATH_INFO": "/me"})


def litestar_request() -> Any:
    from litestar.testing import RequestFactory

    return RequestFactory().get("/me")


def werkzeug_request() -> Any:
    from werkzeug.test import EnvironBuilder

    return EnvironBuilder("/me").get_request()


@pytest.mark.parametrize(
    "make",
    [flask_request, starlette_request, falcon_request, bottle_request, litestar_request, werkzeug_request],
)
def test_forced_user_is_found(stackauth: LocalStackAuth, make: Any) -> None:
    request = make()
    user = stackauth.force_authenticate(request, email="ada@example.com")
    assert isinstance(user, User)
    assert require_user(request).email == "ada@example.com"
    stackauth.force_unauthenticated(request)
    assert get_user(request) is None


DJANGO = """
from django.conf import settings

settings.configure(ROOT_URLCONF=__name__, USE_TZ=True)
import django

django.setup()
from django.http import HttpResponse
from django.test import RequestFactory

from stackauth_middleware import get_user
from stackauth_middleware.contrib.django import require_auth
from stackauth_middleware.testing import LocalStackAuth


@require_auth
def me(request):
    return HttpResponse(request.stack_user.email)


def welcome(request):
    return HttpResponse(str(request.stack_user))


with LocalStackAuth().in_process() as local:
    request = RequestFactory().get("/me")
    local.force_authenticate(request, email="ada@example.com")
    assert me(request).content == b"ada@example.com"
    assert get_user(request) == request.stack_user
    local.force_unauthenticated(request)
    assert welcome(request).content == b"None"
print("good")
"""


def test_forced_user_is_found_in_a_django_view() -> None:
    """In a process of its own, since Django can be configured once only."""
    environ = {**os.environ, "STACK_PROJECT_ID": "00000000-0000-4000-8000-00000000cafe"}
    run = subprocess.run(
        [sys.executable, "-c", DJANGO], check=False, env=environ, cwd=ROOT, capture_output=True, text=True
    )
    assert run.stdout == "good\n", run.stderr
