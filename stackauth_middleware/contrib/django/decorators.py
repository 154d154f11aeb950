"""A decorator for views, sync and async, in the manner of Django's ``login_required``."""

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
    """Let nobody into `view` whom the middleware does not know; in it ``request.stack_user`` is never None.

    Args:
        view: a function, plain or ``async``; for classes ``@method_decorator(require_auth, name="dispatch")``.
        profile: have the profile in ``request.stack_user.profile``, remembered or asked for:
            ``@require_auth(profile=True)``. On a class whose handlers are ``async``, call `aload_profile`.

    Raises:
        RefusedError: from the view, where nobody is there or Stack Auth refuses the token.
            `StackAuthMiddleware` answers it.
        AuthServerError: from the view, where Stack Auth cannot be asked for the profile; likewise.
        ConfigError: from the view, where no Stack Auth middleware saw the request, or where no key is
            set to ask for a profile with.
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
    """Mark `response` as one user's: ``@cache_page`` above the view would store it before the middleware does."""
    authenticated = request.META.get(OUTCOME)
    if isinstance(response, HttpResponseBase) and isinstance(authenticated, Authenticated):
        set_headers(response, private_headers(response.items(), vary_names(authenticated.config.token_sources)))
    return response
