"""Functions for handlers: the permissions and teams of the user of a request, in any framework."""

from __future__ import annotations

from uuid import UUID

from ._core.outcome import Authenticated, KeyAuthenticated
from ._core.permissions import PermissionLookup
from ._core.policy import Permission, uuid_of
from ._core.rule_checks import permission_id
from ._core.server_api.teams import Team
from ._core.team_lookup import TeamLookup
from ._core.upstream import Script
from ._core.users import User
from ._handler_api import RequestLike, arun, authenticated_of, require_user, run
from ._io.network import clocks
from .errors import ConfigError, ErrorCode, RefusedError


def has_permission(obj: RequestLike, permission: str, *, team_id: str | UUID | None = None) -> bool:
    """Return whether the user of a request holds a permission. For functions that are not async.

    All permissions of the user are loaded at once, including those that a granted permission contains, and cached for
    ``permission_ttl``.

    Args:
        obj: a scope, environ or request, as for `get_user`.
        permission: id of the permission, such as ``"read"`` or ``"$read_members"``.
        team_id: the team in which it must be held; None for a permission of the project. It may come from the client:
            text that is not a UUID matches no team.

    Returns:
        True if the user holds it. False if not, if the request is unauthenticated, or if it has the API key of a team.

    Raises:
        AuthServerError: Stack Auth cannot be reached.
        ConfigError: `permission` is not a permission id, ``secret_server_key`` is not set, or no middleware has seen
            the request.
        RuntimeError: an event loop runs in this thread and would be blocked: use `ahas_permission`. Or the scope or
            environ was pickled.
        TypeError: `obj` is not a scope, environ or request.

    Not promised: that a permission is gone as soon as it is revoked; see ``permission_ttl``.

    Example::

        if has_permission(flask.request, "delete_reports", team_id=report.team_id):
            show_delete_button()
    """
    asked = _asked_of(obj, permission, team_id)
    return asked is not None and run(*asked, "has_permission")


async def ahas_permission(obj: RequestLike, permission: str, *, team_id: str | UUID | None = None) -> bool:
    """Same as `has_permission`, but async.

    Args:
        obj: a scope, environ or request, as for `get_user`.
        permission: id of the permission.
        team_id: the team in which it must be held; None for a permission of the project.

    Raises:
        AuthServerError: Stack Auth cannot be reached.
        ConfigError: as `has_permission` does.
        RuntimeError: the scope or environ was pickled.
        TypeError: `obj` is not a scope, environ or request.

    Example::

        if await ahas_permission(request, "delete_reports", team_id=report.team_id):
            show_delete_button()
    """
    asked = _asked_of(obj, permission, team_id)
    return asked is not None and await arun(*asked)


def require_permission(obj: RequestLike, permission: str, *, team_id: str | UUID | None = None) -> User:
    """Return the user of a request, who must hold a permission. For functions that are not async.

    Args:
        obj: a scope, environ or request, as for `get_user`.
        permission: id of the permission, as for `has_permission`.
        team_id: the team in which it must be held, as for `has_permission`.

    Raises:
        RefusedError: the user does not hold it, with the code FORBIDDEN; or as `require_user` does.
        AuthServerError: Stack Auth cannot be reached.
        ConfigError: as `has_permission` does.
        RuntimeError: as `has_permission` does; the async function is `arequire_permission`.
        TypeError: `obj` is not a scope, environ or request.

    Example::

        user = require_permission(flask.request, "delete_reports", team_id=report.team_id)
    """
    user = require_user(obj)
    return _checked(user, is_held=has_permission(obj, permission, team_id=team_id))


async def arequire_permission(obj: RequestLike, permission: str, *, team_id: str | UUID | None = None) -> User:
    """Same as `require_permission`, but async.

    Args:
        obj: a scope, environ or request, as for `get_user`.
        permission: id of the permission, as for `has_permission`.
        team_id: the team in which it must be held, as for `has_permission`.

    Raises:
        RefusedError: as `require_permission` does.
        AuthServerError: Stack Auth cannot be reached.
        ConfigError: as `has_permission` does.
        RuntimeError: the scope or environ was pickled.
        TypeError: `obj` is not a scope, environ or request.

    Example::

        user = await arequire_permission(request, "delete_reports", team_id=report.team_id)
    """
    user = require_user(obj)
    return _checked(user, is_held=await ahas_permission(obj, permission, team_id=team_id))


def teams(obj: RequestLike) -> tuple[Team, ...]:
    """Return the teams of the user of a request. For functions that are not async.

    Args:
        obj: a scope, environ or request, as for `get_user`.

    Raises:
        RefusedError: as `require_user` does, so for the API key of a team too.
        AuthServerError: Stack Auth cannot be reached.
        ConfigError: ``secret_server_key`` is not set, or no middleware has seen the request.
        RuntimeError: an event loop runs in this thread and would be blocked: use `ateams`. Or the scope or environ was
            pickled.
        TypeError: `obj` is not a scope, environ or request.

    Not promised: that a team is gone as soon as the user has left it; see ``permission_ttl``.

    Example::

        names = [team.display_name for team in teams(flask.request)]
    """
    return run(*_teams_of(obj), "teams")


async def ateams(obj: RequestLike) -> tuple[Team, ...]:
    """Same as `teams`, but async.

    Args:
        obj: a scope, environ or request, as for `get_user`.

    Raises:
        RefusedError: as `teams` does.
        AuthServerError: Stack Auth cannot be reached.
        ConfigError: as `teams` does.
        RuntimeError: the scope or environ was pickled.
        TypeError: `obj` is not a scope, environ or request.

    Example::

        names = [team.display_name for team in await ateams(request)]
    """
    return await arun(*_teams_of(obj))


def require_team(obj: RequestLike, team_id: str | UUID) -> Team:
    """Return a team that the user of a request is a member of. For functions that are not async.

    Args:
        obj: a scope, environ or request, as for `get_user`.
        team_id: id of the team. It may come from the client: text that is not a UUID matches no team.

    Raises:
        RefusedError: the user is not a member of such a team, with the code FORBIDDEN; or as `teams` does.
        AuthServerError: Stack Auth cannot be reached.
        ConfigError: as `teams` does.
        RuntimeError: as `teams` does; the async function is `arequire_team`.
        TypeError: `obj` is not a scope, environ or request.

    Not promised: that the user may do anything in the team; see `require_permission`.

    Example::

        team = require_team(flask.request, report.team_id)
    """
    return _member_of(teams(obj), team_id)


async def arequire_team(obj: RequestLike, team_id: str | UUID) -> Team:
    """Same as `require_team`, but async.

    Args:
        obj: a scope, environ or request, as for `get_user`.
        team_id: id of the team, as for `require_team`.

    Raises:
        RefusedError: as `require_team` does.
        AuthServerError: Stack Auth cannot be reached.
        ConfigError: as `teams` does.
        RuntimeError: the scope or environ was pickled.
        TypeError: `obj` is not a scope, environ or request.

    Example::

        team = await arequire_team(request, report.team_id)
    """
    return _member_of(await ateams(obj), team_id)


def _teams_of(obj: RequestLike) -> tuple[Authenticated | KeyAuthenticated, Script[tuple[Team, ...]]]:
    user, authenticated = require_user(obj), authenticated_of(obj)
    _check_secret(authenticated)
    return authenticated, authenticated.config.get_or_create(TeamLookup).teams(user.user_id, clocks())


def _member_of(found: tuple[Team, ...], team_id: str | UUID) -> Team:
    wanted = uuid_of(team_id)
    for team in found:
        if team.id == wanted:
            return team
    raise RefusedError(ErrorCode.FORBIDDEN, "not a member of the team")


def _asked_of(
    obj: RequestLike, permission: str, team_id: str | UUID | None
) -> tuple[Authenticated | KeyAuthenticated, Script[bool]] | None:
    """Return the outcome of a request and the script that looks up a permission.

    Return None if there is nothing to look up: the request has no user, or `team_id` is not a UUID.
    """
    permission = permission_id("permission", permission)
    team = None if team_id is None else uuid_of(team_id)
    try:
        user = require_user(obj)
    except RefusedError:
        return None
    authenticated = authenticated_of(obj)
    if team_id is not None and team is None:
        return None
    _check_secret(authenticated)
    lookup = authenticated.config.get_or_create(PermissionLookup)
    return authenticated, lookup.holds(user.user_id, Permission(permission, team), clocks())


def _check_secret(authenticated: Authenticated | KeyAuthenticated) -> None:
    if not authenticated.config.secret_server_key:
        raise ConfigError(
            "secret_server_key is not set; permissions and teams cannot be asked for without it: set "
            "STACK_SECRET_SERVER_KEY"
        )


def _checked(user: User, *, is_held: bool) -> User:
    if not is_held:
        raise RefusedError(ErrorCode.FORBIDDEN, "a permission is not held")
    return user
