"""Tracebacks of public functions hold no arguments."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stackauth_middleware._io.tracebacks import hide_arguments


@hide_arguments
def double(value: str) -> str:
    """Return it twice."""
    if value == "canary":
        raise ValueError("wrong")
    return value * 2


@hide_arguments
async def adouble(value: str) -> str:
    return double(value)


def run(function: Callable[[str], str | Awaitable[str]], value: str) -> Any:
    made = function(value)
    return made if isinstance(made, str) else asyncio.run(made)


@pytest.mark.parametrize("function", [double, adouble])
def test_frames_of_an_exception_hold_no_argument(function: Callable[[str], str | Awaitable[str]]) -> None:
    assert run(function, "a") == "aa"
    with pytest.raises(ValueError, match="wrong") as raised:
        run(function, "canary")
    own = [frame for frame, _ in traceback.walk_tb(raised.value.__traceback__) if frame.f_code.co_name != "run"]
    inner = [frame for frame in own if "double" in frame.f_code.co_name or "call" in frame.f_code.co_name]
    assert len(inner) >= 2
    assert not [frame for frame in inner if "canary" in repr(frame.f_locals)]


def test_wrapper_keeps_name_docstring_and_kind() -> None:
    assert (double.__name__, double.__doc__) == ("double", "Return it twice.")
    assert inspect.iscoroutinefunction(adouble)
    assert not inspect.iscoroutinefunction(double)
