"""Run a soak, or send very many tokens through one verifier: ``python -m tests.load [--minutes M | --tokens N]``.

``--broken`` breaks the package on purpose, to see that the soak shows it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from . import million
from .broken import BROKEN
from .faults import Pace
from .soak import Soak


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; return 1 where something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="of mixed traffic (30)")
    parser.add_argument("--tokens", type=int, default=0, help="through one verifier, in place of the traffic")
    parser.add_argument("--rate", type=float, default=160.0, help="requests a second (160)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is drawn")
    parser.add_argument("--middlewares", nargs="+", default=["asgi", "wsgi"], choices=["asgi", "wsgi"])
    parser.add_argument(
        "--broken", nargs="+", choices=[*BROKEN, "all"], metavar="HOW", help=f"{', '.join(BROKEN)}, or all: has to show"
    )
    parser.add_argument("--json", type=Path, help="where the figures go as well")
    chosen = parser.parse_args(arguments)
    if chosen.broken:
        return _broken(chosen)
    return _million(chosen.tokens) if chosen.tokens else _soak(chosen)


def _million(tokens: int) -> int:
    figures = million.run(tokens, min(10_000, tokens // 4), _say)
    print(figures.markdown())
    return 1 if figures.failures else 0


def _broken(chosen: argparse.Namespace) -> int:
    """Run a soak over each way to break the package; return 1 where one of them does not show."""
    unseen = 0
    for name in BROKEN if "all" in chosen.broken else chosen.broken:
        failures = asyncio.run(_made(chosen, name).run()).failures()
        unseen += not failures
        print(f"{name}: {len(failures)} broken promises" + "".join(f"\n  {each}" for each in failures[:3]), flush=True)
    return 1 if unseen else 0


def _made(chosen: argparse.Namespace, broken: str | None = None) -> Soak:
    seconds = chosen.minutes * 60
    # A short run has no time for long quiet, in which nothing is excused any more.
    pace = Pace() if chosen.minutes >= 5 else Pace(quiet=12.0)
    calm = min(30.0, seconds / 5)
    more = {"rate": chosen.rate, "seed": chosen.seed, "broken": broken, "say": _say}
    return Soak(chosen.middlewares, seconds, calm=calm, pace=pace, **more)


def _soak(chosen: argparse.Namespace) -> int:
    _say(f"{chosen.minutes} minutes, seed {chosen.seed}")
    report = asyncio.run(_made(chosen).run())
    if chosen.json:
        chosen.json.write_text(report.as_json())
    print(report.markdown())
    failures = report.failures()
    if failures:
        for middleware, log in report.logs.items():
            _say(f"--- the end of the log of {middleware}\n{log[-3000:]}")
    return 1 if failures else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
