"""Functions for handlers: the user, the profile and the API key of a request, in any framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeAlias, TypeVar

from ._adapters import ERROR, OUTCOME, USER
from ._core.api_keys import ApiKey
from ._core.flow import Flow
from ._core.key_flow import KeyFlow
from ._core.outcome import Authenticated, KeyAuthenticated, Unauthenticated, Unpickled
from ._core.upstream import Script
from ._core.users import User, UserProfile
from ._io.network import clocks, in_event_loop
from .errors import AuthServerError, ConfigError, ErrorCode, RefusedError

T = TypeVar("T")


class _NotAParameter:
    """Annotation with which FastAPI rejects `get_user` as a dependency, instead of reading `obj` from the query."""

    def __get_pydantic_core_schema__(self, *_: object) -> NoReturn:
        raise ConfigError(
            "get_user, require_user and load_profile take any framework's request, which Depends() cannot pass; "
            "use CurrentUser, OptionalUser or CurrentProfile of stackauth_middleware.contrib.fastapi"
        )


RequestLike: TypeAlias = Annotated[Any, _NotAParameter()]
"""A scope, an environ, or an object that has one. The requests of all frameworks have no common type."""


_UNSEEN = (
    "no Stack Auth middleware saw this request; wrap the app in StackAuthASGIMiddleware or StackAuthWSGIMiddleware"
)
_DROPPED = (
    ". If an ASGI middleware did: the WSGI bridges of Starlette, FastAPI and asgiref drop its user; "
    "a2wsgi.WSGIMiddleware keeps it. Or wrap the WSGI app in StackAuthWSGIMiddleware"
)


def get_user(obj: RequestLike) -> User | None:
    """Return the verified user of a request, or None if the request is unauthenticated.

    Args:
        obj: an ASGI scope, a WSGI environ, or the request of a framework, which has one of them as ``scope``,
            ``environ``, ``env``, ``META`` or ``wsgi_environ``. If the middleware is of the other protocol,
            the app must be behind a bridge of a2wsgi.

    Raises:
        TypeError: `obj` is none of these.

    Not promised: that a middleware has seen the request. Without the middleware the result is always None;
    `require_user` raises.

    Example::

        user = get_user(request)
        greeting = f"Hello {user.display_name}" if user else "Hello"
    """
    user: User | None = _published(obj).get(USER)
    return user


def require_user(obj: RequestLike) -> User:
    """Return the verified user of a request.

    Args:
        obj: a scope, environ or request, as for `get_user`.

    Raises:
        RefusedError: the request is unauthenticated, with the code MISSING_TOKEN; or it has the API key of a team,
            with the code FORBIDDEN.
        AuthServerError: the route is optional, and the token could not be judged, since Stack Auth cannot be
            reached.
        ConfigError: no middleware of this package has seen the request.
        TypeError: `obj` is not a scope, environ or request.

    Not promised: a response. Raised outside of the contrib integrations, the exceptions are the app's to handle.

    Example::

        @app.get("/me")
        def me():
            return {"id": require_user(flask.request).user_id}
    """
    published = _published(obj)
    user: User | None = published.get(USER)
    if user is not None:
        return user
    if _api_key_in(published) is not None:
        raise RefusedError(ErrorCode.FORBIDDEN, "the API key of a team has no user")
    if USER not in published:
        raise ConfigError(_UNSEEN + (_DROPPED if "wsgi.input" in published else ""))
    error: ErrorCode | None = published.get(ERROR)
    if error is not None:
        retry_after = published[OUTCOME].retry_after
        raise AuthServerError(error, retry_after, "a token was sent, but could not be verified")
    raise RefusedError(ErrorCode.MISSING_TOKEN, "the request is unauthenticated")


def get_api_key(obj: RequestLike) -> ApiKey | None:
    """Return the API key of a request, or None if the request has none or its path does not accept API keys.

    Args:
        obj: a scope, environ or request, as for `get_user`.

    Raises:
        TypeError: `obj` is not a scope, environ or request.

    Not promised: the text of the key, which is not kept.

    Example::

        key = get_api_key(request)
        if key is not None and key.team_id is not None:
            return reports_of(key.team_id)
    """
    return _api_key_in(_published(obj))


def load_profile(obj: RequestLike, *, fresh: bool = False) -> UserProfile:
    """Return the profile of the user of a request. For functions that are not async.

    Args:
        obj: a scope, environ or request, as for `get_user`.
        fresh: bypass the cache, unless another fresh profile of this user was fetched in the last second.

    Raises:
        RefusedError: the request is unauthenticated, Stack Auth rejects the token, or the rule does not allow
            the user as the profile shows it.
        AuthServerError: Stack Auth cannot be reached.
        ConfigError: no key is set for the Stack Auth API, or no middleware has seen the request.
        RuntimeError: an event loop runs in this thread and would be blocked: use `aload_profile`. Or the scope or
            environ was pickled, which drops the token.
        TypeError: `obj` is not a scope, environ or request.

    Not promised: that a cached profile is the newest; see ``profile_ttl``. The source is
    ``GET /api/v1/users/me`` (docs/stack-auth.md section 5).

    Example::

        email = load_profile(flask.request).primary_email
    """
    authenticated = authenticated_of(obj)
    return run(authenticated, _profile_script(authenticated, fresh=fresh), "load_profile")


async def aload_profile(obj: RequestLike, *, fresh: bool = False) -> UserProfile:
    """Same as `load_profile`, but async.

    Below the WSGI middleware, a worker thread makes the call: frameworks run each coroutine in a new event loop
    there, and pooled connections would end with that loop.

    Args:
        obj: a scope, environ or request, as for `get_user`.
        fresh: bypass the cache, unless another fresh profile of this user was fetched in the last second.

    Raises:
        RefusedError: as `load_profile` does.
        AuthServerError: Stack Auth cannot be reached.
        ConfigError: no key is set for the Stack Auth API, or no middleware has seen the request.
        RuntimeError: the scope or environ was pickled, which drops the token.
        TypeError: `obj` is not a scope, environ or request.

    Example::

        email = (await aload_profile(request)).primary_email
    """
    authenticated = authenticated_of(obj)
    return await arun(authenticated, _profile_script(authenticated, fresh=fresh))


def outcome_of(obj: RequestLike) -> Authenticated | KeyAuthenticated | Unauthenticated | None:
    """Return the outcome that a middleware has published, or None if none has or the scope was pickled."""
    outcome: object = _published(obj).get(OUTCOME)
    return outcome if isinstance(outcome, Authenticated | KeyAuthenticated | Unauthenticated) else None


def run(authenticated: Authenticated | KeyAuthenticated, script: Script[T], name: str) -> T:
    """Return the result of a script of the request, run in this thread.

    Args:
        authenticated: the outcome of the request.
        script: what to run.
        name: name of the function of this package that the handler called.

    Raises:
        RuntimeError: an event loop runs in this thread and would be blocked.
        Exception: what the script raises.
    """
    if in_event_loop():
        raise RuntimeError(f"{name} would block the event loop of this thread; use: await a{name}(...)")
    from ._io.sync_runner import SyncRunner

    return authenticated.config.get_or_create(SyncRunner).run(script)


async def arun(authenticated: Authenticated | KeyAuthenticated, script: Script[T]) -> T:
    """Same as `run`, but async, and in a worker thread if the event loop does not outlive the request."""
    if not authenticated.in_event_loop:
        from anyio import to_thread

        from ._io.sync_runner import SyncRunner

        return await to_thread.run_sync(authenticated.config.get_or_create(SyncRunner).run, script)
    from ._io.async_runner import AsyncRunner

    return await authenticated.config.get_or_create(AsyncRunner).run(script)


def _profile_script(authenticated: Authenticated | KeyAuthenticated, *, fresh: bool) -> Script[UserProfile]:
    """Return the script that loads the profile and applies the policy of the request to it."""
    if isinstance(authenticated, KeyAuthenticated):
        return authenticated.config.get_or_create(KeyFlow).profile(authenticated, clocks(), fresh=fresh)
    flow = authenticated.config.get_or_create(Flow)
    return flow.profile(authenticated.token, clocks(), fresh=fresh, policy=authenticated.policy)


def authenticated_of(obj: Any) -> Authenticated | KeyAuthenticated:
    """Return the outcome of a request that has a user. Raises as `load_profile` does."""
    require_user(obj)
    outcome = outcome_of(obj)
    if outcome is None or isinstance(outcome, Unauthenticated):
        raise RuntimeError("this request was pickled, which drops its token: load what you need first, and pickle that")
    return outcome


def _api_key_in(published: Mapping[str, Any]) -> ApiKey | None:
    outcome = published.get(OUTCOME)
    return outcome.api_key if isinstance(outcome, KeyAuthenticated | Unpickled) else None


REQUEST_ATTRIBUTES = ("scope", "environ", "env", "META", "wsgi_environ")
"""Attributes of requests with the scope or environ: ``env`` in Falcon, ``META`` in Django, the last in CherryPy."""
_MAX_BRIDGES = 4
"""How many nested apps of alternating protocols are searched for the outcome."""


def _published(obj: Any) -> Mapping[str, Any]:
    """Return the scope or environ that a middleware has published its outcome in, or that of `obj` if none has.

    Raises:
        TypeError: `obj` neither is nor has a scope or environ.
    """
    candidates = (getattr(obj, name, None) for name in REQUEST_ATTRIBUTES)
    found = next((each for each in candidates if isinstance(each, Mapping)), obj)
    if not isinstance(found, Mapping):
        if isinstance(obj, type):
            raise TypeError(f"{obj.__name__} is a class; pass the request that the handler is called with")
        raise TypeError(f"{type(obj).__name__} is no request, scope or environ; pass the request of the framework")
    published: Any = found
    for _ in range(_MAX_BRIDGES):
        if not isinstance(published, Mapping):
            break
        if USER in published:
            return published
        published = published.get("asgi.scope") or published.get("wsgi_environ")  # as a2wsgi passes them on
    return found
