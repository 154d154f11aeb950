"""Log lines that come once a minute at most, however often their reason does."""

from __future__ import annotations

import logging
import math

from .cache import Atomic

logger = logging.getLogger("stackauth_middleware")

LOG_INTERVAL = 60.0
"""Seconds between two lines of one notice."""

MAX_VALUES = 16
"""How many values a `KeyedRateLimitedLog` remembers."""

MAX_LENGTH = 200
"""Characters of a value that are logged."""


class RateLimitedLog:
    """Says one kind of thing, with the number of times that it happened since the last line."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._last: Atomic[tuple[float, int]] = Atomic((-math.inf, 0))

    def __call__(self, mono: float, message: str) -> None:
        count = self._last.swap(lambda last: _counted(last, mono))
        if count:
            logger.log(self._level, "%s [%d times since the last such line]", message, count)


def _counted(last: tuple[float, int], mono: float) -> tuple[tuple[float, int], int]:
    said_at, count = last
    if mono - said_at < LOG_INTERVAL:
        return (said_at, count + 1), 0
    return (mono, 0), count + 1


class KeyedRateLimitedLog:
    """Logs one kind of message, for each value at most once in `EVERY` seconds.

    Args:
        level: of the log records.
        message: with one placeholder, for the value. Values are chosen by strangers: it must escape them (``%a``).

    At most `MAX_VALUES` values are logged in `EVERY` seconds; further ones are not.
    """

    def __init__(self, level: int, message: str) -> None:
        self._level = level
        self._message = message
        self._logged: Atomic[dict[str, float]] = Atomic({})

    def __call__(self, mono: float, value: str) -> None:
        value = value[:MAX_LENGTH]
        if mono - self._logged.record.get(value, -math.inf) < LOG_INTERVAL:
            return
        if self._logged.swap(lambda logged: _with_value(logged, value, mono)):
            logger.log(self._level, self._message, value)


def _with_value(logged: dict[str, float], value: str, mono: float) -> tuple[dict[str, float], bool]:
    recent = {each: at for each, at in logged.items() if mono - at < LOG_INTERVAL}
    if value in recent or len(recent) >= MAX_VALUES:
        return recent, False
    return {**recent, value: mono}, True
