"""Run a soak, or send very many tokens through one verifier: ``python -m tests.load [--minutes M | --tokens N]``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from . import million
from .faults import Pace
from .soak import Soak


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; return 1 where something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="of mixed traffic (30)")
    parser.add_argument("--tokens", type=int, default=0, help="through one verifier, in place of the traffic")
    parser.add_argument("--rate", type=float, default=160.0, help="requests a second (160)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is drawn")
    parser.add_argument("--doors", nargs="+", default=["asgi", "wsgi"], choices=["asgi", "wsgi"])
    parser.add_argument("--json", type=Path, help="where the figures go as well")
    chosen = parser.parse_args(arguments)
    return _million(chosen.tokens) if chosen.tokens else _soak(chosen)


def _million(tokens: int) -> int:
    figures = million.run(tokens, min(10_000, tokens // 4), _say)
    print(figures.markdown())
    return 1 if figures.failures else 0


def _soak(chosen: argparse.Namespace) -> int:
    seconds = chosen.minutes * 60
    # A short run has no time for long quiet, in which nothing is excused any more.
    pace = Pace() if chosen.minutes >= 5 else Pace(quiet=12.0)
    calm = min(30.0, seconds / 5)
    _say(f"{chosen.minutes} minutes, seed {chosen.seed}")
    soak = Soak(chosen.doors, seconds, calm=calm, pace=pace, rate=chosen.rate, seed=chosen.seed, say=_say)
    report = asyncio.run(soak.run())
    if chosen.json:
        chosen.json.write_text(report.as_json())
    print(report.markdown())
    failures = report.failures()
    if failures:
        for door, log in report.logs.items():
            _say(f"--- what {door} said at the end\n{log[-3000:]}")
    return 1 if failures else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
