"""The command: ``python -m tests.benchmarks [--quick] [--rows abc] [--out FOLDER]``.

Each row is measured in an interpreter of its own, so that no row affects another.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from .plot import as_svg
from .report import as_json, as_markdown, goals_table, machine, machine_line, row_from_json
from .timing import Pace, Row
from .upstream import ROOT

MODULES = {
    **dict.fromkeys("abcg", "rows_tokens"),
    "d": "rows_middleware",
    **dict.fromkeys("ek", "rows_servers"),
    "f": "rows_start",
    **dict.fromkeys("hi", "rows_rest"),
    "j": "rows_memory",
}
RESULTS = Path(__file__).with_name("results")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.one:
        row = import_module(f".{MODULES[options.one]}", __package__).ROWS[options.one](Pace.of(quick=options.quick))
        print(json.dumps(as_json({}, [row], quick=options.quick)["rows"][0]))
        return 0
    about = machine()
    print(machine_line(about), flush=True)
    rows = [row for key in sorted(options.rows) if (row := _measured(key, quick=options.quick))]
    print(goals_table(rows))
    out: Path = options.out or (RESULTS / "quick" if options.quick else RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(json.dumps(as_json(about, rows, quick=options.quick), indent=1) + "\n")
    (out / "bench.md").write_text(as_markdown(about, rows, quick=options.quick))
    (out / "bench.svg").write_text(as_svg(rows))
    print(f"bench.json, bench.md and bench.svg are in {out}")
    return 0 if len(rows) == len(options.rows) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute; the figures are rough")
    parser.add_argument("--rows", default="".join(MODULES), help="the rows to measure, by their letters")
    parser.add_argument("--out", type=Path, help="the folder to write to")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = set(options.rows) - set(MODULES)
    if unknown:
        parser.error(f"there are no rows {', '.join(sorted(unknown))}")
    return options


def _measured(key: str, *, quick: bool) -> Row | None:
    """Measure a row in its own process and return it; print an error and return None if that fails."""
    start = time.monotonic()
    arguments = [sys.executable, "-m", __package__, "--one", key, *(["--quick"] if quick else [])]
    done = subprocess.run(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"row {key} could not be measured", file=sys.stderr)
        return None
    row = row_from_json(json.loads(done.stdout.splitlines()[-1]))
    print(f"({row.key}) {row.title}: {time.monotonic() - start:.0f} s", flush=True)
    for note in row.notes:
        print(f"    {note}")
    return row


if __name__ == "__main__":
    sys.exit(main())
