"""Rate-limited log messages: each at most once in `LOG_INTERVAL`."""

from __future__ import annotations

import logging

from .cache import Atomic
from .clocks import NEVER, elapsed
from .records import Clocks

logger = logging.getLogger("stackauth_middleware")

LOG_INTERVAL = 60.0
"""Minimum seconds between two records of one `RateLimitedLog`, or of one value of a `KeyedRateLimitedLog`."""

MAX_VALUES = 16
"""Maximum number of values that a `KeyedRateLimitedLog` logs in `LOG_INTERVAL`; further ones are dropped."""

MAX_LENGTH = 200
"""Maximum length of a logged value, in characters."""


class RateLimitedLog:
    """Logs one kind of message, with the number of occurrences since the last record.

    Args:
        level: of the log records.
    """

    def __init__(self, level: int) -> None:
        self._level = level
        self._last: Atomic[tuple[Clocks, int]] = Atomic((NEVER, 0))

    def __call__(self, now: Clocks, message: str) -> None:
        """Log `message`, or only count it if the last record is too recent.

        Args:
            now: both clocks.
            message: the text; a percent sign has no meaning in it.
        """
        count = self._last.swap(lambda last: _counted(last, now))
        if count:
            repeated = f" [{count} times since the last such line]" if count > 1 else ""
            logger.log(self._level, "%s%s", message, repeated)


def _counted(last: tuple[Clocks, int], now: Clocks) -> tuple[tuple[Clocks, int], int]:
    """Return the new state, and the count to log, or 0."""
    logged_at, count = last
    if elapsed(logged_at, now) < LOG_INTERVAL:
        return (logged_at, count + 1), 0
    return (now, 0), count + 1


class KeyedRateLimitedLog:
    """Logs one kind of message, at most once in `LOG_INTERVAL` for each value.

    Args:
        level: of the log records.
        message: with one placeholder, for the value. Values are client-controlled: it must escape them (``%a``).
    """

    def __init__(self, level: int, message: str) -> None:
        self._level = level
        self._message = message
        self._logged: Atomic[dict[str, Clocks]] = Atomic({})

    def __call__(self, now: Clocks, value: str) -> None:
        """Log the message with `value`, unless this value or `MAX_VALUES` others were logged within `LOG_INTERVAL`.

        Args:
            now: both clocks.
            value: cut to `MAX_LENGTH`.
        """
        value = value[:MAX_LENGTH]
        if elapsed(self._logged.record.get(value, NEVER), now) < LOG_INTERVAL:
            return
        if self._logged.swap(lambda logged: _with_value(logged, value, now)):
            logger.log(self._level, self._message, value)


def _with_value(logged: dict[str, Clocks], value: str, now: Clocks) -> tuple[dict[str, Clocks], bool]:
    """Return the recently logged values, and whether to log `value`."""
    recent = {each: at for each, at in logged.items() if elapsed(at, now) < LOG_INTERVAL}
    if value in recent or len(recent) >= MAX_VALUES:
        return recent, False
    return {**recent, value: now}, True
