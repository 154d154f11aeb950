"""Requests and their validation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from ._responses import CORS, KnownError, Response, bare_response

_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
_REQUEST_HEADERS = ", ".join(
    [
        "authorization",
        "content-type",
        *(
            f"x-{brand}-{name}"
            for brand in ("stack", "hexclave")
            for name in (
                "project-id",
                "branch-id",
                "access-type",
                "access-token",
                "refresh-token",
                "publishable-client-key",
                "secret-server-key",
                "super-secret-admin-key",
                "allow-anonymous-user",
                "allow-restricted-user",
                "override-error-status",
                "random-nonce",
                "client-version",
            )
        ),
    ]
)


class Request(NamedTuple):
    """A request. Headers of both brands are named ``x-stack-*``."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """Return a header of the brand; "" if it is missing."""
        return self.headers.get(f"x-stack-{name}", "")


def one_brand(headers: Mapping[str, str]) -> dict[str, str]:
    """Rename headers of the new brand to their old names. They take precedence over the old ones."""
    renamed = {
        name.replace("x-hexclave-", "x-stack-", 1): value
        for name, value in headers.items()
        if name.startswith("x-hexclave-")
    }
    return {**headers, **renamed}


def check_schema(request: Request, problems: list[str] | None = None, known: tuple[str, ...] = ()) -> None:
    """Check the query, as the route's schema does.

    Args:
        request: the request.
        problems: found before.
        known: the allowed query parameters.

    Raises:
        KnownError: SCHEMA_ERROR.
    """
    unknown = [name for name in request.query if name not in known]
    found = [*(problems or []), *([f"query contains unknown properties: {', '.join(unknown)}"] if unknown else [])]
    if found:
        lines = "".join(f"\n  - {each}" for each in found)
        message = f"Request validation failed on {request.method} {request.path}:{lines}"
        raise KnownError("SCHEMA_ERROR", {"message": message})


def form(request: Request) -> dict[str, str]:
    """Return the members of a JSON or form body."""
    content_type = request.headers.get("content-type", "").split(";")[0]
    text = request.body.decode("utf-8", "replace")
    if content_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(text, keep_blank_values=True))
    try:
        members: Any = json.loads(text) if content_type == "application/json" else {}
    except ValueError:
        raise KnownError("BODY_PARSING_ERROR", message="Invalid JSON in request body") from None
    return {name: str(value) for name, value in members.items()} if isinstance(members, dict) else {}


def wants_pretty(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def preflight() -> Response:
    return bare_response(
        200,
        CORS,
        ("access-control-allow-methods", _METHODS),
        ("access-control-allow-headers", _REQUEST_HEADERS),
        ("access-control-max-age", "86400"),
    )
