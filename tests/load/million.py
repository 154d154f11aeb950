"""Very many distinct tokens through one Verifier, each verified once: the cache must stop growing."""

from __future__ import annotations

import gc
import time
import tracemalloc
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from stackauth_middleware import StackAuthConfig, UserType, Verifier
from stackauth_middleware._core import cache
from stackauth_middleware.testing import LocalStackAuth
from stackauth_middleware.testing._claims import default_account, full_claims
from stackauth_middleware.testing._issuer import compact

from .settings import PROJECT
from .watch import rss_of

API_URL = "http://127.0.0.1:1"
"""No call is made there: the local Stack Auth replaces the network."""
FRESH = 600.0
"""Seconds after which keys are asked for again."""
TRACED_GROWTH = 128 * 1024, 100
"""Bytes, in total and per cached token, by which Python's allocations may grow while tokens replace each other: a
tenth of the text of one token."""
RSS_GROWTH = 32 * 1024
"""KiB by which the process may grow once the bound is reached: allocators keep some of the freed memory."""


@dataclass
class Figures:
    """The measurements of a run; `rss` in KiB by the number of tokens so far."""

    tokens: int
    bound: int
    seconds: float = 0.0
    signing_seconds: float = 0.0
    cached: int = 0
    largest_cache: int = 0
    bytes_per_token: float = 0.0
    traced_growth: list[int] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)
    rss: dict[int, int] = field(default_factory=dict)
    wrong_users: int = 0
    upstream_calls: int = 0
    failures: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return a short account of the run."""
        rss = ", ".join(f"{count:,}: {kib:,}" for count, kib in self.rss.items())
        figures = {
            "distinct tokens, each verified once": f"{self.tokens:,}",
            "of them verified as another user": f"{self.wrong_users:,}",
            "seconds, of them signing": f"{self.seconds:.0f}, {self.signing_seconds:.0f}",
            "cached at the end, bound": f"{self.cached:,}, {self.bound:,}",
            "bytes for each cached token (tracemalloc)": f"{self.bytes_per_token:,.0f}",
            "growth past the bound, bytes (tracemalloc)": ", ".join(f"{each:,}" for each in self.traced_growth),
            "objects that gc knows, just past the bound and at the end": ", ".join(
                f"{each:,}" for each in self.objects
            ),
            "RSS in KiB by number of tokens": rss,
            "key sets fetched": str(self.upstream_calls),
            "failures": "; ".join(self.failures) or "none",
        }
        return "\n".join(
            ["| what | figure |", "|---|---|", *(f"| {name} | {figure} |" for name, figure in figures.items())]
        )


def run(count: int, bound: int = 10_000, say: Any = lambda _: None) -> Figures:
    """Verify `count` distinct tokens and return the figures.

    Args:
        count: at least four times the bound.
        bound: the size of the token cache.
        say: called with messages about the progress.
    """
    if count < 4 * bound:
        raise ValueError("too few tokens to see what happens past the bound")
    return _Run(count, bound, say).figures


class _Run:
    def __init__(self, count: int, bound: int, say: Any) -> None:
        self.figures = figures = Figures(count, bound)
        self._say = say
        self._looks = {2 * bound, count // 4, *(count * tenth // 10 for tenth in range(1, 11))}
        local = LocalStackAuth(PROJECT, api_url=API_URL)
        self._tokens = _tokens(local, figures)
        with local.in_process():
            config = StackAuthConfig(project_id=PROJECT, api_url=API_URL, token_cache_size=bound)
            with Verifier(config) as verifier:
                self._verifier = verifier
                started = time.monotonic()
                self._all(count, bound)
                figures.seconds = time.monotonic() - started
        figures.upstream_calls = local.requests.count()
        self._verify_locally()

    def _all(self, count: int, bound: int) -> None:
        figures = self.figures
        first_id, first = next(self._tokens)
        self._check(first_id, first)  # the keys are there, and what is imported late
        empty = _traced(start=True)
        self._verify(bound - 1)
        full = _traced()
        figures.bytes_per_token = (full - empty) / (bound - 1)
        self._verify(bound)
        figures.traced_growth.append(_traced(stop=True) - full)
        figures.objects.append(_objects())
        self._verify(count - 4 * bound)
        figures.objects.append(_objects())
        self._verify(bound)
        before = _traced(start=True)
        # Freed memory is not counted if it was allocated before tracing began, so all cached tokens are replaced first.
        self._verify(bound - 1)
        turned = _traced(stop=True) - before
        figures.traced_growth.append(turned - round(figures.bytes_per_token * (bound - 1)))
        self._check(*next(self._tokens))
        self._check(first_id, first)
        figures.cached = max(_cache_sizes())

    def _verify(self, count: int) -> None:
        for _ in range(count):
            self._check(*next(self._tokens))

    _verified = 0

    def _check(self, user_id: str, token: str) -> None:
        self._verified += 1
        self.figures.wrong_users += self._verifier.verify(token).user_id != user_id
        if self._verified in self._looks:
            self.figures.largest_cache = max(self.figures.largest_cache, *_cache_sizes())
            self.figures.rss[self._verified] = rss_of()
            self._say(f"{self._verified:,} tokens, RSS {rss_of():,} KiB")

    def _verify_locally(self) -> None:
        figures = self.figures
        if figures.wrong_users:
            figures.failures.append("tokens were verified as another user")
        if figures.cached != figures.bound or figures.largest_cache > figures.bound:
            figures.failures.append("the size of the cache is not its bound")
        fixed, each = TRACED_GROWTH
        if any(grown > fixed + each * figures.bound for grown in figures.traced_growth):
            figures.failures.append("Python's memory grows past the bound")
        if figures.objects[1] - figures.objects[0] > figures.bound // 10:
            figures.failures.append("objects pile up past the bound")
        if figures.rss[figures.tokens] - figures.rss[2 * figures.bound] > RSS_GROWTH:
            figures.failures.append("the process grows past the bound")
        if figures.upstream_calls > 1 + figures.seconds / FRESH:
            figures.failures.append("the keys were asked for more often than they go stale")


def _tokens(local: LocalStackAuth, figures: Figures) -> Iterator[tuple[str, str]]:
    """Yield user ids and their tokens, made below `LocalStackAuth.token`, which would keep an account for each."""
    key = local.issuer.key(PROJECT, UserType.NORMAL, "first")
    header = {"alg": "ES256", "kid": key.kid}
    account = default_account(UserType.NORMAL)
    now = time.time()
    claims = full_claims(
        account,
        UserType.NORMAL,
        project_id=PROJECT,
        issuer_url=API_URL,
        session_id=None,
        now=now,
        expires_in=24 * 3600,
    )
    number = 0
    while True:
        number += 1
        user_id = str(uuid.UUID(int=number))
        started = time.perf_counter()
        token = compact(key, header, {**claims, "sub": user_id, "name": f"User {number}", "email": f"{number}@x.test"})
        figures.signing_seconds += time.perf_counter() - started
        yield user_id, token


def _traced(*, start: bool = False, stop: bool = False) -> int:
    gc.collect()
    if start:
        tracemalloc.start()
    allocated = tracemalloc.get_traced_memory()[0]
    if stop:
        tracemalloc.stop()
    return allocated


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def _cache_sizes() -> list[int]:
    return [len(each) for each in gc.get_objects() if isinstance(each, cache.LRUCache)] or [0]
