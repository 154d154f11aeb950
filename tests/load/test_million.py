"""Few tokens through one verifier: the same figures as of a million, and what they show where something is broken."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stackauth_middleware._core import cache

from . import million


def test_few_tokens_show_what_many_do() -> None:
    figures = million.run(500, 100)
    assert (figures.failures, figures.cached, figures.upstream_calls) == ([], 100, 1)
    assert math.isfinite(figures.bytes_per_token)


def _nothing_is_evicted(self: Any, key: Any, value: Any) -> None:
    self._values[key] = value


def _last_user_for_every_token(self: Any, _: Any) -> Any:
    return next(reversed(self._values.values()), None)


def _every_lookup_is_kept(self: Any, key: Any) -> Any:
    kept.append([key])
    return self._values.get(key)


kept: list[Any] = []


@pytest.mark.parametrize(
    ("name", "broken", "failure"),
    [
        ("put", _nothing_is_evicted, "the size of the cache is not its bound"),
        ("get", _last_user_for_every_token, "tokens were verified as another user"),
        ("get", _every_lookup_is_kept, "objects pile up past the bound"),
    ],
)
def test_few_tokens_show_what_is_broken(monkeypatch: pytest.MonkeyPatch, name: str, broken: Any, failure: str) -> None:
    monkeypatch.setattr(cache.LRUCache, name, broken)
    assert failure in million.run(250, 50).failures
    kept.clear()
