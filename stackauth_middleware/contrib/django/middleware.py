"""Middleware for Django's ``MIDDLEWARE``, through which requests of Django's test clients go as well.

It uses the same flow and runners as the ASGI and WSGI middleware, and publishes the outcome under the same keys.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from ..._adapters import publish, request_from_environ, request_from_scope
from ..._core.config import StackAuthConfig, config_of
from ..._core.flow import Flow
from ..._core.headers import preflight_headers, private_headers, vary_of
from ..._core.outcome import Outcome, Refused
from ..._core.paths import of_environ
from ..._core.records import RequestRecord, Response
from ..._core.upstream import Script
from ..._core.users import User, UserType
from ..._io.network import clocks, in_event_loop
from ...errors import AuthServerError, ConfigError, RefusedError
from .._shared import respond_to

_ESCAPED_NON_UTF8 = re.compile("%[89A-F][0-9A-F]")
"""How Django escapes bytes of a path that are not UTF-8. Such a path is not plain."""

_FROM_ENVIRONMENT: dict[str, Any] = {}
_made: tuple[object, StackAuthConfig] | None = None


class StackAuthRequest(HttpRequest):
    """Type of any request behind the middleware. For annotations only: Django makes no instances of it.

    Example::

        def home(request: StackAuthRequest) -> HttpResponse:
            return HttpResponse("welcome" if request.stack_user is None else request.stack_user.id)
    """

    stack_user: User | None


class SignedInRequest(HttpRequest):
    """Type of a request in a view decorated with `require_auth`. For annotations only.

    Example::

        @require_auth
        def me(request: SignedInRequest) -> JsonResponse:
            return JsonResponse(request.stack_user.to_dict())
    """

    stack_user: User


def stack_auth_config() -> StackAuthConfig:
    """Return the config of ``settings.STACK_AUTH``, the same object as long as the setting is the same.

    Pass it to a `StackAuthASGIMiddleware` around the WebSockets of Channels, so that both share caches.

    Raises:
        ConfigError: the setting is wrong.

    Example::

        websockets = StackAuthASGIMiddleware(URLRouter(websocket_urlpatterns), stack_auth_config())
    """
    global _made  # noqa: PLW0603
    given = getattr(settings, "STACK_AUTH", _FROM_ENVIRONMENT)
    if isinstance(given, StackAuthConfig):
        return given
    if _made is None or _made[0] is not given:
        _made = given, _config_of(given)
    return _made[1]


def _config_of(given: object) -> StackAuthConfig:
    if not isinstance(given, Mapping):
        raise ConfigError(f"STACK_AUTH is {type(given).__name__}; it must be a dict of settings or a StackAuthConfig")
    named: dict[str, Any] = {str(name).lower(): value for name, value in given.items()}
    if len(named) < len(given):
        raise ConfigError("STACK_AUTH has a setting twice, in capitals and in small letters; keep one of them")
    return config_of(None, cast("Any", named))


class StackAuthMiddleware:
    """Authenticate each request, and set ``request.stack_user`` to the verified user or None.

    A refused request reaches no view, and no middleware below this one. Responses on paths that are not public get
    ``Vary`` and ``Cache-Control: private``. ``request.user`` belongs to Django and is not set. A `RefusedError` or
    `AuthServerError` raised in a view, as by `require_user` or `load_profile`, becomes the response that the
    middleware itself would send.

    Args:
        get_response: the rest of the middleware chain, sync or async.

    Raises:
        ConfigError: ``settings.STACK_AUTH`` is invalid; when the server starts.

    Not promised: that keys are fetched before the first request. Django has no lifespan.

    Example::

        MIDDLEWARE = [
            "django.middleware.security.SecurityMiddleware",
            "stackauth_middleware.contrib.django.StackAuthMiddleware",
        ]
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        from ..._io.sync_runner import SyncRunner

        self._get_response = get_response
        self._config = stack_auth_config()
        self._flow = self._config.get_or_create(Flow)
        self._runner = self._config.get_or_create(SyncRunner)
        self._vary = vary_of(self._config)
        self._stale: frozenset[UserType] = frozenset()
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            from ..._io.async_runner import AsyncRunner

            markcoroutinefunction(self)
            self._async_runner = self._config.get_or_create(AsyncRunner)
            request_finished.connect(self._refresh)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Refuse the request, or pass it on with its user."""
        if self._is_async:
            return self._acall(request)
        step = self._authorize(request, under_asgi=False)
        outcome = step if isinstance(step, Outcome) else self._runner.run(step)
        if isinstance(outcome, Refused):
            return _http_response(outcome.response)
        _publish(request, outcome)
        return self._finished(outcome, self._get_response(request))

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        under_asgi = hasattr(request, "scope")
        step = self._authorize(request, under_asgi=under_asgi)
        if isinstance(step, Outcome):
            outcome = step
        elif under_asgi:
            outcome = await self._async_runner.run(step)
        else:  # each request has its own event loop, which cannot keep connections for the next
            outcome = await sync_to_async(partial(self._runner.run, step), thread_sensitive=False)()
        if isinstance(outcome, Refused):
            return _http_response(outcome.response)
        _publish(request, outcome)
        response = self._finished(outcome, await self._get_response(request))
        if outcome.refresh is not None:
            self._stale |= {outcome.refresh}
        return response

    def _finished(self, outcome: Outcome, response: HttpResponseBase) -> HttpResponseBase:
        """Strip the response to a preflight, and mark a response to a user as private."""
        if outcome.is_preflight:
            _empty(response)
        elif outcome.per_user and not isinstance(response, _RefusalResponse):
            set_headers(response, private_headers(response.items(), self._vary))
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the response to a refusal raised in a view, and None for any other exception."""
        if not isinstance(exception, RefusedError | AuthServerError):
            return None
        return _http_response(respond_to(request, exception))

    def _authorize(self, request: HttpRequest, *, under_asgi: bool) -> Outcome | Script[Outcome]:
        try:
            record = self._request_record(request)
        except Exception:  # of any type: the environ or scope is invalid
            return self._flow.unreadable()
        now = clocks()
        outcome = self._flow.short_path.outcome(record, *now, in_event_loop=under_asgi)
        return outcome or self._flow.authorize(record, now, defer_refresh=under_asgi, in_event_loop=under_asgi)

    def _request_record(self, request: HttpRequest) -> RequestRecord:
        """Return the request record, with the path that Django routes on.

        Django removes the root path itself, also under ASGI, so a root path chosen by a client has no effect.
        """
        scope, path = getattr(request, "scope", None), request.path_info
        if scope is None:
            record = request_from_environ(request.META, "")
            path = _ESCAPED_NON_UTF8.sub("\ufffd", path)
        else:
            record = request_from_scope(scope, "", "")
        root_path = of_environ(request.META.get("SCRIPT_NAME") or "", self._config.root_path)
        return RequestRecord(record.method, path or "/", root_path, record.headers)

    def _refresh(self, **signal: Any) -> None:
        """Refresh stale key sets in the thread that has closed a response, while no client waits."""
        if self._stale and not in_event_loop():
            stale, self._stale = self._stale, frozenset()
            for user_type in stale:
                self._runner.run(self._flow.keys.refresh_if_stale(user_type, clocks()))


def _publish(request: HttpRequest, outcome: Outcome) -> None:
    """Write the outcome where `get_user` finds it, and the user on the request."""
    for written in (request.META, getattr(request, "scope", request.META)):
        publish(written, outcome)
    cast("StackAuthRequest", request).stack_user = outcome.user


class _RefusalResponse(HttpResponse):
    """Response to a refusal. It has ``Cache-Control: no-store`` already, and is not marked as private."""


def _http_response(response: Response) -> HttpResponse:
    made = _RefusalResponse(response.body, status=response.status, headers=dict(response.headers))
    if "Content-Type" not in dict(response.headers):  # Django adds one to every response
        del made["Content-Type"]
    return made


def _empty(response: HttpResponseBase) -> None:
    """Reduce the response to a preflight to its status and CORS headers. A stream is closed with the response."""
    if isinstance(response, StreamingHttpResponse):
        response.streaming_content = _nothing() if response.is_async else ()
    else:
        cast("HttpResponse", response).content = b""
    response.cookies.clear()
    set_headers(response, preflight_headers(response.status_code, response.items()))


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


def set_headers(response: HttpResponseBase, headers: list[tuple[str, str]]) -> None:
    """Replace all headers of `response` by `headers`."""
    for name in {name for name, _ in response.items()} - {name for name, _ in headers}:
        del response[name]
    for name, value in headers:
        response[name] = value
