"""CORS (Fetch standard): detect and answer preflights, and let pages of allowed origins read refusals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from .config import StackAuthConfig
from .origins import Origins
from .records import Response

HEADERS = frozenset({"origin", "access-control-request-method", "access-control-request-headers"})
"""Names of the request headers that CORS needs, in lower case."""

MAX_AGE = 600
"""Seconds for which a browser may cache the answer to a preflight."""

_MAX_METHOD = 64
_MAX_HEADERS = 4096
_EXPOSED = "WWW-Authenticate, Retry-After"
_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
_ORIGIN = re.compile(r"[!-+\--~]{1,512}")
"""Visible ASCII characters except the comma, which joins repeated headers."""
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NAMES = re.compile(rf"{_METHOD.pattern}(?:[ \t]*,[ \t]*{_METHOD.pattern})*")
"""Field names, each a token (RFC 9110 section 5.6.2)."""


class Preflight(NamedTuple):
    """The request that a preflight announces.

    Attributes:
        origin: of the page.
        method: of the announced request.
        headers: names of its headers, as received; "" for none.
    """

    origin: str
    method: str
    headers: str


def preflight_of(method: str, headers: Mapping[str, str]) -> Preflight | None:
    """Return the request that a CORS preflight announces, or None if this is not a preflight of a browser.

    Args:
        method: method of the request, as received.
        headers: headers by name in lower case; repeated headers are joined by a comma.
    """
    if method != "OPTIONS" or not _ORIGIN.fullmatch(headers.get("origin", "")):
        return None
    announced, names = (
        headers.get("access-control-request-method", ""),
        headers.get("access-control-request-headers", ""),
    )
    if len(announced) > _MAX_METHOD or len(names) > _MAX_HEADERS or not _METHOD.fullmatch(announced):
        return None
    if names and not _NAMES.fullmatch(names):
        return None
    return Preflight(headers["origin"], announced, names)


class Cors:
    """CORS responses and headers of one config."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._origins = Origins(config.cors_origins)
        self._credentials = [("Access-Control-Allow-Credentials", "true")] if config.cors_credentials else []

    def answer(self, preflight: Preflight) -> Response | None:
        """Return the response that allows what `preflight` announces, or None if its origin is not allowed."""
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
        """Return the headers that let a page of `origin` read a refusal; none if it is not allowed."""
        allowed = self._origins.allowed(origin)
        if allowed is None:
            return []
        return [
            ("Access-Control-Allow-Origin", allowed),
            *self._credentials,
            ("Access-Control-Expose-Headers", _EXPOSED),
            ("Vary", "Origin"),
        ]
