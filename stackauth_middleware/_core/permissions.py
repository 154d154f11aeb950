"""Permissions and teams of users: the calls, the readers of their replies, and the lookups that cache them.

All permissions of a user come in one reply, with those that others contain (``recursive=true``;
docs/stack-auth.md section 12). Without a user id the API would reply with those of everybody, so each item has to name
the user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from ..errors import ErrorCode, RefusedError
from .api import server_call
from .config import StackAuthConfig
from .lookup import Lookup
from .policy import Permission, Policy
from .records import Clocks
from .replies import read_object
from .upstream import Answer, Call, Failure, Refusal, Script
from .users import User

T = TypeVar("T")


class PermissionLookup:
    """The permissions of the users of one config, by user id.

    Args:
        config: its API address, secret key and cache settings are used.
    """

    def __init__(self, config: StackAuthConfig) -> None:
        self._config = config
        self._of_project = self._lookup("project permissions", "/project-permissions", _project_permission)
        self._of_teams = self._lookup("team permissions", "/team-permissions", _team_permission)

    def holds(self, user_id: str, permission: Permission, now: Clocks) -> Script[bool]:
        """Return whether a user holds a permission, from the cache or from Stack Auth.

        Args:
            user_id: of a verified token, or as Stack Auth sent it.
            permission: the permission. One whose team is unknown (`segment` is set) is held by no user.
            now: both clocks.

        Raises:
            AuthServerError: Stack Auth cannot be reached, or rejects our key.
        """
        if permission.segment is not None:
            return False
        path, lookup = self._of_project if permission.team_id is None else self._of_teams

        def make_call() -> Call:
            return server_call(self._config, "GET", path, {"user_id": user_id, "recursive": "true"})

        held = yield from lookup.get(user_id, make_call, now)
        return permission in held

    def require(self, user: User, policy: Policy, now: Clocks) -> Script[None]:
        """Check that `user` holds all permissions of `policy`.

        Raises:
            RefusedError: FORBIDDEN, since one is not held.
            AuthServerError: Stack Auth cannot be reached, or rejects our key.
        """
        for permission in policy.permissions:
            if not (yield from self.holds(user.user_id, permission, now)):
                raise RefusedError(ErrorCode.FORBIDDEN, "a permission of the rule is not held")

    def _lookup(
        self, name: str, path: str, read: Callable[[Mapping[str, Any]], T]
    ) -> tuple[str, Lookup[str, frozenset[T]]]:
        return path, Lookup(
            self._config,
            name,
            f"{self._config.api_url}/api/v1{path}",
            partial(_read, name, read),
            ttl=self._config.permission_ttl,
            max_entries=self._config.profile_cache_size,
            max_bytes=self._config.profile_cache_bytes,
        )


def _read(
    name: str, read: Callable[[Mapping[str, Any]], T], answer: Answer, key: str, clocks: Clocks
) -> frozenset[T] | Refusal | Failure:
    """Return the permissions of the user with the id `key`, or why `answer` holds none. A `Reader` for `Lookup`.

    Raises:
        LookupError: the reply is not what was asked for.
        TypeError: as LookupError.
        ValueError: as LookupError.
    """
    body = read_object(answer, clocks, {}, name)
    if isinstance(body, Refusal | Failure):
        return body
    if body.get("is_paginated", False) is not False:
        raise ValueError("not all items")
    if any(item["user_id"] != key for item in body["items"]):
        raise ValueError("an item of another user")
    return frozenset(map(read, body["items"]))


def _project_permission(item: Mapping[str, Any]) -> Permission:
    return Permission(_text(item["id"]))


def _team_permission(item: Mapping[str, Any]) -> Permission:
    return Permission(_text(item["id"]), _text(item["team_id"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("an id that is no text")
    return value
