"""Changes to the headers of the app's responses: of private responses and of responses to preflights.

Names and values are text, decoded as latin-1, as in WSGI.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .config import StackAuthConfig
from .credentials import vary_names

_DIRECTIVE = re.compile(r'([^\s,;="]+)(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s,"]*))?')
_SHARING_DIRECTIVES = frozenset({"private", "no-store", "public", "s-maxage"})
"""Directives of Cache-Control (RFC 9111 section 5.2.2) that decide whether a shared cache may store a response."""


def vary_of(config: StackAuthConfig) -> tuple[str, ...]:
    """Return the names of the request headers that can hold a credential, for `private_headers`."""
    accepts_keys = config.api_keys or any(rule.api_keys for rule in config.rules)
    return vary_names(config.token_sources, config.api_key_sources if accepts_keys else ())


def private_headers(headers: Iterable[tuple[str, str]], vary: Sequence[str]) -> list[tuple[str, str]]:
    """Return `headers`, changed so that shared caches do not send the response of one user to another.

    ``Vary`` gets the names in `vary`. ``Cache-Control`` gets ``private``, unless the app has decided itself, with
    ``private``, ``no-store``, ``public`` or ``s-maxage``. No value of the app is removed.

    Args:
        headers: headers of the app's response. Repeated ``Vary`` and ``Cache-Control`` are joined.
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
    directives = {directive.lower() for directive in _DIRECTIVE.findall(",".join(control))}
    if not directives & _SHARING_DIRECTIVES:
        control.append("private")
    kept.append(("Cache-Control", ", ".join(filter(None, control))))
    return kept


def _joined(varies: list[str], names: Sequence[str]) -> str:
    """Return the value of ``Vary``: the names in `varies`, in their order, and those in `names` that are missing."""
    present = [name for value in varies for name in (each.strip(" \t") for each in value.split(",")) if name]
    folded = {name.lower() for name in present}
    return ", ".join(present if "*" in folded else [*present, *(n for n in names if n.lower() not in folded)])


def preflight_headers(status: int, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers of an app's response to a preflight that are sent to the browser: those of CORS.

    The body and other headers are dropped: the app ran for an unauthenticated request, and may have sent data that
    only users may see.

    Args:
        status: status of the response.
        headers: headers of the response.
    """
    kept = [(name, value) for name, value in headers if _is_for_cors(name.lower())]
    return kept if status in (204, 304) or status < 200 else [*kept, ("Content-Length", "0")]


def _is_for_cors(name: str) -> bool:
    return name in ("vary", "allow") or name.startswith("access-control-")
