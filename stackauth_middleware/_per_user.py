"""`per_user`: run a function once for each user, such as one that stores the user in the app's database."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable
from functools import wraps
from itertools import count
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar, cast

from ._core.cache import LRUCache, register
from ._core.clocks import elapsed
from ._core.records import Clocks
from ._core.settings import seconds, whole_number
from ._core.users import User, project_of
from ._io.network import clocks
from .errors import ConfigError

if TYPE_CHECKING:
    from anyio.lowlevel import RunVar

P = ParamSpec("P")
R = TypeVar("R")

Key: TypeAlias = tuple[str, str]
"""Project and user id: two projects can have users with the same id, for example after an import."""

_RUN_VAR_NUMBERS = count()


class _Run(Generic[R]):
    """One run of the function. The callers that wait for it share its result.

    Attributes:
        done: set at the end of the run: a `threading.Event` or an `anyio.Event`.
        owner: the thread or task that runs the function.
        outcome: result or exception of the run, once it is done; None if the run was cancelled or killed.
    """

    def __init__(self, done: Any, owner: object) -> None:
        self.done = done
        self.owner = owner
        self.outcome: tuple[R, None] | tuple[None, Exception] | None = None


class _Results(Generic[R]):
    """The results of one function, by user, and its runs in threads."""

    def __init__(self, ttl: float, max_users: int) -> None:
        self._ttl = ttl
        self._cached: LRUCache[Key, tuple[R, Clocks]] = LRUCache(max_users)
        self.after_fork()
        register(self)

    def reset(self) -> None:
        """Do nothing: the cache is registered for resets itself."""

    def after_fork(self) -> None:
        """Replace the lock and the runs, which belong to the parent process."""
        self.lock = threading.Lock()
        self.runs: dict[Key, _Run[R]] = {}

    def get(self, key: Key) -> tuple[R, Clocks] | None:
        """Return the cached result for a user with the time of its run, or None."""
        cached = self._cached.get(key)
        return cached if cached is not None and elapsed(cached[1], clocks()) < self._ttl else None

    def put(self, key: Key, result: R, at: Clocks) -> None:
        """Cache the result of a run that began at `at`."""
        self._cached.put(key, (result, at))


def per_user(
    *, ttl: float = 600, max_users: int = 10_000
) -> Callable[[Callable[Concatenate[User, P], R]], Callable[Concatenate[User, P], R]]:
    """Return a decorator for a function of a `User` that has to run once for each user.

    The result is kept for `ttl` seconds in this process, by the user's project and id. Concurrent calls for the same
    user share one run and its result; if it raises, they all raise. Exceptions are not kept: the next call runs the
    function again. Threads share their runs, and so do the tasks of an event loop (asyncio or trio).

    Use it to create the user's row in the app's database at the user's first request. Write the row with an insert that
    does nothing if it exists, since other processes run the function too.

    Args:
        ttl: seconds for which a result is kept, 0 to 86400.
        max_users: the number of results that are kept.

    Returns:
        A decorator for a plain or ``async`` function, whose first parameter is the user; FastAPI's ``Depends`` can take
        the result. Further arguments, such as a database session, are passed to the function if it runs; they are not
        part of the cache key. The result is shared by requests, so return an id, and not an object of the session.

    Raises:
        ConfigError: an argument is out of its range, or the decorated object is not callable, or yields.
        TypeError: from the function, if its first argument is not a `User`.
        RuntimeError: from the function, if it calls itself for the same user, which would wait for ever.
            It must not call itself for another user either: two such calls can wait for each other.

    Not promised: that a result is kept for all of `ttl`, since the least recently used are dropped beyond `max_users`;
    or that it is dropped when the row is deleted. Nor that owners of API keys in two projects are distinguished: a key
    does not name its project.

    Example::

        @per_user(ttl=600)
        def local_id(user: User) -> int:
            with Session() as session:
                return session.scalar(upsert(user.user_id, user.email))
    """
    ttl = seconds(0, 86_400)("ttl", ttl)
    max_users = whole_number("max_users", max_users)

    def decorate(function: Callable[Concatenate[User, P], R]) -> Callable[Concatenate[User, P], R]:
        if not callable(function):
            raise ConfigError(f"per_user decorates {function!r}; it must be a function of a User")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(f"per_user decorates {function!r}, which yields; it must return what requests share")
        call: Any = getattr(type(function), "__call__", None)  # noqa: B004 - not a test of callability
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
            shared: Any = _shared_by_tasks(cast("Any", function), _Results(ttl, max_users))
            return shared  # type: ignore[no-any-return]
        return _shared_by_threads(function, _Results(ttl, max_users))

    return decorate


def _shared_by_threads(
    function: Callable[Concatenate[User, P], R], results: _Results[R]
) -> Callable[Concatenate[User, P], R]:
    name = _first_parameter(function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> R:
        key = _key_of(args[0] if args else kwargs.get(name))
        while True:
            with results.lock:
                cached = results.get(key)
                if cached is not None:
                    return cached[0]
                run = results.runs.get(key)
                if run is None:
                    mine = results.runs[key] = _Run(threading.Event(), threading.get_ident())
                    break
            _reject_recursion(run, threading.get_ident())
            run.done.wait()
            if run.outcome is not None:
                return _result_of(run.outcome)
        began = clocks()
        try:
            result = function(*args, **kwargs)
            if inspect.isawaitable(result):
                raise TypeError("a function decorated with per_user returned an awaitable; declare it with async def")
        except Exception as error:
            mine.outcome = None, error
            raise
        else:
            mine.outcome = result, None
            results.put(key, result, began)
            return result
        finally:
            with results.lock:
                results.runs.pop(key, None)
            mine.done.set()

    return call


def _shared_by_tasks(
    function: Callable[Concatenate[User, P], Awaitable[R]], results: _Results[R]
) -> Callable[Concatenate[User, P], Awaitable[R]]:
    loops: list[RunVar[dict[Key, _Run[R]]]] = []

    def runs_here() -> dict[Key, _Run[R]]:
        from anyio.lowlevel import RunVar

        if not loops:
            loops.append(RunVar(f"stackauth_middleware.per_user {next(_RUN_VAR_NUMBERS)}"))
        try:
            return loops[0].get()
        except LookupError:
            runs: dict[Key, _Run[R]] = {}
            loops[0].set(runs)
            return runs

    name = _first_parameter(function)

    @wraps(function)
    async def call(*args: Any, **kwargs: Any) -> R:
        import anyio

        key, runs = _key_of(args[0] if args else kwargs.get(name)), runs_here()
        while True:
            cached = results.get(key)
            if cached is not None:
                return cached[0]
            run = runs.get(key)
            if run is None:
                break
            _reject_recursion(run, anyio.get_current_task().id)
            await run.done.wait()
            if run.outcome is not None:
                return _result_of(run.outcome)
        mine = runs[key] = _Run(anyio.Event(), anyio.get_current_task().id)
        began = clocks()
        try:
            result = await function(*args, **kwargs)
        except Exception as error:
            mine.outcome = None, error
            raise
        else:
            mine.outcome = result, None
            results.put(key, result, began)
            return result
        finally:
            runs.pop(key, None)
            mine.done.set()

    return call


def _first_parameter(function: Callable[..., Any]) -> str:
    """Return the name of the first parameter: FastAPI passes every argument by its name. "" if it has no name."""
    try:
        return next(iter(inspect.signature(function).parameters), "")
    except (TypeError, ValueError):  # written in C
        return ""


def _key_of(user: object) -> Key:
    if not isinstance(user, User):
        raise TypeError(f"a function decorated with per_user takes a User first, not a {type(user).__name__}")
    return project_of(user), user.user_id


def _reject_recursion(run: _Run[Any], caller: object) -> None:
    if run.owner == caller:
        raise RuntimeError("a function decorated with per_user calls itself for the same user")


def _result_of(outcome: tuple[R, None] | tuple[None, Exception]) -> R:
    result, error = outcome
    if error is not None:
        raise error
    return cast("R", result)
