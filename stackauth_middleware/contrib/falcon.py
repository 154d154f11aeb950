"""Falcon: one hook for resources of WSGI and of ASGI apps.

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
from .._handler_api import require_user
from ..errors import AuthServerError, RefusedError
from ._shared import auser_with_profile, refusal_of, user_with_profile

__all__ = ["require_auth"]


class _Refusal(falcon.HTTPError):
    """A refusal in Falcon's form. The app's error handlers see one of the classes below.

    Unanswered it is what the middleware would send: Falcon's own handler asks an error for its JSON, and takes an
    `falcon.HTTPStatus` that is raised meanwhile for the response. A client that accepts XML alone gets Falcon's XML.
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
    """Let nobody pass whom the middleware does not know; for ``falcon.before``, on responders and resources.

    The user is left as ``req.context.user``; ``falcon.before(require_auth, profile=True)`` brings the
    profile with it. Returns None for a WSGI responder, and what is to be awaited for an ASGI one.

    Raises:
        falcon.HTTPError: the request is unauthenticated, or the profile cannot be loaded; the subclass of the
            status, with the error code as ``code``. Unanswered it is what the middleware would send; on a
            WebSocket Falcon closes with 3000 plus the status.
        ConfigError: no Stack Auth middleware saw this request, or no key is set to ask with.
    """
    if isinstance(req, falcon.asgi.Request):
        return _arequire_auth(req, profile=profile)
    try:
        req.context.user = user_with_profile(req) if profile else require_user(req)
    except (RefusedError, AuthServerError) as error:
        raise _exception(req, error) from error
    return None


async def _arequire_auth(req: falcon.asgi.Request, *, profile: bool) -> None:
    try:
        req.context.user = await auser_with_profile(req) if profile else require_user(req)
    except (RefusedError, AuthServerError) as error:
        raise _exception(req, error) from error


def _exception(req: falcon.Request, error: RefusedError | AuthServerError) -> falcon.HTTPError:
    refusal = refusal_of(req, error)
    raised = _ERRORS[refusal.status](description=refusal.message, headers=refusal.headers, code=error.code.value)
    raised.response = refusal.response
    return raised
