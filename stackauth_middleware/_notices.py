"""Log lines that come once a minute at most, however often their reason does."""

from __future__ import annotations

import logging
import math

from ._memory import Cell

logger = logging.getLogger("stackauth_middleware")

EVERY = 60.0
"""Seconds between two lines of one notice."""


class Notice:
    """Says one kind of thing, with the number of times that it happened since the last line."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._last: Cell[tuple[float, int]] = Cell((-math.inf, 0))

    def __call__(self, mono: float, message: str) -> None:
        count = self._last.swap(lambda last: _counted(last, mono))
        if count:
            logger.log(self._level, "%s [%d times since the last such line]", message, count)


def _counted(last: tuple[float, int], mono: float) -> tuple[tuple[float, int], int]:
    said_at, count = last
    if mono - said_at < EVERY:
        return (said_at, count + 1), 0
    return (mono, 0), count + 1
