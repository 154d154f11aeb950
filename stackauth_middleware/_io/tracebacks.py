"""Keep the arguments of public functions, which may be credentials, out of tracebacks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from ..errors import clear_frame_locals

P = ParamSpec("P")
T = TypeVar("T")


def hide_arguments(method: Callable[P, T]) -> Callable[P, T]:
    """Keep the arguments and variables of `method`, sync or async, out of the tracebacks of its exceptions.

    A wrapper does it, since a method cannot clear its own frame while it runs.
    """
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def call_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return await method(*args, **kwargs)
            except BaseException as error:
                clear_frame_locals(error)
                del args, kwargs
                raise

        return cast("Callable[P, T]", call_async)

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except BaseException as error:
            clear_frame_locals(error)
            del args, kwargs
            raise

    return call
