"""CORS (the Fetch standard): which requests are preflights, how they are answered, who may read a refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from .config import StackAuthConfig
from .origins import Origins
from .records import Response

HEADERS = frozenset({"origin", "access-control-request-method", "access-control-request-headers"})
"""The names of the headers that are looked at, in lower case."""

MAX_AGE = 600
"""Seconds for which a browser may keep the answer to a preflight."""

_MAX_METHOD = 64
_MAX_HEADERS = 4096
_EXPOSED = "WWW-Authenticate, Retry-After"
_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
_ORIGIN = re.compile(r"[!-+\--~]{1,512}")
"""Visible characters without the comma, which joins repeated headers."""
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NAMES = re.compile(rf"{_METHOD.pattern}(?:[ \t]*,[ \t]*{_METHOD.pattern})*")
"""Field names, each a token (RFC 9110 section 5.6.2)."""


class Preflight(NamedTuple):
    """What a preflight asks for: `headers` is "" where it names none."""

    origin: str
    method: str
    headers: str


def preflight_of(method: str, headers: Mapping[str, str]) -> Preflight | None:
    """Return what a CORS preflight asks for; None where the request is no preflight that a browser sends.

    Args:
        method: of the request, as received.
        headers: names in lower case; repeated headers joined by a comma.
    """
    if method != "OPTIONS" or not _ORIGIN.fullmatch(headers.get("origin", "")):
        return None
    asked, names = headers.get("access-control-request-method", ""), headers.get("access-control-request-headers", "")
    if len(asked) > _MAX_METHOD or len(names) > _MAX_HEADERS or not _METHOD.fullmatch(asked):
        return None
    if names and not _NAMES.fullmatch(names):
        return None
    return Preflight(headers["origin"], asked, names)


class Cors:
    """The CORS answers of one config."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._origins = Origins(config.cors_origins)
        self._credentials = [("Access-Control-Allow-Credentials", "true")] if config.cors_credentials else []

    def answer(self, preflight: Preflight) -> Response | None:
        """Return the answer to a preflight: what it asks for is allowed. None where its origin is not allowed."""
        allowed = self._origins.allowed(preflight.origin)
        if allowed is None:
            return None
        headers = [
            ("Access-Control-Allow-Origin", allowed),
            ("Access-Control-Allow-Methods", preflight.method),
            *([("Access-Control-Allow-Headers", preflight.headers)] if preflight.headers else []),
            *self._credentials,
            ("Access-Control-Max-Age", str(MAX_AGE)),
            ("Vary", _VARY),
        ]
        return Response.of(204, headers, b"")

    def refusal_headers(self, origin: str) -> list[tuple[str, str]]:
        """Return the headers by which a browser shows a refusal to a page of `origin`, where it is allowed."""
        allowed = self._origins.allowed(origin)
        if allowed is None:
            return []
        return [
            ("Access-Control-Allow-Origin", allowed),
            *self._credentials,
            ("Access-Control-Expose-Headers", _EXPOSED),
            ("Vary", "Origin"),
        ]
