"""Log lines that come once a minute at most, and tell how often their reason came."""

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

from .helpers import MONO

LOGGER = "stackauth_middleware"


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    return [(record.name, record.levelno, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_the_first_is_said_at_once_at_its_level(caplog: pytest.LogCaptureFixture, level: int) -> None:
    RateLimitedLog(level)(MONO, "wrong again")
    assert lines(caplog) == [(LOGGER, level, "wrong again [1 times since the last such line]")]


def test_ten_thousand_in_a_minute_are_one_line_and_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    notice = RateLimitedLog(logging.WARNING)
    for at in range(10_000):
        notice(MONO + at * LOG_INTERVAL / 10_001, "flood")
    assert len(caplog.records) == 1
    notice(MONO + LOG_INTERVAL, "flood")
    assert caplog.records[1].getMessage() == "flood [10000 times since the last such line]"
    assert len(caplog.records) == 2


@pytest.mark.parametrize(("seconds", "said"), [(LOG_INTERVAL - 0.001, 1), (LOG_INTERVAL, 2)])
def test_the_minute_is_over_at_its_end(caplog: pytest.LogCaptureFixture, seconds: float, said: int) -> None:
    notice = RateLimitedLog(logging.WARNING)
    notice(MONO, "one")
    notice(MONO + seconds, "two")
    assert len(caplog.records) == said


def test_the_count_starts_anew_with_each_line(caplog: pytest.LogCaptureFixture) -> None:
    notice = RateLimitedLog(logging.WARNING)
    for mono in (0.0, 1.0, LOG_INTERVAL, 2 * LOG_INTERVAL):
        notice(mono, "x")
    assert [record.getMessage().split("[")[1] for record in caplog.records] == [
        "1 times since the last such line]",
        "2 times since the last such line]",
        "1 times since the last such line]",
    ]


def test_two_notices_do_not_silence_each_other(caplog: pytest.LogCaptureFixture) -> None:
    RateLimitedLog(logging.WARNING)(MONO, "a")
    RateLimitedLog(logging.WARNING)(MONO, "b")
    assert len(caplog.records) == 2


def test_a_percent_sign_is_text(caplog: pytest.LogCaptureFixture) -> None:
    """Addresses are part of the messages, and can hold one."""
    RateLimitedLog(logging.WARNING)(MONO, "at 100%s %d")
    assert caplog.records[0].getMessage().startswith("at 100%s %d [")


def test_what_one_test_learnt_is_no_business_of_the_next(caplog: pytest.LogCaptureFixture) -> None:
    notice = RateLimitedLog(logging.WARNING)
    notice(MONO, "x")
    reset_all()
    notice(MONO, "x")
    assert len(caplog.records) == 2


def test_a_value_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    notice = KeyedRateLimitedLog(logging.WARNING, "seen %a")
    for mono in (0.0, LOG_INTERVAL - 0.001, LOG_INTERVAL, LOG_INTERVAL + 1):
        for value in ("a\n", "b"):
            notice(MONO + mono, value)
    assert lines(caplog) == [(LOGGER, logging.WARNING, f"seen {value}") for value in (r"'a\n'", "'b'") * 2]


def test_values_are_bounded_in_number_and_length(caplog: pytest.LogCaptureFixture) -> None:
    """They are chosen by strangers, who could fill memory and log with new ones."""
    notice = KeyedRateLimitedLog(logging.WARNING, "seen %s")
    for number in range(10 * MAX_VALUES):
        notice(MONO, f"{number} " + "x" * 10_000)
    assert len(caplog.records) == len(notice._logged.record) == MAX_VALUES
    assert len(caplog.records[0].getMessage()) == len("seen ") + MAX_LENGTH
    notice(MONO + LOG_INTERVAL, "later")
    assert list(notice._logged.record) == ["later"]
