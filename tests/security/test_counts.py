"""The counts in docs/explanation/security.md are those of the corpus, and MUTANTS.md is complete."""

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
    expected = Counter(case.expected for case in corpus)
    text = words(PAGE)
    assert (
        f"{len(corpus)} named tokens, {groups['A']} against the header, {groups['B']} against signature and framing, "
        f"{groups['C']} against payload and claims, {groups['D']} against the user types and projects of Stack Auth: "
        f"{expected['reject']} to be refused, {expected['accept']} to be accepted, {expected['either']} that a release"
    ) in text
    assert len({(case.threat, case.name) for case in corpus}) == len(corpus)


def test_mutants_are_listed_for_every_mutated_module() -> None:
    """With the commit at which they were counted; a module that was never counted says so."""
    lines = MUTANTS.read_text("utf-8").splitlines()
    line = re.compile(r"\| `([\w/]+)` \| (?:(\d+) \| (\d+) \| (\d+) \| `[0-9a-f]{7}`.*|not measured \| \| \| )\|")
    counts_of = [found.groups() for each in lines if (found := line.fullmatch(each))]
    mutated = re.search(r"^MUTATED_MODULES = \((.*?)^\)", NOXFILE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert mutated
    assert sorted(re.findall(r'"([\w/]+)"', mutated[1])) == sorted(name for name, *_ in counts_of)
    counted = [(name, *map(int, counts)) for name, *counts in counts_of if counts[0] is not None]
    assert counted
    assert all(made == killed + alive for _, made, killed, alive in counted)
    explained = re.findall(r"^\| `([\w/]+)` \| `", "\n".join(lines), re.MULTILINE)
    assert {name for name, *_, alive in counted if alive} == set(explained)
