"""What is made of the figures: JSON to keep, and a table in Markdown to read."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .timing import Figure, Row

DISTRIBUTIONS = (
    *("stackauth-middleware", "PyJWT", "cryptography", "httpx", "requests", "anyio"),
    *("joserfc", "Authlib", "python-jose", "clerk-backend-api", "auth0-api-python"),
    *("starlette", "uvicorn", "httptools", "uvloop", "gunicorn"),
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


def as_json(about: dict[str, Any], rows: Iterable[Row], *, quick: bool) -> dict[str, Any]:
    return {"machine": about, "quick": quick, "rows": [_row_as_json(row) for row in rows]}


def as_markdown(about: dict[str, Any], rows: Sequence[Row], *, quick: bool) -> str:
    """Return the whole report: the goals, and then each row with its figures and notes."""
    how = "`nox -s bench -- --quick`" if quick else "`nox -s bench`"
    parts = [
        "# Benchmark\n",
        f"{machine_line(about)}\n",
        f"By {how}. Only what stands beside each other in one run compares; medians of interleaved rounds, and in",
        "brackets the middle half of the samples.\n",
        "## Goals\n",
        goals_table(rows),
        *(_section(row) for row in rows),
    ]
    return "\n".join(parts)


def goals_table(rows: Iterable[Row]) -> str:
    lines = ["| row | goal | measured | held |", "| --- | --- | --- | --- |"]
    for row in rows:
        lines += [f"| ({row.key}) {row.title} | {g.text} | {g.measured} | {_held(g.held)} |" for g in row.goals]
    return "\n".join(lines) + "\n"


SUMMARY = (
    ("First sight of a token", "a", "first sight", "Verifier.verify", "cryptography, bare ECDSA verify"),
    ("A token seen before", "b", "seen before", "Verifier.verify", None),
    ("Refused: no token by form", "c", "garbage", "Verifier.verify", None),
    ("Refused: an unknown key id", "c", "unknown kid", "Verifier.verify", None),
    ("A whole request in process, ASGI", "d", "ASGI, 20 headers", "ASGI door", "bare app"),
    ("A whole request in process, WSGI", "d", "WSGI, 20 headers", "WSGI door", "bare app"),
    ("Requests a second, uvicorn (h11)", "e", "uvicorn (h11, asyncio)", "wrapped", "bare app"),
    ("Requests a second, uvicorn (httptools)", "e", "uvicorn (httptools, uvloop)", "wrapped", "bare app"),
    ("Requests a second, gunicorn", "e", "gunicorn (gthread, 4 threads)", "wrapped", "bare app"),
    ("Event loop stalled while keys take 300 ms", "i", "longest stall", "ASGI door", None),
    ("Import, over PyJWT and cryptography", "f", "import", "import stackauth_middleware, over import jwt", None),
    ("Memory of a remembered token", "j", "tracemalloc", "per remembered token", None),
)
"""What the README shows: a label, where the figure is, whose it is, and what the least possible is."""


def summary_table(rows: Iterable[Row]) -> str:
    """Return the table of the README: ours beside the documented snippet and the least possible."""
    lines = ["| | here | the documented snippet | the least possible |", "| --- | ---: | ---: | ---: |"]
    by_key = {row.key: row for row in rows}
    for label, key, case, ours, least in SUMMARY:
        figures = {f.name: f for f in by_key[key].figures if f.case == case}
        theirs = next((name for name in figures if name.startswith("the documented snippet")), None)
        cells = (figures[name] if name else None for name in (ours, theirs, least))
        lines.append(f"| {label} | {' | '.join(f'{rounded(f.median)} {f.unit}' if f else '' for f in cells)} |")
    return "\n".join(lines) + "\n"


def rounded(value: float) -> str:
    """Return `value` with three digits that count, or all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _section(row: Row) -> str:
    lines = [f"## ({row.key}) {row.title}\n"]
    if row.figures:
        lines += ["| | | median | middle half | n |", "| --- | --- | ---: | :---: | ---: |"]
        lines += [_line(figure) for figure in row.figures]
        lines.append("")
    lines += [f"- {note}" for note in row.notes]
    return "\n".join(lines) + "\n"


def _line(figure: Figure) -> str:
    first, third = figure.spread
    name = f"**{figure.name}**" if figure.ours else figure.name
    between = f"{rounded(first)} to {rounded(third)}"
    return f"| {figure.case} | {name} | {rounded(figure.median)} {figure.unit} | {between} | {len(figure.samples)} |"


def _row_as_json(row: Row) -> dict[str, Any]:
    return {
        "key": row.key,
        "title": row.title,
        "figures": [
            {
                "case": each.case,
                "name": each.name,
                "unit": each.unit,
                "ours": each.ours,
                "samples": [float(f"{sample:.4g}") for sample in each.samples],
            }
            for each in row.figures
        ],
        "goals": [each._asdict() for each in row.goals],
        "notes": row.notes,
    }


def row_from_json(told: dict[str, Any]) -> Row:
    """Return the row that `as_json` made this of."""
    from .timing import Goal

    figures = [Figure(**each) for each in told["figures"]]
    return Row(told["key"], told["title"], figures, [Goal(**each) for each in told["goals"]], list(told["notes"]))


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
