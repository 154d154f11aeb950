"""The outcome of authenticating a request: `Authenticated`, `KeyAuthenticated`, `Unauthenticated` or `Refused`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ErrorCode
from .api_keys import ApiKey
from .config import StackAuthConfig
from .policy import Policy
from .records import RequestRecord, Response
from .users import User, UserType

if TYPE_CHECKING:
    from typing_extensions import Self


class Unpickled:
    """An outcome after unpickling: without the token, the headers and the config.

    Attributes:
        user: the user of the pickled outcome, or None.
        error: its error code, or None.
        retry_after: its whole seconds until a retry makes sense, or None.
        api_key: its API key, or None.
    """

    __slots__ = ("api_key", "error", "retry_after", "user")

    def __init__(
        self, user: User | None, error: ErrorCode | None, retry_after: int | None, api_key: ApiKey | None = None
    ) -> None:
        self.user = user
        self.error = error
        self.retry_after = retry_after
        self.api_key = api_key


class Outcome:
    """The result of authenticating a request. Immutable, so copies are the same object.

    It is not a mapping, sequence or dataclass and its repr shows no attribute, because it is stored in a scope
    or environ that other code logs, copies and pickles. A pickle holds no token, header or setting.

    Attributes:
        config: the config of the middleware.
        user: the verified user, or None.
        error: the error code of a credential that could not be verified, on an optional route; else None.
        retry_after: whole seconds until a retry makes sense, if `error` is SERVER_ERROR.
        refresh: the user type whose key set is stale and which the middleware refreshes after the response; or None.
        per_user: whether the app's response may depend on the user, as on every route that is not public.
        is_preflight: whether only the status and the CORS headers of the app's response may be relayed.
    """

    __slots__ = ("config", "error", "is_preflight", "per_user", "refresh", "retry_after", "user")

    def __init__(
        self,
        config: StackAuthConfig,
        user: User | None = None,
        error: ErrorCode | None = None,
        retry_after: int | None = None,
        refresh: UserType | None = None,
        per_user: bool = True,  # noqa: FBT001, FBT002 - positional for speed: one is made for each request
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

    def __getstate__(self) -> None:
        """Return no state: jsonpickle and similar tools would write the token and headers, which are in slots."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Unpickled, (self.user, self.error, self.retry_after)


class Authenticated(Outcome):
    """Outcome of a request that goes on to the app with a user.

    Attributes:
        token: the verified token of `user`, to fetch the profile later.
        policy: the policy that the user met.
        in_event_loop: whether the app runs in an event loop that outlives the request, and not in threads.
        request: the request, which a refusal inside the app needs for its response.
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
        # Without super().__init__(), for speed: one is made for each request with a user.
        self.config = config
        self.user = user
        self.error = None
        self.retry_after = None
        self.refresh = refresh
        self.per_user = True
        self.is_preflight = False
        self.token = token
        self.policy = policy
        self.in_event_loop = in_event_loop
        self.request = request


class KeyAuthenticated(Outcome):
    """Outcome of a request that goes on to the app with an API key, and with its owner if that is a user.

    Attributes:
        api_key: the checked key, without its value.
        policy: the policy that the key met.
        in_event_loop: as for `Authenticated`.
        request: the request, which a refusal inside the app needs for its response.
    """

    __slots__ = ("api_key", "in_event_loop", "policy", "request")

    def __init__(
        self,
        api_key: ApiKey,
        user: User | None,
        config: StackAuthConfig,
        policy: Policy,
        request: RequestRecord,
        *,
        in_event_loop: bool,
    ) -> None:
        super().__init__(config, user)
        self.api_key = api_key
        self.policy = policy
        self.in_event_loop = in_event_loop
        self.request = request

    def __reduce__(self) -> tuple[Any, ...]:
        return Unpickled, (self.user, self.error, self.retry_after, self.api_key)


class Unauthenticated(Outcome):
    """Outcome of a request that goes on to the app without a user.

    Attributes:
        request: the request, which a refusal inside the app needs for its response.
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
    """Outcome of a request that the middleware answers itself; the app does not run.

    Attributes:
        response: the response: a refusal, or the answer to a CORS preflight.
        reason: the reason of a refusal, for the developer and not for clients; "" for a preflight.
    """

    __slots__ = ("reason", "response")

    def __init__(self, config: StackAuthConfig, response: Response, reason: str = "") -> None:
        # Without super().__init__(), for speed: refusals have to be cheap.
        self.config = config
        self.user = None
        self.error = None
        self.retry_after = None
        self.refresh = None
        self.per_user = True
        self.is_preflight = False
        self.response = response
        self.reason = reason
