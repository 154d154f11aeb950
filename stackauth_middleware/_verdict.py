"""The outcome of a request that reaches the app: authenticated, or unauthenticated. A refused one is a `Response`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ._config import StackAuthConfig
from ._rules import Policy
from ._user import User, UserType
from ._wire import Inbound, Response
from .errors import ErrorCode

if TYPE_CHECKING:
    from typing_extensions import Self


class Unpickled:
    """What an outcome is after pickling: without the token, the headers and the settings.

    Attributes:
        user: as before, as `error` and `retry_after` are.
    """

    __slots__ = ("error", "retry_after", "user")

    def __init__(self, user: User | None, error: ErrorCode | None, retry_after: int | None) -> None:
        self.user = user
        self.error = error
        self.retry_after = retry_after


class _Kept:
    """Lies in a scope or environ that others copy and pickle. Never changed, so copies are the same object."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        outcome: Any = self
        return Unpickled, (outcome.user, outcome.error, outcome.retry_after)


class Admitted(_Kept):
    """A verified user is let through. Kept with the request, so that the profile can be asked for later.

    It is no mapping, sequence or dataclass and shows none of its attributes: nothing that writes a
    scope or an environ out writes the token. Copies are the same object; a pickle holds the user alone.

    Attributes:
        user: who is there.
        config: whose settings hold.
        token: the verified token of `user`.
        policy: what the request had to meet.
        in_threads: whether the door's apps run in threads, and not in an event loop.
        refresh: the user type whose key set is stale: for a door to see to once the app is done.
        inbound: the request as the rules saw it: a refusal inside the app is answered in its terms.
    """

    __slots__ = ("config", "in_threads", "inbound", "policy", "refresh", "token", "user")
    error: None = None
    retry_after: None = None
    per_user = True
    is_preflight = False

    def __init__(
        self,
        user: User,
        config: StackAuthConfig,
        token: str,
        policy: Policy,
        in_threads: bool,  # noqa: FBT001 - all by position: one is made for each request
        refresh: UserType | None,
        inbound: Inbound,
    ) -> None:
        self.user = user
        self.config = config
        self.token = token
        self.policy = policy
        self.in_threads = in_threads
        self.refresh = refresh
        self.inbound = inbound


class Unauthenticated(_Kept):
    """The request goes on to the app without a user.

    Attributes:
        config: the settings that a refusal inside the app is answered by.
        inbound: the request as the rules saw it.
        error: why a token that was presented could not be verified, on an optional route; else None.
        retry_after: whole seconds until a retry makes sense, where `error` is SERVER_ERROR.
        per_user: whether the app's answer may depend on who asks, as it may on every route that is not public.
        is_preflight: whether of the app's answer only status and CORS headers may be relayed.
    """

    __slots__ = ("config", "error", "inbound", "is_preflight", "per_user", "retry_after")

    user: None = None
    refresh: None = None

    def __init__(
        self,
        config: StackAuthConfig,
        inbound: Inbound,
        error: ErrorCode | None = None,
        retry_after: int | None = None,
        *,
        per_user: bool = True,
        is_preflight: bool = False,
    ) -> None:
        self.config = config
        self.inbound = inbound
        self.error = error
        self.retry_after = retry_after
        self.per_user = per_user
        self.is_preflight = is_preflight


Verdict: TypeAlias = Admitted | Unauthenticated | Response
