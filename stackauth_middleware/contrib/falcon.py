"""Falcon: a hook for responders and resources of WSGI and ASGI apps.

::

    class Me:
        @falcon.before(require_auth)
        def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
            resp.media = req.context.user.to_dict()

    application = StackAuthWSGIMiddleware(app, default_access="optional")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon
import falcon.asgi

from .._core.records import Response
from ..errors import AuthServerError, RefusedError
from ._shared import Demand, refusal_of

__all__ = ["require_auth", "require_permission"]


class _Refusal(falcon.HTTPError):
    """A refusal as a Falcon error. The app's error handlers see one of the classes below.

    Without an error handler, the client gets the response of the middleware: Falcon's default handler calls `to_json`,
    and takes a `falcon.HTTPStatus` raised there as the response. A client that accepts only XML gets Falcon's XML.
    """

    response: Response

    def to_json(self, handler: object = None) -> bytes:
        """Raise the response of the middleware."""
        response = self.response
        raise falcon.HTTPStatus(response.status, dict(response.headers), response.body.decode("ascii"))


class _BadRequest(_Refusal, falcon.HTTPBadRequest): ...


class _Unauthorized(_Refusal, falcon.HTTPUnauthorized): ...


class _Forbidden(_Refusal, falcon.HTTPForbidden): ...


class _InternalServerError(_Refusal, falcon.HTTPInternalServerError): ...


class _ServiceUnavailable(_Refusal, falcon.HTTPServiceUnavailable): ...


_ERRORS: dict[int, Callable[..., _Refusal]] = {
    400: _BadRequest,
    401: _Unauthorized,
    403: _Forbidden,
    500: _InternalServerError,
    503: _ServiceUnavailable,
}


def require_auth(
    req: falcon.Request, resp: Any, resource: Any, params: dict[str, Any], *, profile: bool = False
) -> Any:
    """Require a signed-in user, and store it as ``req.context.user``; a hook for ``falcon.before``.

    ::

        @falcon.before(require_auth)
        class Me: ...

        class Plan:
            @falcon.before(require_auth, profile=True)
            async def on_get(self, req: Request, resp: Response) -> None: ...

    Args:
        req: the request.
        resp: not used; Falcon passes it to hooks.
        resource: not used.
        params: not used.
        profile: also load the profile of the user from Stack Auth, unless it is cached or a rule has loaded it.
            Needs `secret_server_key` or `publishable_client_key`.

    Returns:
        None for a WSGI request, an awaitable for an ASGI request, as Falcon requires of hooks.

    Raises:
        falcon.HTTPError: the request is unauthenticated, or the profile cannot be loaded: the subclass for the status,
            with the error code as ``code``. The error handlers of the app see it; without one, the client gets the
            response that the middleware would send. Falcon closes a WebSocket with 3000 plus the status.
        ConfigError: no Stack Auth middleware saw this request, or a profile is wanted and no key is set for the Stack
            Auth API.
    """
    return _hook(Demand(profile=profile), req, params)


def require_permission(
    req: falcon.Request, resp: Any, resource: Any, params: dict[str, Any], permission: str, *, team: str | None = None
) -> Any:
    """Require a signed-in user who holds a permission, and store it as ``req.context.user``; for ``falcon.before``.

    ::

        class Reports:  # at "/teams/{team_id}/reports"
            @falcon.before(require_permission, "read_reports", team="team_id")
            def on_get(self, req: Request, resp: Response, team_id: str) -> None: ...

    Args:
        req: the request.
        resp: not used; Falcon passes it to hooks.
        resource: not used.
        params: the fields of the URI template.
        permission: id of the permission.
        team: name of the field of the URI template that is the id of the team; None for a permission of the project.

    Returns:
        As `require_auth`.

    Raises:
        falcon.HTTPError: as `require_auth` does, and with 403 if the user does not hold the permission.
        ConfigError: as `require_auth` does, and if `permission` is not a permission id or the template has no field
            `team`.
    """
    return _hook(Demand.of(permission, team), req, params)


def _hook(demand: Demand, req: falcon.Request, params: dict[str, Any]) -> Any:
    if isinstance(req, falcon.asgi.Request):
        return _ahook(demand, req, params)
    try:
        req.context.user = demand.user(req, params)
    except (RefusedError, AuthServerError) as error:
        raise _exception(req, error) from error
    return None


async def _ahook(demand: Demand, req: falcon.asgi.Request, params: dict[str, Any]) -> None:
    try:
        req.context.user = await demand.auser(req, params)
    except (RefusedError, AuthServerError) as error:
        raise _exception(req, error) from error


def _exception(req: falcon.Request, error: RefusedError | AuthServerError) -> falcon.HTTPError:
    refusal = refusal_of(req, error)
    raised = _ERRORS[refusal.status](description=refusal.message, headers=refusal.headers, code=error.code.value)
    raised.response = refusal.response
    return raised
