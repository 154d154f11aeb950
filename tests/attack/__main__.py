"""The command of the attack; the package's docstring says how to use it."""

from __future__ import annotations

import argparse
import sys

from . import run
from .broken import BROKEN


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="for all parts together")
    parser.add_argument("--seed", default="1", help="the same seed sends the same requests, as far as time allows")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="only sites with this in their name"
    )
    parser.add_argument("--part", action="append", choices=run.PARTS, help="which parts to run; all unless named")
    parser.add_argument("--broken", choices=[*BROKEN, "all"], help="break the package on purpose: has to show")
    parser.add_argument("--replay", metavar="LINE", help="send the request of a finding once more")
    chosen = parser.parse_args(arguments)
    if chosen.replay:
        return run.replay(chosen.replay)
    if chosen.broken:
        return run.broken(list(BROKEN) if chosen.broken == "all" else [chosen.broken], chosen.seconds, chosen.seed)
    return run.attack(run.Plan(chosen.seconds, chosen.seed, tuple(chosen.only), tuple(chosen.part or run.PARTS)))


if __name__ == "__main__":
    sys.exit(main())
