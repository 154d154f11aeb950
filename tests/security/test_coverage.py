"""COVERAGE.md says what shows each of the hundred threats, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.security.corpus import cases

HERE = Path(__file__).parent
TESTS = HERE.parent
GROUPS = {"A": 12, "B": 14, "C": 13, "D": 11, "E": 14, "F": 14, "G": 12, "H": 10}
NUMBERS = [f"{group}{number}" for group, count in GROUPS.items() for number in range(1, count + 1)]


class Threat(NamedTuple):
    """A threat's number, the tests that show it, and what there is to say."""

    number: str
    shown_by: list[str]
    reason: str


def threats(text: str) -> list[Threat]:
    lines = [line for line in text.splitlines() if re.match(r"\| [A-H]\d+ \|", line)]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [Threat(number, re.findall(r"`([^`]+)`", shown_by), reason) for number, _threat, shown_by, reason in cells]


@cache
def functions(path: Path) -> frozenset[str]:
    """Return the names of the test functions in a file, which is not imported for it."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in nodes if isinstance(node, kinds) and node.name.startswith("test_"))


def numbers_in(name: str) -> set[str]:
    """Return the threats that a test's name bears: ``test_d1_and_d2_...``, ``test_b10_to_b12_...``."""
    bears = re.match(r"test_([a-h])(\d+)_(?:(and|to)_\1(\d+)_)?", name)
    if bears is None:
        return set()
    group, first, how, last = bears.groups()
    ends = range(int(first), int(last or first) + 1)
    return {f"{group.upper()}{number}" for number in (ends if how == "to" else {ends[0], ends[-1]})}


@cache
def borne() -> frozenset[str]:
    """Return the numbers that a test of this folder bears, in its name or in the id of its case."""
    found = {case.threat for case in cases()}
    for path in [*HERE.glob("test_*.py"), *(TESTS / "concurrency").glob("test_*.py")]:
        found |= {number for name in functions(path) for number in numbers_in(name)}
    return frozenset(found)


def faults(text: str) -> list[str]:
    """Return what is wrong with the table `text`."""
    table = threats(text)
    wrong = [] if [threat.number for threat in table] == NUMBERS else ["the threats are not A1 to H10, each once"]
    for threat in table:
        if not threat.shown_by:
            wrong.append(f"{threat.number}: no test is named")
        for named in threat.shown_by:
            place, _, function = named.partition("::")
            path = TESTS / place
            if not path.is_file() or (function and function not in functions(path)):
                wrong.append(f"{threat.number}: there is no {named}")
        if threat.number not in borne() and not threat.reason:
            wrong.append(f"{threat.number}: no test of this folder bears it, and no reason is given")
    return wrong


TABLE = (HERE / "COVERAGE.md").read_text("utf-8")


def test_every_threat_is_shown() -> None:
    assert len(NUMBERS) == 100
    assert faults(TABLE) == []


def test_a_table_with_a_fault_is_noticed() -> None:
    """A threat that is gone, twice or out of order; a test that is not there; a number that nothing bears."""
    lines = TABLE.splitlines(keepends=True)
    (at,) = (number for number, line in enumerate(lines) if line.startswith("| F7 |"))
    missing = "the threats are not A1 to H10, each once"
    assert faults("".join(lines[:at] + lines[at + 1 :])) == [missing]
    assert faults("".join([*lines[: at + 1], *lines[at:]])) == [missing]
    assert faults("".join([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])) == [missing]
    renamed = TABLE.replace("::test_f7_reading_stops_at_the_size_limit", "::test_f7_gone")
    assert faults(renamed) == ["F7: there is no security/test_f_answers.py::test_f7_gone"]
    assert faults(TABLE.replace("`gevent/test_gevent.py`", "`gevent/gone.py`")) == ["H3: there is no gevent/gone.py"]
    silent = re.sub(r"^(\| G8 \|.*?\|.*?\|).*\|$", r"\1 |", TABLE, flags=re.MULTILINE)
    assert faults(silent) == ["G8: no test of this folder bears it, and no reason is given"]
    empty = re.sub(r"^\| F7 \|.*$", "| F7 | | | |", TABLE, flags=re.MULTILINE)
    assert faults(empty) == ["F7: no test is named"]


def test_the_names_of_tests_are_read_as_they_are_meant() -> None:
    assert numbers_in("test_b10_to_b12_nothing") == {"B10", "B11", "B12"}
    assert numbers_in("test_d1_and_d2_who") == {"D1", "D2"}
    assert numbers_in("test_e6_and_e7_no_one") == {"E6", "E7"}
    assert numbers_in("test_h4_all_interleavings_of_two_callers") == {"H4"}
    assert numbers_in("test_a_header") == set()
