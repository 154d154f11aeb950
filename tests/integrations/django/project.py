"""A Django project in one module: settings, URL configuration and views."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import django
from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseGone, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from stackauth_middleware import aload_profile, get_api_key, get_user, load_profile, require_user
from stackauth_middleware.contrib.django import (
    SignedInRequest,
    StackAuthRequest,
    require_auth,
    require_permission,
    stack_auth_config,
)

from .. import cases
from ..adapters import OWN_ERRORS, OutOfStock, raised
from ..cases import PROJECT, RULES, Answer, seen, seen_key, seen_profile

if not settings.configured:  # once per process: another test may have configured it
    settings.configure(SECRET_KEY="for tests only", LOGGING_CONFIG=None, USE_TZ=True)
    django.setup()

OURS = "stackauth_middleware.contrib.django.StackAuthMiddleware"
ran: list[Any] = []
"""Values noted by views. One list, because Django's URL configuration is global."""


def me(request: StackAuthRequest) -> HttpResponse:
    ran.append(request.stack_user)
    return JsonResponse(require_user(request).to_dict())


async def ame(request: StackAuthRequest) -> HttpResponse:
    return me(request)


def hello(request: StackAuthRequest) -> HttpResponse:
    assert request.stack_user is get_user(request)
    return JsonResponse({"email": request.stack_user.email if request.stack_user else None})


async def ahello(request: StackAuthRequest) -> HttpResponse:
    return hello(request)


@require_auth
def guarded(request: SignedInRequest) -> HttpResponse:
    ran.append(request.stack_user)
    return JsonResponse(seen(request.stack_user))


@require_auth
async def aguarded(request: SignedInRequest) -> HttpResponse:
    ran.append(request.stack_user)
    return JsonResponse(seen(request.stack_user))


@require_auth(profile=True)
def profile(request: SignedInRequest) -> HttpResponse:
    ran.append(request.stack_user)
    return JsonResponse(seen(request.stack_user))


@require_auth(profile=True)
async def aprofile(request: SignedInRequest) -> HttpResponse:
    ran.append(request.stack_user)
    return JsonResponse(seen(request.stack_user))


@require_permission("admin")
def permitted(request: SignedInRequest) -> HttpResponse:
    ran.append(request.stack_user)
    return JsonResponse(seen(request.stack_user))


@require_permission("admin")
async def apermitted(request: SignedInRequest) -> HttpResponse:
    ran.append(request.stack_user)
    return JsonResponse(seen(request.stack_user))


@require_permission("read", team="team_id")
def in_team(request: SignedInRequest, team_id: str) -> HttpResponse:
    ran.append(request.stack_user)
    return JsonResponse(seen(request.stack_user))


@require_permission("read", team="team_id")
async def ain_team(request: SignedInRequest, team_id: str) -> HttpResponse:
    ran.append(request.stack_user)
    return JsonResponse(seen(request.stack_user))


def key(request: StackAuthRequest) -> HttpResponse:
    ran.append(get_api_key(request))
    return JsonResponse(seen_key(get_api_key(request), request.stack_user))


def load(request: HttpRequest) -> HttpResponse:
    loaded = load_profile(request)
    ran.append(loaded)
    return JsonResponse(seen_profile(loaded))


async def aload(request: HttpRequest) -> HttpResponse:
    loaded = await aload_profile(request)
    ran.append(loaded)
    return JsonResponse(seen_profile(loaded))


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        for _ in range(3):
            ran.append("line")
            yield f"{require_user(request).email}\n"

    return StreamingHttpResponse(lines())


async def astream(request: HttpRequest) -> StreamingHttpResponse:
    async def lines() -> AsyncIterator[str]:
        for _ in range(3):
            ran.append("line")
            yield f"{require_user(request).email}\n"
            await asyncio.sleep(0)

    return StreamingHttpResponse(lines())


def later(request: HttpRequest) -> HttpResponse:
    threading.Thread(target=lambda: ran.append(load_profile(request).primary_email)).start()
    return HttpResponse()


def buy(request: HttpRequest) -> HttpResponse:
    raise OutOfStock


def gone(request: HttpRequest) -> HttpResponse:
    return HttpResponseGone()


def post(request: HttpRequest) -> HttpResponse:
    ran.append(request.body)
    return HttpResponse("{}")


VIEWS: dict[str, Callable[..., Any]] = {
    "me": me,
    "admin": me,
    "permitted": me,
    "async/me": ame,
    "optional/hello": hello,
    "public/hello": hello,
    "optional/async/hello": ahello,
    "public/async/hello": ahello,
    "optional/guarded": guarded,
    "public/guarded": guarded,
    "optional/async/guarded": aguarded,
    "public/async/guarded": aguarded,
    "optional/permitted": permitted,
    "optional/async/permitted": apermitted,
    "optional/teams/<team_id>": in_team,
    "optional/async/teams/<team_id>": ain_team,
    "v1/hello": key,
    "v1/guarded": guarded,
    "v1/async/guarded": aguarded,
    "optional/profile": profile,
    "optional/async/profile": aprofile,
    "optional/load": load,
    "optional/async/load": aload,
    "stream": stream,
    "async/stream": astream,
    "later": later,
    "buy": buy,
    "gone": gone,
    "post": post,
}
urlpatterns = [path(route, view) for route, view in VIEWS.items()]


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    return JsonResponse({"own": "404"}, status=404)


def handler500(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"own": "500"}, status=500)


# -- middlewares below ours ----------------------------------------------------------------


class AsyncOnly:
    """Middleware that makes ours asynchronous, even under WSGI."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponse]]) -> None:
        from asgiref.sync import markcoroutinefunction

        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        ran.append("below")
        return await self.get_response(request)


class SyncOnly:
    """Middleware that makes ours synchronous, even under ASGI."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        ran.append("below")
        return self.get_response(request)


class OwnErrors:
    """Middleware that responds to the project's own exceptions."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        from asgiref.sync import iscoroutinefunction, markcoroutinefunction

        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return JsonResponse(raised(exception), status=409) if isinstance(exception, OWN_ERRORS) else None


# -- requests -------------------------------------------------------------------------------------------


def installed(*below: str, above: tuple[str, ...] = (), more: Any = None, **stack_auth: Any) -> Any:
    """Return the context manager under which Django runs this project.

    Args:
        below: middlewares below ours.
        above: middlewares above ours.
        more: further settings of Django.
        stack_auth: settings for ``STACK_AUTH`` in lower case, in addition to those of `cases`.
    """
    given = {"project_id": PROJECT, "secret_server_key": "ssk_for_tests", "rules": RULES, **stack_auth}
    project = {
        "ROOT_URLCONF": __name__,
        "MIDDLEWARE": [*above, OURS, *below],
        "STACK_AUTH": {name.upper(): value for name, value in given.items()},
        "ALLOWED_HOSTS": ["testserver"],
    }
    return override_settings(**{**project, **(more or {})})


class Site:
    """Client for the project: one of Django's test clients."""

    def __init__(self, *, asgi: bool) -> None:
        stack_auth_config()  # else the first request creates it, and a token made before is for another project
        self.is_asgi = asgi
        self.client: Any = (AsyncClient if asgi else Client)(raise_request_exception=False)

    def get(self, target: str, headers: Any = None, method: str = "get", **more: Any) -> Any:
        """Return the response to a request. A stream is read to its end, into ``lines``."""
        send = getattr(self.client, method)
        if not self.is_asgi:
            response = send(target, headers=headers, **more)
            if response.streaming:
                response.lines = [chunk.decode() for chunk in response]
            return response

        async def response_of() -> Any:
            async with ThreadSensitiveContext():
                response = await send(target, headers=headers, **more)
                if response.streaming and response.is_async:
                    response.lines = [chunk.decode() async for chunk in response.streaming_content]
                elif response.streaming:
                    response.lines = [chunk.decode() for chunk in response.streaming_content]
                return response

        return asyncio.run(response_of())

    def answer(self, target: str, headers: Any = None, **more: Any) -> Answer:
        response = self.get(target, headers, **more)
        return cases.answer(response.status_code, response.headers.items(), response.content)
