"""Policies: what a request must meet, and whether a user meets it. The rules decide which policy holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from ..errors import ErrorCode, RefusedError
from .users import User

Access: TypeAlias = Literal["required", "optional", "public"]
Check: TypeAlias = Callable[[User], bool]
_STRICTNESS: dict[Access, int] = {"public": 0, "optional": 1, "required": 2}


class Policy(NamedTuple):
    """What a request must meet: the result of the rules for one path and method."""

    access: Access
    profile: bool
    allow_restricted: bool
    allow_anonymous: bool
    checks: tuple[Check, ...] = ()
    every_rule: bool = False
    """Whether this is the policy of paths that are not plain."""

    def stricter(self, other: Policy) -> Policy:
        """Return the policy that demands what both demand."""
        if other is self:
            return self
        return Policy(
            max(self.access, other.access, key=_STRICTNESS.__getitem__),
            self.profile or other.profile,
            self.allow_restricted and other.allow_restricted,
            self.allow_anonymous and other.allow_anonymous,
            (*self.checks, *(check for check in other.checks if check not in self.checks)),
        )


def enforce(user: User, policy: Policy) -> None:
    """Check that `user` meets `policy`.

    Raises:
        RefusedError: ANONYMOUS_NOT_ALLOWED, RESTRICTED_NOT_ALLOWED or FORBIDDEN. A check that
            raises refuses: its exception is the cause of the error.
    """
    if user.is_anonymous and not policy.allow_anonymous:
        raise RefusedError(ErrorCode.ANONYMOUS_NOT_ALLOWED, "an anonymous user")
    if user.is_restricted and not (policy.allow_restricted or policy.allow_anonymous):
        raise RefusedError(
            ErrorCode.RESTRICTED_NOT_ALLOWED, "a restricted user", restricted_reason=user.restricted_reason
        )
    for check in policy.checks:
        try:
            allowed = check(user)
        except Exception as error:
            raise RefusedError(ErrorCode.FORBIDDEN, "the check of a rule raised") from error
        if allowed is not True:
            raise RefusedError(ErrorCode.FORBIDDEN, "the check of a rule did not return True")
