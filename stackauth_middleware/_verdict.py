"""What the gate says of a request that the app gets to see."""

from __future__ import annotations

from typing import NamedTuple

from ._config import StackAuthConfig
from ._rules import Policy
from ._user import User, UserType
from .errors import ErrorCode


class Presented:
    """A verified token, kept for the request that brought it so that its profile can be asked for.

    It is no mapping, sequence or dataclass and shows none of its attributes: nothing that writes a
    scope or an environ out writes the token.
    """

    __slots__ = ("config", "in_threads", "policy", "token")

    def __init__(self, config: StackAuthConfig, token: str, policy: Policy, *, in_threads: bool) -> None:
        self.config = config
        self.token = token
        self.policy = policy
        self.in_threads = in_threads


class Admitted(NamedTuple):
    """The verdict that lets a request through.

    Attributes:
        user: who is there, or None for nobody.
        presented: the token behind `user`.
        error: why nobody is there although somebody tried, on an optional route.
        refresh: the user type whose key set is stale: for a door to see to once the app is done.
    """

    user: User | None = None
    presented: Presented | None = None
    error: ErrorCode | None = None
    refresh: UserType | None = None


NOBODY = Admitted()
