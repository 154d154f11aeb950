"""Rate-limited log messages: each at most once in `LOG_INTERVAL`."""

from __future__ import annotations

import logging
import math

from .cache import Atomic

logger = logging.getLogger("stackauth_middleware")

LOG_INTERVAL = 60.0
"""Seconds between two records of one `RateLimitedLog`, or of one value of a `KeyedRateLimitedLog`."""

MAX_VALUES = 16
"""Number of values that a `KeyedRateLimitedLog` logs in `LOG_INTERVAL`; further ones are dropped."""

MAX_LENGTH = 200
"""Characters of a value that are logged."""


class RateLimitedLog:
    """Logs one kind of message, with the number of occurrences since the last record.

    Args:
        level: of the log records.
    """

    def __init__(self, level: int) -> None:
        self._level = level
        self._last: Atomic[tuple[float, int]] = Atomic((-math.inf, 0))

    def __call__(self, mono: float, message: str) -> None:
        """Log `message`, or only count it if the last record is too recent.

        Args:
            mono: the time on the monotonic clock, in seconds.
            message: the text; a percent sign has no meaning in it.
        """
        count = self._last.swap(lambda last: _counted(last, mono))
        if count:
            logger.log(self._level, "%s [%d times since the last such line]", message, count)


def _counted(last: tuple[float, int], mono: float) -> tuple[tuple[float, int], int]:
    """Return the new state, and the count to log, or 0."""
    logged_at, count = last
    if mono - logged_at < LOG_INTERVAL:
        return (logged_at, count + 1), 0
    return (mono, 0), count + 1


class KeyedRateLimitedLog:
    """Logs one kind of message, at most once in `LOG_INTERVAL` for each value.

    Args:
        level: of the log records.
        message: with one placeholder, for the value. Values are client-controlled: it must escape them (``%a``).
    """

    def __init__(self, level: int, message: str) -> None:
        self._level = level
        self._message = message
        self._logged: Atomic[dict[str, float]] = Atomic({})

    def __call__(self, mono: float, value: str) -> None:
        """Log the message with `value`, unless it, or `MAX_VALUES` others, were logged recently.

        Args:
            mono: the time on the monotonic clock, in seconds.
            value: cut to `MAX_LENGTH`.
        """
        value = value[:MAX_LENGTH]
        if mono - self._logged.record.get(value, -math.inf) < LOG_INTERVAL:
            return
        if self._logged.swap(lambda logged: _with_value(logged, value, mono)):
            logger.log(self._level, self._message, value)


def _with_value(logged: dict[str, float], value: str, mono: float) -> tuple[dict[str, float], bool]:
    """Return the recently logged values, and whether to log `value`."""
    recent = {each: at for each, at in logged.items() if mono - at < LOG_INTERVAL}
    if value in recent or len(recent) >= MAX_VALUES:
        return recent, False
    return {**recent, value: mono}, True
