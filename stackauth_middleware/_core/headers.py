"""Response headers of the app that the middleware changes: of answers to a user, and of preflights.

Names and values are text in latin-1, as WSGI has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_DIRECTIVE = re.compile(r'([^\s,;="]+)(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s,"]*))?')
_ABOUT_SHARING = frozenset({"private", "no-store", "public", "s-maxage"})
"""Directives of Cache-Control (RFC 9111) that say whether a shared cache may store the answer."""


def private_headers(headers: Iterable[tuple[str, str]], vary: Sequence[str]) -> list[tuple[str, str]]:
    """Return `headers` with what keeps shared caches from giving one user's answer to another.

    ``Vary`` names `vary` too. ``Cache-Control`` gets ``private``, unless the app itself says whether the
    answer may be shared: by ``private`` or ``no-store``, which are left, or by ``public`` or ``s-maxage``,
    which are left as well. Nothing that the app said is taken away.

    Args:
        headers: of the app's response. Repeated ``Vary`` and ``Cache-Control`` are joined.
        vary: names of the request headers that can hold a token.
    """
    kept: list[tuple[str, str]] = []
    varies: list[str] = []
    control: list[str] = []
    for name, value in headers:
        folded = name.lower()
        if folded == "vary":
            varies.append(value)
        elif folded == "cache-control":
            control.append(value)
        else:
            kept.append((name, value))
    kept.append(("Vary", _joined(varies, vary)))
    said = {directive.lower() for directive in _DIRECTIVE.findall(",".join(control))}
    kept.append(("Cache-Control", ", ".join(filter(None, control if said & _ABOUT_SHARING else [*control, "private"]))))
    return kept


def _joined(varies: list[str], names: Sequence[str]) -> str:
    """Return the value of ``Vary``: all names that were there, in their order, and those of `names` that were not."""
    there = [name for value in varies for name in (each.strip(" \t") for each in value.split(",")) if name]
    folded = {name.lower() for name in there}
    return ", ".join(there if "*" in folded else [*there, *(n for n in names if n.lower() not in folded)])


def preflight_headers(status: int, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return what of an app's answer to a preflight goes to the browser: what CORS needs, and no body.

    The app ran without a user, so its answer may hold what only users may see.
    """
    kept = [(name, value) for name, value in headers if _is_for_cors(name.lower())]
    return kept if status in (204, 304) or status < 200 else [*kept, ("Content-Length", "0")]


def _is_for_cors(name: str) -> bool:
    return name in ("vary", "allow") or name.startswith("access-control-")
