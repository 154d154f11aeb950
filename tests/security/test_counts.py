"""The counts that the README tells are those of the corpus."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.security.corpus import cases

README = Path(__file__).parents[2] / "README.md"
NOXFILE = README.with_name("noxfile.py")
MUTANTS = Path(__file__).with_name("MUTANTS.md")


def words(path: Path) -> str:
    return " ".join(path.read_text("utf-8").split())


def test_the_readme_tells_how_many_tokens_there_are() -> None:
    corpus = list(cases())
    groups = Counter(case.threat[0] for case in corpus)
    verdicts = Counter(case.expected for case in corpus)
    told = words(README)
    assert (
        f"{len(corpus)} named tokens, {groups['A']} against the header, {groups['B']} against signature and framing, "
        f"{groups['C']} against payload and claims, {groups['D']} against the user types and projects of Stack Auth: "
        f"{verdicts['reject']} to be refused, {verdicts['accept']} to be let in, {verdicts['either']} that a release"
    ) in told
    assert len({(case.threat, case.name) for case in corpus}) == len(corpus)


def test_the_readme_tells_how_many_mutants_live() -> None:
    rows = re.findall(r"\| `_(\w+)` \| (\d+) \| (\d+) \| (\d+) \|", words(MUTANTS))
    mutated = re.search(r"^MUTATED = \((.*?)^\)", NOXFILE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert mutated
    assert sorted(re.findall(r'"(\w+)"', mutated[1])) == [name for name, *_ in rows]
    made, killed, alive = (sum(map(int, column)) for column in zip(*(counts for _, *counts in rows), strict=True))
    assert made == killed + alive
    assert f"of {made:,} mutants {alive} live, each [explained](tests/security/MUTANTS.md)" in words(README)
