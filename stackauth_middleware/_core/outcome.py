"""The outcome of authenticating a request: `Authenticated`, `Unauthenticated` or `Refused`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ErrorCode
from .config import StackAuthConfig
from .records import RequestRecord, Response
from .rules import Policy
from .users import User, UserType

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


class Outcome:
    """What a middleware does with a request. Never changed, so copies are the same object.

    It is no mapping, sequence or dataclass and shows none of its attributes: it lies in a scope or environ
    that others write out, copy and pickle. A pickle holds the user alone.

    Attributes:
        config: whose settings hold.
        user: the verified user, or None.
        error: why a token that was presented could not be verified, on an optional route; else None.
        retry_after: whole seconds until a retry makes sense, where `error` is SERVER_ERROR.
        refresh: the user type whose key set is stale, for the middleware to refresh once the app is done.
        per_user: whether the app's answer may depend on who asks, as it may on every route that is not public.
        is_preflight: whether of the app's answer only status and CORS headers may be relayed.
    """

    __slots__ = ("config", "error", "is_preflight", "per_user", "refresh", "retry_after", "user")

    def __init__(
        self,
        config: StackAuthConfig,
        user: User | None = None,
        error: ErrorCode | None = None,
        retry_after: int | None = None,
        refresh: UserType | None = None,
        per_user: bool = True,  # noqa: FBT001, FBT002 - all by position: one is made for each request
        is_preflight: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        self.config = config
        self.user = user
        self.error = error
        self.retry_after = retry_after
        self.refresh = refresh
        self.per_user = per_user
        self.is_preflight = is_preflight

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Unpickled, (self.user, self.error, self.retry_after)


class Authenticated(Outcome):
    """The request goes on to the app with a verified user.

    Attributes:
        token: the verified token of `user`, by which the profile can be asked for later.
        policy: what the request had to meet.
        in_event_loop: whether the app runs in an event loop that outlives the request, and not in threads.
        inbound: the request as the rules saw it: a refusal inside the app is answered in its terms.
    """

    __slots__ = ("in_event_loop", "policy", "request", "token")

    user: User

    def __init__(
        self,
        user: User,
        config: StackAuthConfig,
        token: str,
        policy: Policy,
        in_event_loop: bool,  # noqa: FBT001
        refresh: UserType | None,
        request: RequestRecord,
    ) -> None:
        super().__init__(config, user, refresh=refresh)
        self.token = token
        self.policy = policy
        self.in_event_loop = in_event_loop
        self.request = request


class Unauthenticated(Outcome):
    """The request goes on to the app without a user.

    Attributes:
        inbound: the request as the rules saw it.
    """

    __slots__ = ("request",)

    user: None

    def __init__(
        self,
        config: StackAuthConfig,
        request: RequestRecord,
        error: ErrorCode | None = None,
        retry_after: int | None = None,
        *,
        per_user: bool = True,
        is_preflight: bool = False,
    ) -> None:
        super().__init__(config, None, error, retry_after, None, per_user, is_preflight)
        self.request = request


class Refused(Outcome):
    """The middleware answers by itself, and the app does not run.

    Attributes:
        response: a refusal, or the answer to a CORS preflight.
    """

    __slots__ = ("response",)

    def __init__(self, config: StackAuthConfig, response: Response) -> None:
        super().__init__(config)
        self.response = response
