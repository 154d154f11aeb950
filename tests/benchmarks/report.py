"""Reports of the figures: JSON to keep, and Markdown to read."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .timing import Benchmark, Figure

DISTRIBUTIONS = (
    *("stackauth-middleware", "PyJWT", "cryptography", "httpx", "requests", "anyio"),
    *("joserfc", "Authlib", "python-jose", "clerk-backend-api", "auth0-api-python"),
    *("starlette", "uvicorn", "httptools", "uvloop", "gunicorn"),
    *("fastapi", "fastapi-users", "litestar", "Flask", "Flask-JWT-Extended"),
    *("Django", "djangorestframework", "djangorestframework-simplejwt"),
)


def machine() -> dict[str, Any]:
    """Return what was measured on, and with what."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: found for name in DISTRIBUTIONS if (found := _version(name))},
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "time": datetime.now(timezone.utc).isoformat(timespec="minutes"),
    }


def machine_line(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    busy = "" if about["load"] is None else f", load {about['load']} at the start"
    where = f"{about['cpu']}, {about['cores']} cores, {about['system']}, {about['python']}{busy}"
    return f"{where}. {versions}. {about['time']}."


def as_json(about: dict[str, Any], benchmarks: Iterable[Benchmark], *, quick: bool) -> dict[str, Any]:
    return {"machine": about, "quick": quick, "benchmarks": [_benchmark_as_json(benchmark) for benchmark in benchmarks]}


def as_markdown(about: dict[str, Any], benchmarks: Sequence[Benchmark], *, quick: bool) -> str:
    """Return the whole report: the goals, and then each benchmark with its figures and notes."""
    how = "`nox -s bench -- --quick`" if quick else "`nox -s bench`"
    parts = [
        "# Benchmark\n",
        f"{machine_line(about)}\n",
        f"By {how}. Compare only figures of one run. Medians of interleaved rounds, and in",
        "brackets the middle half of the samples.\n",
        "## Goals\n",
        goals_table(benchmarks),
        *(_section(benchmark) for benchmark in benchmarks),
    ]
    return "\n".join(parts)


def goals_table(benchmarks: Iterable[Benchmark]) -> str:
    lines = ["| benchmark | goal | measured | held |", "| --- | --- | --- | --- |"]
    for benchmark in benchmarks:
        lines += [
            f"| ({benchmark.key}) {benchmark.title} | {g.text} | {g.measured} | {_held(g.held)} |"
            for g in benchmark.goals
        ]
    return "\n".join(lines) + "\n"


APP = "the bare app"
SIGNATURE = "the signature check alone"
SUMMARY = (
    ("Verify a new token", "a", "new token", "Verifier.verify", "cryptography, bare ECDSA verify", SIGNATURE),
    ("Verify a cached token", "b", "cached token", "Verifier.verify", None, ""),
    ("Refuse: not a token by form", "c", "garbage", "Verifier.verify", None, ""),
    ("Refuse: an unknown key id", "c", "unknown kid", "Verifier.verify", None, ""),
    ("A whole request in process, ASGI", "d", "ASGI, 20 headers", "ASGI middleware", "bare app", APP),
    ("A whole request in process, WSGI", "d", "WSGI, 20 headers", "WSGI middleware", "bare app", APP),
    ("Requests per second, uvicorn (h11)", "e", "uvicorn (h11, asyncio)", "wrapped", "bare app", APP),
    ("Requests per second, uvicorn (httptools)", "e", "uvicorn (httptools, uvloop)", "wrapped", "bare app", APP),
    ("Requests per second, gunicorn", "e", "gunicorn (gthread, 4 threads)", "wrapped", "bare app", APP),
    ("Event loop blocked while the keys take 300 ms", "i", "longest stall", "ASGI middleware", None, ""),
    ("Import, in addition to PyJWT", "f", "import", "import stackauth_middleware, over import jwt", None, ""),
    ("Memory of a cached token", "j", "tracemalloc", "per cached token", None, ""),
)
"""The lines of `summary_table`: label, key, case, our figure, and the figure and name of the best possible result."""


def summary_table(benchmarks: Iterable[Benchmark]) -> str:
    """Return the table of docs/explanation/performance.md: ours, the documented snippet, and the best possible."""
    lines = ["| | this package | documented snippet | best possible |", "| --- | ---: | ---: | ---: |"]
    by_key = {benchmark.key: benchmark for benchmark in benchmarks}
    for label, key, case, ours, best, best_name in SUMMARY:
        figures = {f.name: f for f in by_key[key].figures if f.case == case}
        snippet = next((name for name in figures if name.startswith("documented snippet")), None)
        cells = [_cell(figures[name]) if name else "" for name in (ours, snippet, best)]
        cells[-1] += f" ({best_name})" if best else ""
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(figure: Figure) -> str:
    return f"{rounded(figure.median)} {figure.unit}"


def rounded(value: float) -> str:
    """Return `value` with three digits that count, or all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _section(benchmark: Benchmark) -> str:
    lines = [f"## ({benchmark.key}) {benchmark.title}\n"]
    if benchmark.figures:
        lines += ["| | | median | middle half | n |", "| --- | --- | ---: | :---: | ---: |"]
        lines += [_line(figure) for figure in benchmark.figures]
        lines.append("")
    lines += [f"- {note}" for note in benchmark.notes]
    return "\n".join(lines) + "\n"


def _line(figure: Figure) -> str:
    first, third = figure.spread
    name = f"**{figure.name}**" if figure.ours else figure.name
    between = f"{rounded(first)} to {rounded(third)}"
    return f"| {figure.case} | {name} | {rounded(figure.median)} {figure.unit} | {between} | {len(figure.samples)} |"


def _benchmark_as_json(benchmark: Benchmark) -> dict[str, Any]:
    return {
        "key": benchmark.key,
        "title": benchmark.title,
        "figures": [
            {
                "case": each.case,
                "name": each.name,
                "unit": each.unit,
                "ours": each.ours,
                "samples": [float(f"{sample:.4g}") for sample in each.samples],
            }
            for each in benchmark.figures
        ],
        "goals": [each._asdict() for each in benchmark.goals],
        "notes": benchmark.notes,
    }


def benchmark_from_json(stored: dict[str, Any]) -> Benchmark:
    """Return the benchmark that `as_json` wrote."""
    from .timing import Goal

    figures = [Figure(**each) for each in stored["figures"]]
    return Benchmark(
        stored["key"], stored["title"], figures, [Goal(**each) for each in stored["goals"]], list(stored["notes"])
    )


def _held(held: bool) -> str:
    return "yes" if held else "no"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
