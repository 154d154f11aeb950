"""The plot: bars beside each other, in an SVG of our own that is read well on light and on dark."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from .report import rounded
from .timing import Benchmark, Figure

WIDTH, LABELS, VALUES = 780, 290, 90
BAR, GAP, TITLE = 16, 7, 34
CHARTS = (
    ("a", "new token", "A token that is new to the process: microseconds, less is better"),
    ("b", "cached token", "A cached token: microseconds, less is better"),
    ("d", "ASGI, 20 headers", "A whole request in process, ASGI: microseconds, less is better"),
    ("e", "uvicorn (h11, asyncio)", "Requests per second under uvicorn (h11), more is better"),
    ("e", "uvicorn (httptools, uvloop)", "Requests per second under uvicorn (httptools, uvloop), more is better"),
)
STYLE = """
    text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
    .title { font-weight: 600; font-size: 13px }
    rect.ours { fill: #1a7f37 } rect.peer { fill: #8c959f } .spread { stroke: #1f2328; stroke-width: 1.5 }
    text.ours { fill: #1a7f37; font-weight: 600 }
    .back { fill: #ffffff; stroke: #d0d7de }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } rect.ours, text.ours { fill: #3fb950 } rect.peer { fill: #6e7681 }
      .spread { stroke: #e6edf3 }
      .back { fill: #0d1117; stroke: #30363d }
    }
"""


def as_svg(benchmarks: Sequence[Benchmark]) -> str:
    """Return the plot of what `benchmarks` have of the charts."""
    body: list[str] = []
    top = 10.0
    for key, case, title in CHARTS:
        figures = [f for benchmark in benchmarks if benchmark.key == key for f in benchmark.figures if f.case == case]
        if figures:
            body.append(_chart(title, figures, top))
            top += TITLE + len(figures) * (BAR + GAP) + 12
    height = top + 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
        f'height="{height:g}" role="img" aria-label="Benchmark">\n  <style>{STYLE}  </style>\n'
        f'  <rect class="back" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="6"/>\n'
        + "".join(body)
        + "</svg>\n"
    )


def _chart(title: str, figures: Sequence[Figure], top: float) -> str:
    scale = (WIDTH - LABELS - VALUES) / max(figure.spread[1] for figure in figures)
    parts = [f'  <text class="title" x="16" y="{top + 20:g}">{escape(title)}</text>\n']
    for at, figure in enumerate(figures):
        parts.append(_bar(figure, top + TITLE + at * (BAR + GAP), scale))
    return "".join(parts)


def _bar(figure: Figure, y: float, scale: float) -> str:
    whose = "ours" if figure.ours else "peer"
    low, high = (LABELS + each * scale for each in figure.spread)
    middle, base = y + BAR / 2, y + BAR - 4
    end = max(LABELS + figure.median * scale, high) + 6
    name = figure.name if len(figure.name) <= 42 else f"{figure.name[:41]}…"
    return (
        f'  <text class="{whose}" x="{LABELS - 8}" y="{base:g}" text-anchor="end">{escape(name)}</text>\n'
        f'  <rect class="{whose}" x="{LABELS}" y="{y:g}" width="{figure.median * scale:.1f}" height="{BAR}" rx="2"/>\n'
        f'  <line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}"/>\n'
        f'  <text x="{end:.1f}" y="{base:g}">{escape(rounded(figure.median))}</text>\n'
    )
