"""The counts that the README tells are those of the corpus."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.security.corpus import cases

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_tells_how_many_tokens_there_are() -> None:
    corpus = list(cases())
    groups = Counter(case.threat[0] for case in corpus)
    verdicts = Counter(case.expected for case in corpus)
    told = " ".join(README.read_text("utf-8").split())
    assert (
        f"{len(corpus)} named tokens, {groups['A']} against the header, {groups['B']} against signature and framing, "
        f"{groups['C']} against payload and claims, {groups['D']} against the user types and projects of Stack Auth: "
        f"{verdicts['reject']} to be refused, {verdicts['accept']} to be let in, {verdicts['either']} that a release"
    ) in told
    assert len({(case.threat, case.name) for case in corpus}) == len(corpus)
