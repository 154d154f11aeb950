"""Decorator for sync and async views, like Django's ``login_required``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..._adapters import OUTCOME
from ..._core.credentials import vary_names
from ..._core.headers import private_headers
from ..._core.outcome import Authenticated
from ..._handler_api import require_user
from .._shared import auser_with_profile, user_with_profile
from .middleware import SignedInRequest, set_headers

P = ParamSpec("P")
R = TypeVar("R")


@overload
def require_auth(view: Callable[Concatenate[SignedInRequest, P], R], /) -> Callable[Concatenate[HttpRequest, P], R]: ...


@overload
def require_auth(
    *, profile: bool = False
) -> Callable[[Callable[Concatenate[SignedInRequest, P], R]], Callable[Concatenate[HttpRequest, P], R]]: ...


def require_auth(view: Callable[..., Any] | None = None, /, *, profile: bool = False) -> Callable[..., Any]:
    """Require a signed-in user: in the view ``request.stack_user`` is never None.

    ::

        @require_auth
        def me(request: SignedInRequest) -> JsonResponse:
            return JsonResponse(request.stack_user.to_dict())

    The response is marked as private, so that ``@cache_page`` above the decorator does not store it for others. Never
    write ``@cache_page`` below it: the page is stored before it is marked, and the next user gets it.

    Args:
        view: a plain or ``async`` function. For a class use ``@method_decorator(require_auth, name="dispatch")``.
        profile: also load the profile, as ``request.stack_user.profile``, unless it is cached or a rule has loaded it.
            Needs `secret_server_key` or `publishable_client_key`. In a class whose handlers are ``async``, call
            `aload_profile` instead.

    Raises:
        RefusedError: from the view, if the request is unauthenticated, or if Stack Auth rejects the token or the user.
            `StackAuthMiddleware` turns it into the response that it sends itself.
        AuthServerError: from the view, if Stack Auth could not be reached. Handled in the same way.
        ConfigError: from the view, if no Stack Auth middleware saw the request, or if a profile is wanted and no API
            key is configured.
    """
    if view is None:
        return partial(require_auth, profile=profile)

    if iscoroutinefunction(view):

        @wraps(view)
        async def aguarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            user = await auser_with_profile(request) if profile else require_user(request)
            cast("SignedInRequest", request).stack_user = user
            return _private(request, await view(request, *args, **kwargs))

        return aguarded

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        user = user_with_profile(request) if profile else require_user(request)
        cast("SignedInRequest", request).stack_user = user
        return _private(request, view(request, *args, **kwargs))

    return guarded


def _private(request: HttpRequest, response: Any) -> Any:
    """Mark `response` as private before ``@cache_page`` above the view stores it: the middleware would be too late."""
    authenticated = request.META.get(OUTCOME)
    if isinstance(response, HttpResponseBase) and isinstance(authenticated, Authenticated):
        set_headers(response, private_headers(response.items(), vary_names(authenticated.config.token_sources)))
    return response
