"""Rate-limited log messages, with counts of those that were dropped."""

from __future__ import annotations

import logging

import pytest

from stackauth_middleware._core.cache import reset_all
from stackauth_middleware._core.rate_limited_log import (
    LOG_INTERVAL,
    MAX_LENGTH,
    MAX_VALUES,
    KeyedRateLimitedLog,
    RateLimitedLog,
)
from stackauth_middleware._core.records import Clocks

from .helpers import MONO, WALL

LOGGER = "stackauth_middleware"


def at(seconds: float) -> Clocks:
    """Return a time on the monotonic clock, on a host whose wall clock stands still."""
    return Clocks(WALL, seconds)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    return [(record.name, record.levelno, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_first_message_is_logged_at_once_at_its_level(caplog: pytest.LogCaptureFixture, level: int) -> None:
    RateLimitedLog(level)(at(MONO), "wrong again")
    assert lines(caplog) == [(LOGGER, level, "wrong again")]


def test_repeated_messages_are_counted_in_the_next_record(caplog: pytest.LogCaptureFixture) -> None:
    log = RateLimitedLog(logging.WARNING)
    for number in range(10_000):
        log(at(MONO + number * LOG_INTERVAL / 10_001), "flood")
    assert len(caplog.records) == 1
    log(at(MONO + LOG_INTERVAL), "flood")
    assert caplog.records[1].getMessage() == "flood [10000 times since the last such line]"
    assert len(caplog.records) == 2


@pytest.mark.parametrize(("seconds", "records"), [(LOG_INTERVAL - 0.001, 1), (LOG_INTERVAL, 2)])
def test_interval_ends_after_exactly_a_minute(caplog: pytest.LogCaptureFixture, seconds: float, records: int) -> None:
    log = RateLimitedLog(logging.WARNING)
    log(at(MONO), "one")
    log(at(MONO + seconds), "two")
    assert len(caplog.records) == records


def test_count_restarts_with_each_record(caplog: pytest.LogCaptureFixture) -> None:
    log = RateLimitedLog(logging.WARNING)
    for mono in (0.0, 1.0, LOG_INTERVAL, 2 * LOG_INTERVAL):
        log(at(mono), "x")
    assert [record.getMessage() for record in caplog.records] == ["x", "x [2 times since the last such line]", "x"]


def test_two_logs_are_limited_separately(caplog: pytest.LogCaptureFixture) -> None:
    RateLimitedLog(logging.WARNING)(at(MONO), "a")
    RateLimitedLog(logging.WARNING)(at(MONO), "b")
    assert len(caplog.records) == 2


def test_percent_sign_has_no_meaning(caplog: pytest.LogCaptureFixture) -> None:
    """Messages contain addresses, which may contain one."""
    RateLimitedLog(logging.WARNING)(at(MONO), "at 100%s %d")
    assert caplog.records[0].getMessage() == "at 100%s %d"


def test_reset_all_resets_the_interval(caplog: pytest.LogCaptureFixture) -> None:
    log = RateLimitedLog(logging.WARNING)
    log(at(MONO), "x")
    reset_all()
    log(at(MONO), "x")
    assert len(caplog.records) == 2


def test_value_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    log = KeyedRateLimitedLog(logging.WARNING, "seen %a")
    for mono in (0.0, LOG_INTERVAL - 0.001, LOG_INTERVAL, LOG_INTERVAL + 1):
        for value in ("a\n", "b"):
            log(at(MONO + mono), value)
    assert lines(caplog) == [(LOGGER, logging.WARNING, f"seen {value}") for value in (r"'a\n'", "'b'") * 2]


def test_values_are_bounded_in_number_and_length(caplog: pytest.LogCaptureFixture) -> None:
    """Values are client-controlled: without bounds, a client could fill memory and log."""
    log = KeyedRateLimitedLog(logging.WARNING, "seen %s")
    for number in range(10 * MAX_VALUES):
        log(at(MONO), f"{number} " + "x" * 10_000)
    assert len(caplog.records) == len(log._logged.record) == MAX_VALUES
    assert len(caplog.records[0].getMessage()) == len("seen ") + MAX_LENGTH
    log(at(MONO + LOG_INTERVAL), "later")
    assert list(log._logged.record) == ["later"]


def test_interval_ends_where_the_monotonic_clock_is_frozen(caplog: pytest.LogCaptureFixture) -> None:
    """Lambda stops it between requests."""
    log, keyed = RateLimitedLog(logging.WARNING), KeyedRateLimitedLog(logging.WARNING, "seen %a")
    for seconds in (0, LOG_INTERVAL - 1, LOG_INTERVAL):
        log(Clocks(WALL + seconds, MONO), "x")
        keyed(Clocks(WALL + seconds, MONO), "x")
    assert len(caplog.records) == 4
