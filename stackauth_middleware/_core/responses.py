"""From a refusal to the response that a door sends.

The body says which row, never why: details are for the log and the observers. Nothing is ever added
to an answer of the app.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from ..errors import AuthServerError, ErrorCode, RefusalInfo, RefusedError
from .config import StackAuthConfig
from .cors import Cors
from .records import Response

logger = logging.getLogger("stackauth_middleware")


class Responder:
    """Makes the responses of one config."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._config = config
        self._cors = Cors(config)
        self._challenges = {row: challenge_of(row, config.realm) for row in ErrorCode}
        self._ready = {} if callable(config.error_body) else {row: self._make(row, _ANY) for row in _ALWAYS_THE_SAME}

    def __call__(self, error: RefusedError | AuthServerError, method: str, path: str, origin: str) -> Response:
        """Return the response for `error`.

        Args:
            method: request method; HEAD gets the headers alone.
            path: for a callable ``error_body``.
            origin: the ``Origin`` header, or "".
        """
        row = error.code
        ready = self._ready.get(row)
        if ready is not None and not origin and method != "HEAD":
            return ready
        reason = error.restricted_reason if isinstance(error, RefusedError) else None
        retry_after = error.retry_after if isinstance(error, AuthServerError) else None
        return self._make(row, RefusalInfo(method, path, reason, retry_after), origin)

    def _make(self, row: ErrorCode, info: RefusalInfo, origin: str = "") -> Response:
        body = self._body(row, info)
        problem = self._config.error_body == "problem"
        headers = [
            ("Content-Type", "application/problem+json" if problem else "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        challenge = self._challenges[row]
        if challenge:
            headers.append(("WWW-Authenticate", challenge))
        if info.retry_after is not None:
            headers.append(("Retry-After", str(info.retry_after)))
        if origin:
            headers.extend(self._cors.refusal_headers(origin))
        return Response.of(row.status, headers, b"" if info.method == "HEAD" else body)

    def _body(self, row: ErrorCode, info: RefusalInfo) -> bytes:
        custom = self._config.error_body
        if custom is None:
            return _encode(default_body(row, info))
        if custom == "problem":
            return _encode(_problem(row, info))
        if isinstance(custom, Mapping):
            chosen = custom.get(row, custom.get(row.status, _MISSING))
            return _encode(default_body(row, info) if chosen is _MISSING else chosen)
        return _called(custom, row, info)


_MISSING = object()
_ANY = RefusalInfo("GET", "/")
_ALWAYS_THE_SAME = set(ErrorCode) - {ErrorCode.RESTRICTED_NOT_ALLOWED, ErrorCode.SERVER_ERROR}
"""The rows whose answers tell nothing of the request."""


def challenge_of(row: ErrorCode, realm: str) -> str:
    """Return the challenge of RFC 6750 section 3, or ""; it names no error where nothing was presented."""
    if row.challenge is None:
        return ""
    error = f', error="{row.challenge}"' if row.challenge else ""
    return f'Bearer realm="{realm}"{error}'


def default_body(row: ErrorCode, info: RefusalInfo) -> dict[str, Any]:
    """Return the JSON body of a refusal where `error_body` is None."""
    body: dict[str, Any] = {"error": row.message, "code": row.value}
    if row is ErrorCode.RESTRICTED_NOT_ALLOWED:
        body["restricted_reason"] = info.restricted_reason
    return body


def close_code_of(status: int) -> int:
    """Return the WebSocket close code for `status`: IANA's Unauthorized and Forbidden, else Try Again Later."""
    return {400: 3000, 401: 3000, 403: 3003}.get(status, 1013)


def _problem(row: ErrorCode, info: RefusalInfo) -> dict[str, Any]:
    """Return the members of RFC 9457 section 3.1, with the row's code as an extension."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(row.status).phrase,
        "status": row.status,
        "detail": row.message,
    }
    return body | {name: value for name, value in default_body(row, info).items() if name != "error"}


def _called(custom: Callable[[ErrorCode, RefusalInfo], Any], row: ErrorCode, info: RefusalInfo) -> bytes:
    try:
        return _encode(custom(row, info))
    except Exception:
        logger.exception("error_body raised, or returned what is not JSON; sending the default body")
        return _encode(default_body(row, info))


def _encode(body: Any) -> bytes:
    return json.dumps(body, allow_nan=False).encode("ascii")
