"""Threats B5 and B10 to B13: the cost of a token's framing, counted as work and not as time."""

from __future__ import annotations

import binascii
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from jwt.algorithms import ECAlgorithm

from stackauth_middleware import RefusedError, StackAuthConfig, Verifier
from tests.unit.core.helpers import PROJECT

from .corpus import cases, signed
from .issuer import CountingIssuer
from .test_corpus import by_asgi, by_verifier, by_wsgi, expected_in_header, fits_in_header

CASES = {case.name: case for case in cases()}
CAP = 8192


@dataclass
class Work:
    """Work done: lengths of base64 decoded, lengths of JSON parsed, signature checks."""

    decoded: list[int] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    checked: int = 0

    def reset(self) -> None:
        self.decoded, self.read, self.checked = [], [], 0


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Count the work in the libraries that the package calls."""
    work = Work()
    decode, raw_decode, verify = binascii.a2b_base64, json.JSONDecoder.raw_decode, ECAlgorithm.verify

    def decoding(data: Any, **options: Any) -> bytes:
        work.decoded.append(len(data))
        return decode(data, **options)

    def reading(self: Any, text: str, *at: Any, **options: Any) -> Any:
        work.read.append(len(text))
        return raw_decode(self, text, *at, **options)

    def checking(self: Any, message: bytes, key: Any, signature: bytes) -> bool:
        work.checked += 1
        return verify(self, message, key, signature)

    monkeypatch.setattr(binascii, "a2b_base64", decoding)
    monkeypatch.setattr(json.JSONDecoder, "raw_decode", reading)
    monkeypatch.setattr(ECAlgorithm, "verify", checking)
    return work


WAYS: dict[str, Any] = {"verifier": by_verifier, "wsgi": by_wsgi, "asgi": by_asgi}


def ask(way: str, config: StackAuthConfig, name: str, work: Work) -> None:
    """Present the case `name`; `work` records its cost."""
    case = CASES[name] if way == "verifier" else expected_in_header(CASES[name])
    ask_by = WAYS[way]
    outcome_body_read = 0 if way == "verifier" else 1  # the test's own reading of the answer
    work.reset()
    assert ask_by(config, case.token) == case.code.value, name
    if outcome_body_read:
        work.read.pop()


@pytest.mark.parametrize("way", WAYS)
def test_b10_to_b12_oversized_token_is_not_decoded(
    way: str, config: StackAuthConfig, issuer: CountingIssuer, work: Work
) -> None:
    """Too many parts, too few, five of a JWE, JSON in place of a token, parts of a megabyte: not one octet of them."""
    bounded = [
        name
        for name, case in CASES.items()
        if case.threat in ("B10", "B11", "B12") and (way == "verifier" or fits_in_header(case))
    ]
    assert {"enc-huge-dots", "enc-jwe-pbes2", "enc-huge-payload", "enc-json-general"} <= set(bounded)
    for name in bounded:
        ask(way, config, name, work)
        if CASES[name].token.count(".") == 2 and len(CASES[name].token) <= CAP:
            continue  # of the right form, in the wrong order or with a part that is empty
        assert (work.decoded, work.read, work.checked) == ([], [], 0), name
    assert issuer.calls == []


@pytest.mark.parametrize("way", WAYS)
def test_the_work_of_an_honest_token_is_counted(
    way: str, config: StackAuthConfig, issuer: CountingIssuer, work: Work
) -> None:
    """Positive control of the test above."""
    assert WAYS[way](config, signed()) == "accept"
    assert len(work.decoded) >= 3
    assert len(work.read) >= 2
    assert work.checked == 1


def test_no_token_makes_us_decode_more_than_the_cap(
    config: StackAuthConfig, issuer: CountingIssuer, work: Work
) -> None:
    """For every case: each part is decoded once, none above 8 KiB, with at most one signature check."""
    checked = 0
    for name, case in CASES.items():
        work.reset()
        issuer.calls.clear()
        by_verifier(config, case.token)
        assert work.checked <= 1, name
        if not case.needs_key:
            assert work.checked == 0, name
        if not issuer.calls:  # the keys that were fetched for it are base64 as well
            assert sum(work.decoded) <= min(CAP, len(case.token)) + 6, name
            checked += 1
    assert checked > len(CASES) - 20


def test_b5_both_signatures_of_a_token_are_one_user_and_two_cache_entries(issuer: CountingIssuer, work: Work) -> None:
    """High s is valid in RFC 7518, so a token has two texts, and caches by text must be bounded."""
    verifier = Verifier(StackAuthConfig(project_id=PROJECT, token_cache_size=1))
    low, high = CASES["ok-sig-low-s"].token, CASES["ok-sig-high-s"].token
    assert low.rpartition(".")[0] == high.rpartition(".")[0]
    assert low != high
    for token, checks in ((low, 1), (low, 0), (high, 1), (high, 0), (low, 1)):
        work.reset()
        verifier.verify(token)
        assert work.checked == checks
    assert verifier.verify(low) == verifier.verify(high)


def test_b13_every_swap_of_parts_between_two_tokens_is_refused(config: StackAuthConfig, issuer: CountingIssuer) -> None:
    """The parts of two valid cached tokens do not combine to a third."""
    verifier = Verifier(config)
    tokens = signed(name="Jane"), signed(name="Mallory", refresh_token_id="bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb")
    for token in tokens:
        verifier.verify(token)
    parts = {part for token in tokens for part in token.split(".")}
    assert len(parts) == 5
    mixed = [f"{a}.{b}.{c}" for a in parts for b in parts for c in parts if f"{a}.{b}.{c}" not in tokens]
    for token in mixed:
        with pytest.raises(RefusedError) as caught:
            verifier.verify(token)
        assert caught.value.code.value == "invalid_token"
    assert len(mixed) == 5**3 - 2
