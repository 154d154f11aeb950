"""Policies: what a request must meet, and whether a user meets it. The rules decide which policy holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from ..errors import ErrorCode, RefusedError
from .users import User

Access: TypeAlias = Literal["required", "optional", "public"]
Check: TypeAlias = Callable[[User], bool]
KeyType: TypeAlias = Literal["user", "team"]
_STRICTNESS: dict[Access, int] = {"public": 0, "optional": 1, "required": 2}

PERMISSION_ID = re.compile(r"\$?[a-z0-9_:]+")
"""Form of the id of a permission, as Stack Auth demands it (docs/stack-auth.md section 12)."""
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Permission(NamedTuple):
    """A permission that the user of a request must hold.

    Attributes:
        id: of the permission.
        team_id: the team in which it must be held; None for a permission of the project.
        segment: the index of the segment of the path that holds the id of the team, until `in_path` has read it. A
            permission that still has one is held by no user.
    """

    id: str
    team_id: str | None = None
    segment: int | None = None

    def in_path(self, segments: Sequence[str]) -> Permission:
        """Return the permission with the team that a path names, or unchanged if that segment is not a UUID."""
        if self.segment is None or self.segment >= len(segments):
            return self
        team_id = uuid_of(segments[self.segment])
        return self if team_id is None else Permission(self.id, team_id)


class Policy(NamedTuple):
    """What a request must meet: the result of the rules for one path and method."""

    access: Access
    profile: bool
    allow_restricted: bool
    allow_anonymous: bool
    checks: tuple[Check, ...] = ()
    permissions: tuple[Permission, ...] = ()
    api_keys: frozenset[KeyType] = frozenset()
    """The types of API keys that are accepted beside access tokens."""
    every_rule: bool = False
    """Whether this is the policy of paths that are not plain."""

    def stricter(self, other: Policy) -> Policy:
        """Return the policy that has the stricter value of each field."""
        if other is self:
            return self
        return Policy(
            max(self.access, other.access, key=_STRICTNESS.__getitem__),
            self.profile or other.profile,
            self.allow_restricted and other.allow_restricted,
            self.allow_anonymous and other.allow_anonymous,
            (*self.checks, *(check for check in other.checks if check not in self.checks)),
            (*self.permissions, *(each for each in other.permissions if each not in self.permissions)),
            self.api_keys & other.api_keys,
        )

    def in_path(self, path: str) -> Policy:
        """Return the policy with the teams that `path` names, a plain path relative to the mount point."""
        if not self.permissions:
            return self
        segments = path.split("/")[1:]
        return self._replace(permissions=tuple(each.in_path(segments) for each in self.permissions))


def uuid_of(value: object) -> str | None:
    """Return `value`, text or a `uuid.UUID`, as text in lower case; None if it is not a UUID."""
    text = str(value)
    return text.lower() if _UUID.fullmatch(text) else None


def enforce(user: User, policy: Policy) -> None:
    """Check that `user` meets `policy`, as far as no call is needed: permissions are not looked up here.

    Raises:
        RefusedError: ANONYMOUS_NOT_ALLOWED, RESTRICTED_NOT_ALLOWED or FORBIDDEN. It is FORBIDDEN also if a check
            raises, with that exception as its cause, and for a permission in a team that the path does not name.
    """
    if user.is_anonymous and not policy.allow_anonymous:
        raise RefusedError(ErrorCode.ANONYMOUS_NOT_ALLOWED, "an anonymous user")
    if user.is_restricted and not (policy.allow_restricted or policy.allow_anonymous):
        raise RefusedError(
            ErrorCode.RESTRICTED_NOT_ALLOWED, "a restricted user", restricted_reason=user.restricted_reason
        )
    if any(each.segment is not None for each in policy.permissions):
        raise RefusedError(ErrorCode.FORBIDDEN, "a permission in a team, and the path does not name one")
    for check in policy.checks:
        try:
            allowed = check(user)
        except Exception as error:
            raise RefusedError(ErrorCode.FORBIDDEN, "the check of a rule raised") from error
        if allowed is not True:
            raise RefusedError(ErrorCode.FORBIDDEN, "the check of a rule did not return True")
