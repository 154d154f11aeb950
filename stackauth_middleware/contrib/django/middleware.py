"""The third door: through Django's own middleware chain, which its test clients pass too.

It asks the same gate as the doors that wrap an app, through the same edges, and leaves the same keys.
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
from ..._core.credentials import vary_names
from ..._core.flow import Flow
from ..._core.headers import preflight_headers, private_headers
from ..._core.outcome import Outcome, Refused
from ..._core.paths import of_environ
from ..._core.records import RequestRecord, Response
from ..._core.upstream import Script
from ..._core.users import User, UserType
from ..._io.network import clocks, in_event_loop
from ...errors import AuthServerError, ConfigError, RefusedError
from .._shared import respond_to

_NO_OCTETS_OF_UTF8 = re.compile("%[89A-F][0-9A-F]")
"""How Django writes octets of a path that are no UTF-8. No such path is plain."""

_FROM_ENVIRONMENT: dict[str, Any] = {}
_made: tuple[object, StackAuthConfig] | None = None


class StackAuthRequest(HttpRequest):
    """Any request behind the middleware; for annotations."""

    stack_user: User | None


class SignedInRequest(HttpRequest):
    """A request in a view that `require_auth` guards; for annotations."""

    stack_user: User


def stack_auth_config() -> StackAuthConfig:
    """Return the config that ``settings.STACK_AUTH`` is, or is made into: the same one each time.

    Raises:
        ConfigError: the setting is wrong.
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
    """Let only verified Stack Auth users through to the views, as ``request.stack_user``.

    A refused request reaches neither a view nor what stands below in ``MIDDLEWARE``. Answers on routes
    that are not public get ``Vary`` and ``Cache-Control: private``, as `private_headers` says. ``request.user``
    is left to Django. A `RefusedError` or `AuthServerError` that a view raises, as `require_user` and
    `load_profile` do, is answered as the middleware itself would.

    Args:
        get_response: the rest of the chain, sync or async.

    Raises:
        ConfigError: ``settings.STACK_AUTH`` is wrong.

    Not promised: anything before the first request. Django knows no lifespan to fetch the keys in.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        from ..._io.sync_runner import SyncRunner

        self._get_response = get_response
        self._config = stack_auth_config()
        self._flow = self._config.get_or_create(Flow)
        self._runner = self._config.get_or_create(SyncRunner)
        self._vary = vary_names(self._config.token_sources)
        self._stale: frozenset[UserType] = frozenset()
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            from ..._io.async_runner import AsyncRunner

            markcoroutinefunction(self)
            self._async_runner = self._config.get_or_create(AsyncRunner)
            request_finished.connect(self._refresh)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
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
        else:  # each request has an event loop of its own, which no connection could outlive
            outcome = await sync_to_async(partial(self._runner.run, step), thread_sensitive=False)()
        if isinstance(outcome, Refused):
            return _http_response(outcome.response)
        _publish(request, outcome)
        response = self._finished(outcome, await self._get_response(request))
        if outcome.refresh is not None:
            self._stale |= {outcome.refresh}
        return response

    def _finished(self, outcome: Outcome, response: HttpResponseBase) -> HttpResponseBase:
        """Change what must not leave as the view made it: the answer to a preflight, and that to a user."""
        if outcome.is_preflight:
            _empty(response)
        elif outcome.per_user and not isinstance(response, _RefusalResponse):
            set_headers(response, private_headers(response.items(), self._vary))
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer a refusal that a view met; leave every other exception alone."""
        if not isinstance(exception, RefusedError | AuthServerError):
            return None
        return _http_response(respond_to(request, exception))

    def _authorize(self, request: HttpRequest, *, under_asgi: bool) -> Outcome | Script[Outcome]:
        try:
            record = self._request_record(request)
        except Exception:  # any: what is no environ can fail in any way
            return self._flow.unreadable()
        return self._flow.authorize(record, clocks(), defer_refresh=under_asgi, in_event_loop=under_asgi)

    def _request_record(self, request: HttpRequest) -> RequestRecord:
        """Return what the other middlewares would see, with the path that Django routes on.

        Django takes the root path off itself, under ASGI too, so what a scope claims cannot mislead.
        """
        scope, path = getattr(request, "scope", None), request.path_info
        if scope is None:
            record = request_from_environ(request.META, "")
            path = _NO_OCTETS_OF_UTF8.sub("\ufffd", path)
        else:
            record = request_from_scope(scope, "", "")
        root_path = of_environ(request.META.get("SCRIPT_NAME") or "", self._config.root_path)
        return RequestRecord(record.method, path or "/", root_path, record.headers)

    def _refresh(self, **signal: Any) -> None:
        """Refresh stale key sets in the thread that has closed a response, when nobody waits for it."""
        if self._stale and not in_event_loop():
            stale, self._stale = self._stale, frozenset()
            for user_type in stale:
                self._runner.run(self._flow.keys.refresh_if_stale(user_type, clocks()))


def _publish(request: HttpRequest, outcome: Outcome) -> None:
    """Leave what the doors leave, where they leave it, and the user on the request."""
    for written in (request.META, getattr(request, "scope", request.META)):
        publish(written, outcome)
    cast("StackAuthRequest", request).stack_user = outcome.user


class _RefusalResponse(HttpResponse):
    """A refusal: no cache may store it, whoever it was for."""


def _http_response(response: Response) -> HttpResponse:
    made = _RefusalResponse(response.body, status=response.status, headers=dict(response.headers))
    if "Content-Type" not in dict(response.headers):  # Django gives one to every response
        del made["Content-Type"]
    return made


def _empty(response: HttpResponseBase) -> None:
    """Leave of the answer to a preflight its status and CORS headers. What it would have streamed is closed with it."""
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
    """Give `response` the `headers` and no others."""
    for name in {name for name, _ in response.items()} - {name for name, _ in headers}:
        del response[name]
    for name, value in headers:
        response[name] = value
