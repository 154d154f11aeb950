"""Requests and their validation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from ._responses import KnownError


class Request(NamedTuple):
    """A request. ``x-hexclave-*`` headers are renamed to ``x-stack-*``, if the server reads them."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """Return the header ``x-stack-<name>``; "" if it is missing."""
        return self.headers.get(f"x-stack-{name}", "")


def one_brand(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Rename ``x-hexclave-*`` headers to ``x-stack-*``. They take precedence over headers sent under that name."""
    renamed = {
        name.replace("x-hexclave-", "x-stack-", 1): value
        for name, value in headers.items()
        if name.startswith("x-hexclave-")
    }
    return {**headers, **renamed}


def schema_error(request: Request, problems: list[str]) -> KnownError:
    """Return the error for a request that its route's schema rejects."""
    lines = "".join(f"\n  - {each}" for each in problems)
    return KnownError(
        "SCHEMA_ERROR", {"message": f"Request validation failed on {request.method} {request.path}:{lines}"}
    )


def body_of(request: Request) -> dict[str, Any]:
    """Return the members of a JSON object or form; an empty dict for any other body.

    Raises:
        KnownError: the content type is JSON and the body is not.
    """
    content_type = request.headers.get("content-type", "").split(";")[0]
    text = request.body.decode("utf-8", "replace")
    if content_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(text, keep_blank_values=True))
    try:
        members: Any = json.loads(text) if content_type == "application/json" else {}
    except ValueError:
        raise KnownError("BODY_PARSING_ERROR", message="Invalid JSON in request body") from None
    return members if isinstance(members, dict) else {}


def wants_pretty(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
