"""Decorators for sync and async views, like Django's ``login_required`` and ``permission_required``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..._adapters import OUTCOME
from ..._core.headers import private_headers, vary_of
from ..._core.outcome import Authenticated, KeyAuthenticated
from .._shared import Demand
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
        ConfigError: from the view, if no Stack Auth middleware saw the request, or if a profile is wanted and no key
            is set for the Stack Auth API.
    """
    guard = partial(_guarded, Demand(profile=profile))
    return guard if view is None else guard(view)


def require_permission(
    permission: str, *, team: str | None = None
) -> Callable[[Callable[Concatenate[SignedInRequest, P], R]], Callable[Concatenate[HttpRequest, P], R]]:
    """Require a signed-in user who holds a permission: in the view ``request.stack_user`` is never None.

    ::

        # path("teams/<uuid:team_id>/reports", reports)
        @require_permission("read_reports", team="team_id")
        def reports(request: SignedInRequest, team_id: UUID) -> JsonResponse: ...

    Args:
        permission: id of the permission.
        team: name of the keyword argument of the view that is the id of the team; None for a permission of the project.

    Returns:
        A decorator for a view, as `require_auth` is. In a class whose handlers are ``async``, call
        `arequire_permission` instead.

    Raises:
        RefusedError: from the view, as `require_auth` does, and if the user does not hold the permission.
            `StackAuthMiddleware` turns it into the response that it sends itself.
        AuthServerError: from the view, if Stack Auth could not be reached. Handled in the same way.
        ConfigError: `permission` is not a permission id; or from the view, as `require_auth` does, and if it has no
            keyword argument `team`.
    """
    return partial(_guarded, Demand.of(permission, team))


def _guarded(demand: Demand, view: Callable[..., Any]) -> Callable[..., Any]:
    """Return a view that calls `view` with a user who meets `demand`."""
    if iscoroutinefunction(view):

        @wraps(view)
        async def aguarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            cast("SignedInRequest", request).stack_user = await demand.auser(request, kwargs)
            return _private(request, await view(request, *args, **kwargs))

        return aguarded

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        cast("SignedInRequest", request).stack_user = demand.user(request, kwargs)
        return _private(request, view(request, *args, **kwargs))

    return guarded


def _private(request: HttpRequest, response: Any) -> Any:
    """Mark `response` as private before ``@cache_page`` above the view stores it: the middleware would be too late."""
    outcome = request.META.get(OUTCOME)
    if isinstance(response, HttpResponseBase) and isinstance(outcome, Authenticated | KeyAuthenticated):
        set_headers(response, private_headers(response.items(), vary_of(outcome.config)))
    return response
