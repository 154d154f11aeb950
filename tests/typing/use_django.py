"""Types of `contrib.django`, with django-stubs. Type-checked, not run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from typing_extensions import assert_type

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig, User, aload_profile, get_user, load_profile
from stackauth_middleware.contrib.django import (
    SignedInRequest,
    StackAuthRequest,
    require_auth,
    require_permission,
    stack_auth_config,
)
from stackauth_middleware.contrib.django.drf import StackAuthAuthentication


def hello(request: StackAuthRequest) -> HttpResponse:
    assert_type(request.stack_user, User | None)
    assert_type(get_user(request), User | None)
    return HttpResponse(request.stack_user.email if request.stack_user else "unauthenticated")


@require_auth
def me(request: SignedInRequest) -> HttpResponse:
    assert_type(request.stack_user, User)
    return JsonResponse({"id": request.stack_user.id, "since": load_profile(request).signed_up_at_millis})


@csrf_exempt
@require_auth(profile=True)
def item(request: SignedInRequest, number: int) -> HttpResponse:
    return JsonResponse({"id": request.stack_user.id, "number": number})


@require_auth
async def ame(request: SignedInRequest) -> HttpResponse:
    return JsonResponse({"id": (await aload_profile(request)).id})


@require_auth(profile=True)
async def aitem(request: SignedInRequest, number: int) -> HttpResponse:
    return JsonResponse({"id": request.stack_user.id, "number": number})


@require_auth
def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.path)


@method_decorator(require_auth, name="dispatch")
class Item(View):
    def get(self, request: SignedInRequest) -> HttpResponse:
        return HttpResponse(request.stack_user.email)


class Api(APIView):
    authentication_classes = (StackAuthAuthentication,)

    def get(self, request: Request) -> Response:
        return Response({"authenticated": get_user(request) is not None})


urlpatterns = [
    path("hello", hello),
    path("me", me),
    path("items/<int:number>", item),
    path("async/me", ame),
    path("async/items/<int:number>", aitem),
    path("plain", plain),
    path("item", Item.as_view()),
    path("api", Api.as_view()),
]

in_the_end: Callable[[HttpRequest], Coroutine[Any, Any, HttpResponse]] = require_auth(ame)
assert_type(stack_auth_config(), StackAuthConfig)
StackAuthASGIMiddleware(object, config=stack_auth_config())


def no_request(name: str) -> HttpResponse:
    return HttpResponse(name)


require_auth(no_request)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


@require_permission("read", team="team_id")
def in_team(request: SignedInRequest, team_id: str) -> HttpResponse:
    return HttpResponse(request.stack_user.user_id)


@require_permission("read", team="team_id")
async def in_team_in_a_loop(request: SignedInRequest, team_id: str) -> HttpResponse:
    return HttpResponse(request.stack_user.user_id)
