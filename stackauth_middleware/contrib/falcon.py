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

from .._door import require_user
from ..errors import AuthServerError, RefusedError
from ._shared import auser_with_profile, refusal_of, user_with_profile

__all__ = ["require_auth"]

_ERRORS: dict[int, Callable[..., falcon.HTTPError]] = {
    400: falcon.HTTPBadRequest,
    401: falcon.HTTPUnauthorized,
    403: falcon.HTTPForbidden,
    500: falcon.HTTPInternalServerError,
    503: falcon.HTTPServiceUnavailable,
}


def require_auth(
    req: falcon.Request, resp: Any, resource: Any, params: dict[str, Any], *, profile: bool = False
) -> Any:
    """Let nobody pass whom the middleware does not know; for ``falcon.before``, on responders and resources.

    The user is left as ``req.context.user``; ``falcon.before(require_auth, profile=True)`` brings the
    profile with it. Returns None for a WSGI responder, and what is to be awaited for an ASGI one.

    Raises:
        falcon.HTTPError: nobody is there, or the profile cannot be had; the subclass of the row's
            status, with the row's code as ``code``.
        ConfigError: no Stack Auth middleware saw this request, or no key is set to ask with.
    """
    if isinstance(req, falcon.asgi.Request):
        return _arequire_auth(req, profile=profile)
    try:
        req.context.user = user_with_profile(req) if profile else require_user(req)
    except (RefusedError, AuthServerError) as error:
        raise _exception(error) from error
    return None


async def _arequire_auth(req: falcon.asgi.Request, *, profile: bool) -> None:
    try:
        req.context.user = await auser_with_profile(req) if profile else require_user(req)
    except (RefusedError, AuthServerError) as error:
        raise _exception(error) from error


def _exception(error: RefusedError | AuthServerError) -> falcon.HTTPError:
    refusal = refusal_of(error)
    return _ERRORS[refusal.status](description=refusal.message, headers=refusal.headers, code=refusal.code)
