"""Requests whose method and path the caller chooses. No path can leave the API; the query is built from `params`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .request import Request

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

_SEGMENT = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._~$:@-]+")


def free_request(method: str, path: str, json: Any, params: Mapping[str, object] | None) -> Request[Any]:
    """Return the request with this method and path. Its answer is any JSON value.

    Args:
        method: one of `METHODS`.
        path: as in ``"/users/me"``, with or without ``/api/v1`` before it.
        json: JSON value to send; None for no body.
        params: of the query. Values are strings, numbers and booleans; one that is None is left out.

    Raises:
        ValueError: the method or the path is not allowed.
        TypeError: an argument has the wrong type.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, in capitals")
    return Request(method, _checked(path), lambda body: body, _query(params or {}), json)


def _checked(path: str) -> str:
    """Return `path` below ``/api/v1``."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise ValueError("path must start with '/', as in '/users'; the host is api_url")
    below = path.removeprefix("/api/v1") if path.startswith("/api/v1/") else path
    segments = below.split("/")[1:]
    if segments[0] == "api" or not all(map(_SEGMENT.fullmatch, segments)):
        raise ValueError(
            "path must be a plain path below /api/v1, as in '/users': no '//', '.' or '..', no '%', no query (use "
            "params), and no slash at its end"
        )
    return below


def _query(params: Mapping[str, object]) -> dict[str, str]:
    sent = {}
    for name, value in params.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float | None):
            raise TypeError("params must map names to strings, numbers, booleans or None")
        if value is not None:
            sent[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return sent
