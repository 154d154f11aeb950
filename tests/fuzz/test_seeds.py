"""Every seed and every past finding through every target once, without a fuzzer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import seeds
from .targets import TARGETS, _middlewares

INPUTS = [data for name in TARGETS for data in seeds.of(name)]


@pytest.fixture(scope="module", autouse=True)
def _loop_is_closed() -> Iterator[None]:
    yield
    while _middlewares:
        _middlewares.pop().loop.close()


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_through_every_target(target: str) -> None:
    for data in INPUTS:
        TARGETS[target](data)


def test_every_target_has_seeds() -> None:
    assert seeds.SEEDS.keys() == TARGETS.keys()
    assert all(seeds.SEEDS.values())
