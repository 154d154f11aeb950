"""What the gate says of a request that the app gets to see: who is there, or that nobody is."""

from __future__ import annotations

from typing import TypeAlias

from ._config import StackAuthConfig
from ._rules import Policy
from ._user import User, UserType
from ._wire import Response
from .errors import ErrorCode


class Admitted:
    """A verified user is let through. Kept with the request, so that the profile can be asked for later.

    It is no mapping, sequence or dataclass and shows none of its attributes: nothing that writes a
    scope or an environ out writes the token.

    Attributes:
        user: who is there.
        config: whose settings hold.
        token: the verified token of `user`.
        policy: what the request had to meet.
        in_threads: whether the door's apps run in threads, and not in an event loop.
        refresh: the user type whose key set is stale: for a door to see to once the app is done.
    """

    __slots__ = ("config", "in_threads", "policy", "refresh", "token", "user")

    error: None = None

    def __init__(
        self,
        user: User,
        config: StackAuthConfig,
        token: str,
        policy: Policy,
        in_threads: bool,  # noqa: FBT001 - all by position: one is made for each request
        refresh: UserType | None,
    ) -> None:
        self.user = user
        self.config = config
        self.token = token
        self.policy = policy
        self.in_threads = in_threads
        self.refresh = refresh


class Nobody:
    """Nobody is let through.

    Attributes:
        error: why nobody is there although somebody tried, on an optional route.
    """

    __slots__ = ("error",)

    user: None = None
    refresh: None = None

    def __init__(self, error: ErrorCode | None = None) -> None:
        self.error = error


NOBODY = Nobody()

Verdict: TypeAlias = Admitted | Nobody | Response
