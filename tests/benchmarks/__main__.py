"""The command: ``python -m tests.benchmarks [--quick] [--benchmarks abc] [--out FOLDER]``.

Each benchmark is measured in an interpreter of its own, so that no benchmark affects another.
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
from .report import as_json, as_markdown, benchmark_from_json, goals_table, machine, machine_line
from .timing import Benchmark, Pace
from .upstream import ROOT

MODULES = {
    **dict.fromkeys("abcg", "bench_tokens"),
    "d": "bench_middleware",
    **dict.fromkeys("ek", "bench_servers"),
    "f": "bench_start",
    **dict.fromkeys("hi", "bench_rest"),
    "j": "bench_memory",
    "l": "bench_frameworks",
    "m": "bench_growth",
}
RESULTS = Path(__file__).with_name("results")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.one:
        benchmark = import_module(f".{MODULES[options.one]}", __package__).BENCHMARKS[options.one](
            Pace.of(quick=options.quick)
        )
        print(json.dumps(as_json({}, [benchmark], quick=options.quick)["benchmarks"][0]))
        return 0
    about = machine()
    print(machine_line(about), flush=True)
    benchmarks = [benchmark for key in sorted(options.benchmarks) if (benchmark := _measured(key, quick=options.quick))]
    print(goals_table(benchmarks))
    out: Path = options.out or (RESULTS / "quick" if options.quick else RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(json.dumps(as_json(about, benchmarks, quick=options.quick), indent=1) + "\n")
    (out / "bench.md").write_text(as_markdown(about, benchmarks, quick=options.quick))
    (out / "bench.svg").write_text(as_svg(benchmarks))
    print(f"bench.json, bench.md and bench.svg are in {out}")
    return 0 if len(benchmarks) == len(options.benchmarks) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute; the figures are rough")
    parser.add_argument("--benchmarks", default="".join(MODULES), help="the benchmarks to measure, by their letters")
    parser.add_argument("--out", type=Path, help="the folder to write to")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = set(options.benchmarks) - set(MODULES)
    if unknown:
        parser.error(f"there are no benchmarks {', '.join(sorted(unknown))}")
    return options


def _measured(key: str, *, quick: bool) -> Benchmark | None:
    """Measure a benchmark in its own process and return it; print an error and return None if that fails."""
    start = time.monotonic()
    arguments = [sys.executable, "-m", __package__, "--one", key, *(["--quick"] if quick else [])]
    done = subprocess.run(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"benchmark {key} could not be measured", file=sys.stderr)
        return None
    benchmark = benchmark_from_json(json.loads(done.stdout.splitlines()[-1]))
    print(f"({benchmark.key}) {benchmark.title}: {time.monotonic() - start:.0f} s", flush=True)
    for note in benchmark.notes:
        print(f"    {note}")
    return benchmark


if __name__ == "__main__":
    sys.exit(main())
