"""What a part of the attack hands back, and how it is printed."""

from __future__ import annotations

from typing import NamedTuple


class Checked(NamedTuple):
    """What came of one site or measurement.

    Attributes:
        counts: one line of figures.
        findings: a line each, which ends with what ``--replay`` takes.
    """

    name: str
    requests: int
    counts: str
    findings: list[str]


def summary(checked: list[Checked], seconds: float, seed: str) -> str:
    """Return the last lines of a run; the very last is one that ``.ci/run`` counts."""
    failed = sum(bool(each.findings) for each in checked)
    passed = len(checked) - failed
    lines = [f"attack: {sum(each.requests for each in checked):,} requests to {len(checked)} sites, seed {seed}"]
    lines.append(", ".join([*([f"{failed} failed"] if failed else []), f"{passed} passed in {seconds:.1f}s"]))
    return "\n".join(lines)
