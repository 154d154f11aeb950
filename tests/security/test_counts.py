"""The counts in docs/explanation/security.md are those of the corpus and of MUTANTS.md."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.security.corpus import cases

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "security.md"
NOXFILE = ROOT / "noxfile.py"
MUTANTS = Path(__file__).with_name("MUTANTS.md")


def words(path: Path) -> str:
    return " ".join(path.read_text("utf-8").split())


def test_docs_state_how_many_tokens_there_are() -> None:
    corpus = list(cases())
    groups = Counter(case.threat[0] for case in corpus)
    verdicts = Counter(case.expected for case in corpus)
    text = words(PAGE)
    assert (
        f"{len(corpus)} named tokens, {groups['A']} against the header, {groups['B']} against signature and framing, "
        f"{groups['C']} against payload and claims, {groups['D']} against the user types and projects of Stack Auth: "
        f"{verdicts['reject']} to be refused, {verdicts['accept']} to be accepted, {verdicts['either']} that a release"
    ) in text
    assert len({(case.threat, case.name) for case in corpus}) == len(corpus)


def test_docs_state_how_many_mutants_survive() -> None:
    rows = re.findall(r"\| `_(\w+)` \| (\d+) \| (\d+) \| (\d+) \|", words(MUTANTS))
    mutated = re.search(r"^MUTATED = \((.*?)^\)", NOXFILE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert mutated
    assert sorted(re.findall(r'"(\w+)"', mutated[1])) == [name for name, *_ in rows]
    made, killed, alive = (sum(map(int, column)) for column in zip(*(counts for _, *counts in rows), strict=True))
    assert made == killed + alive
    assert f"of {made:,} mutants {alive} survive, each explained in `tests/security/MUTANTS.md`" in words(PAGE)
