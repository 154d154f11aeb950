"""What the two doors share: the keys that they write, and how a request, scope or environ is read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeAlias

from ._adapters import ERROR, OUTCOME, USER
from ._core.flow import Flow
from ._core.outcome import Authenticated, Unauthenticated
from ._core.upstream import Script
from ._core.users import User, UserProfile
from ._io.network import clocks, in_event_loop
from .errors import AuthServerError, ConfigError, ErrorCode, RefusedError


class _Whole:
    """Keeps FastAPI from reading the request out of the query: building such a route fails, and says what to use."""

    def __get_pydantic_core_schema__(self, *_: object) -> NoReturn:
        raise ConfigError(
            "get_user, require_user and load_profile take any framework's request, which Depends() cannot pass; "
            "use CurrentUser, OptionalUser or CurrentProfile of stackauth_middleware.contrib.fastapi"
        )


RequestLike: TypeAlias = Annotated[Any, _Whole()]
"""What has a scope or environ, or is one. No common type would take every framework's."""


def get_user(obj: RequestLike) -> User | None:
    """Return the verified user of a request, or None for nobody.

    Args:
        obj: an ASGI scope, a WSGI environ, or a framework's request that has one as its ``scope``,
            ``environ``, ``env`` or ``META``.

    Raises:
        TypeError: `obj` is none of these.

    Not promised: that a middleware was there; without one nobody ever is. `require_user` tells.
    """
    user: User | None = _written(obj).get(USER)
    return user


def require_user(obj: RequestLike) -> User:
    """Return the verified user of a request. Takes what `get_user` takes.

    Raises:
        RefusedError: MISSING_TOKEN where nobody is.
        AuthServerError: nobody is, on an optional route, since Stack Auth could not be asked.
        ConfigError: no Stack Auth middleware saw this request.
        TypeError: `obj` is no request, scope or environ.
    """
    written = _written(obj)
    user: User | None = written.get(USER)
    if user is not None:
        return user
    if USER not in written:
        raise ConfigError(
            "no Stack Auth middleware saw this request; wrap the app in StackAuthASGIMiddleware or its twin"
        )
    error: ErrorCode | None = written.get(ERROR)
    if error is not None:
        retry_after = written[OUTCOME].retry_after
        raise AuthServerError(error, retry_after, "a token was presented, and could not be verified")
    raise RefusedError(ErrorCode.MISSING_TOKEN, "nobody is signed in")


def load_profile(obj: RequestLike, *, fresh: bool = False) -> UserProfile:
    """Return the whole profile of the user of a request; for plain functions, in any thread.

    Args:
        obj: what `get_user` takes.
        fresh: ask Stack Auth again, unless another fresh profile of this user was asked for less than a second ago.

    Raises:
        RuntimeError: an event loop runs in this thread, which would stop: use `aload_profile`. Or the scope or
            environ was pickled, which leaves the token behind.
        RefusedError: nobody is there, or Stack Auth refuses the token or shows a user not to be let in.
        AuthServerError: Stack Auth could not be asked.
        ConfigError: no key is set to ask with, or no middleware saw this request.
    """
    authenticated = _authenticated(obj)
    if in_event_loop():
        raise RuntimeError("load_profile would block the event loop of this thread; use: await aload_profile(...)")
    from ._io.sync_runner import SyncRunner

    return authenticated.config.get_or_create(SyncRunner).run(_asking(authenticated, fresh=fresh))


async def aload_profile(obj: RequestLike, *, fresh: bool = False) -> UserProfile:
    """Do as `load_profile` does, from a coroutine.

    Under the WSGI door, where a framework runs each coroutine in a loop of its own, a worker thread
    asks: connections that belong to such a loop could not be kept.
    """
    authenticated = _authenticated(obj)
    script = _asking(authenticated, fresh=fresh)
    if not authenticated.in_event_loop:
        from anyio import to_thread

        from ._io.sync_runner import SyncRunner

        return await to_thread.run_sync(authenticated.config.get_or_create(SyncRunner).run, script)
    from ._io.async_runner import AsyncRunner

    return await authenticated.config.get_or_create(AsyncRunner).run(script)


def outcome_of(obj: RequestLike) -> Authenticated | Unauthenticated | None:
    """Return the outcome that a middleware has written for a request; None where none has, or it was pickled since."""
    outcome: object = _written(obj).get(OUTCOME)
    return outcome if isinstance(outcome, Authenticated | Unauthenticated) else None


def _asking(authenticated: Authenticated, *, fresh: bool) -> Script[UserProfile]:
    """Return the script that brings the profile, and refuses a user whom the rules would not let in."""
    flow = authenticated.config.get_or_create(Flow)
    return flow.profile(authenticated.token, clocks(), fresh=fresh, policy=authenticated.policy)


def _authenticated(obj: Any) -> Authenticated:
    require_user(obj)
    outcome = _written(obj)[OUTCOME]
    if not isinstance(outcome, Authenticated):
        raise RuntimeError("this request was pickled, and its token was not: load the profile before, and send that")
    return outcome


def _written(obj: Any) -> Mapping[str, Any]:
    """Return the mapping in which a door left its keys, or the outermost one where none did."""
    found = None
    for name in ("scope", "environ", "env", "META"):
        candidate = getattr(obj, name, None)
        if isinstance(candidate, Mapping):
            found = candidate
            break
    if found is None:
        if not isinstance(obj, Mapping):
            raise TypeError(f"{type(obj).__name__} is no request, scope or environ; pass the framework's request")
        found = obj
    inner = found.get("asgi.scope")
    return inner if USER not in found and isinstance(inner, Mapping) else found
