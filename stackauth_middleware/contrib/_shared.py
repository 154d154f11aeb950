"""Shared by the contrib modules: the response to a refusal inside an app, and what handlers demand of the user.

Nothing here authenticates a request: the middleware has done so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from .._core.config import StackAuthConfig
from .._core.records import Response
from .._core.responses import Responder, close_code_of, default_body
from .._core.rule_checks import permission_id
from .._core.users import User, with_profile
from .._handler_api import aload_profile, load_profile, outcome_of, require_user
from .._permission_api import arequire_permission, require_permission
from ..errors import AuthServerError, ConfigError, RefusalInfo, RefusedError


class Refusal(NamedTuple):
    """The response to a refusal inside an app, and the parts that a framework's own exception is made from.

    Attributes:
        response: the response that the middleware itself would send for this request.
        status: HTTP status.
        message: human-readable message of the error code.
        detail: message, error code and, for a restricted account, the reason.
        headers: headers of `response` without ``Content-Type`` and ``Content-Length``.
        close_code: close code for a WebSocket.
    """

    response: Response
    status: int
    message: str
    detail: dict[str, Any]
    headers: dict[str, str]
    close_code: int


def refusal_of(request: Any, error: RefusedError | AuthServerError) -> Refusal:
    """Return the refusal for `error`, with the settings of the middleware that passed `request` on.

    Args:
        request: anything that `require_user` takes. If no middleware has seen it, the default settings apply, so
            that an app that only uses a verifier can use the exception handlers too.
        error: the exception raised in the app.
    """
    response = respond_to(request, error)
    code = error.code
    reason = error.restricted_reason if isinstance(error, RefusedError) else None
    detail = default_body(code, RefusalInfo("", "", reason))
    headers = {name: value for name, value in response.headers if not name.startswith("Content-")}
    return Refusal(response, code.status, code.message, detail, headers, close_code_of(code.status))


def respond_to(request: Any, error: RefusedError | AuthServerError) -> Response:
    """Return only the response of `refusal_of`."""
    outcome = outcome_of(request)
    if outcome is None:
        return _by_default(error, "GET", "/", "")
    record = outcome.request
    respond = outcome.config.get_or_create(Responder)
    return respond(error, record.method, record.path, record.headers.get("origin", ""))


_by_default = Responder(cast("StackAuthConfig", StackAuthConfig))
"""Responder with the default settings, which the config class holds. An instance would read the environment."""


def can_respond(scope: Any) -> bool:
    """Return whether an HTTP response can be sent for an ASGI scope.

    For a WebSocket that is not accepted yet, the server needs the extension ``websocket.http.response``.
    """
    return scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or {})


class Demand(NamedTuple):
    """What a decorator, dependency, guard or hook demands of the user of a request.

    Attributes:
        profile: whether the profile is loaded, unless a rule has done so.
        permission: id of the permission that the user must hold, or None.
        team: name of the path parameter that is the id of the team for `permission`; None for one of the project.
    """

    profile: bool = False
    permission: str | None = None
    team: str | None = None

    @staticmethod
    def of(permission: str, team: str | None) -> Demand:
        """Return the demand for a permission.

        Raises:
            ConfigError: `permission` is not a permission id, or `team` is not an identifier.
        """
        if team is not None and not (isinstance(team, str) and team.isidentifier()):
            raise ConfigError(f"team is {team!r}; it must be the name of the path parameter with the id of the team")
        return Demand(permission=permission_id("permission", permission), team=team)

    def user(self, request: Any, parameters: Mapping[str, Any]) -> User:
        """Return the user of `request`, who meets the demand. Blocks.

        Args:
            request: anything that `require_user` takes.
            parameters: the path parameters.

        Raises:
            RefusedError: the request is unauthenticated, Stack Auth rejects the user, or the permission is not held.
            AuthServerError: Stack Auth could not be reached.
            ConfigError: no key is set for the Stack Auth API, no middleware saw this request, or the path has no such
                parameter.
        """
        if self.permission is not None:
            return require_permission(request, self.permission, team_id=self._team_id(parameters))
        user = require_user(request)
        return with_profile(user, load_profile(request)) if self.profile and user.profile is None else user

    async def auser(self, request: Any, parameters: Mapping[str, Any]) -> User:
        """Same as `user`, but async."""
        if self.permission is not None:
            return await arequire_permission(request, self.permission, team_id=self._team_id(parameters))
        user = require_user(request)
        return with_profile(user, await aload_profile(request)) if self.profile and user.profile is None else user

    def _team_id(self, parameters: Mapping[str, Any]) -> Any:
        if self.team is None:
            return None
        if self.team not in parameters:
            raise ConfigError(f"the path has no parameter {self.team!r}, which is to be the id of the team")
        return parameters[self.team]
