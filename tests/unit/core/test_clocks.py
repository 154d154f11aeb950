"""Elapsed time on two clocks, one of which stands still or is set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.clocks import NEVER, elapsed
from stackauth_middleware._core.records import Clocks

from .helpers import NOW, bounded


@pytest.mark.parametrize(
    ("wall", "mono", "seconds"),
    [(5, 5, 5), (600, 0.005, 600), (-3600, 5, 5), (3600, 5, 3600), (0, 0, 0)],
    ids=["both", "suspended host", "wall clock set back", "wall clock set forward", "no time"],
)
def test_elapsed_is_measured_on_the_clock_that_advanced_further(wall: float, mono: float, seconds: float) -> None:
    assert elapsed(NOW, Clocks(NOW.wall + wall, NOW.mono + mono)) == pytest.approx(seconds)


def test_never_is_longer_ago_than_any_period() -> None:
    assert elapsed(NEVER, NOW) == float("inf")


@bounded
@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_neither_clock_extends_a_period(wall: float, mono: float) -> None:
    now = Clocks(NOW.wall + wall, NOW.mono + mono)
    assert elapsed(NOW, now) >= now.mono - NOW.mono
    assert elapsed(NOW, now) >= now.wall - NOW.wall
