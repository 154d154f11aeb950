"""Few tokens through one verifier: the same figures as of a million, and what they show where something is broken."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stackauth_middleware._core import cache

from . import million


def test_few_tokens_show_what_many_do() -> None:
    figures = million.run(500, 100)
    assert (figures.failures, figures.remembered, figures.upstream_calls) == ([], 100, 1)
    assert math.isfinite(figures.octets_per_token)


def _everybody_stays(memory: Any, key: Any, value: Any) -> None:
    memory._values[key] = value


def _the_last_is_everybody(memory: Any, _: Any) -> Any:
    return next(reversed(memory._values.values()), None)


def _every_look_is_kept(memory: Any, key: Any) -> Any:
    kept.append([key])
    return memory._values.get(key)


kept: list[Any] = []


@pytest.mark.parametrize(
    ("name", "broken", "failure"),
    [
        ("put", _everybody_stays, "what is remembered is not what the bound says"),
        ("get", _the_last_is_everybody, "tokens were taken for somebody else's"),
        ("get", _every_look_is_kept, "objects pile up past the bound"),
    ],
)
def test_few_tokens_show_what_is_broken(monkeypatch: pytest.MonkeyPatch, name: str, broken: Any, failure: str) -> None:
    monkeypatch.setattr(cache.LRUCache, name, broken)
    assert failure in million.run(250, 50).failures
    kept.clear()
