"""Responses to refused requests.

The body holds the error code. The detail is for logs and observers; with the setting ``explain`` the body has it too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from ..errors import AuthServerError, ErrorCode, RefusalInfo, RefusedError
from .config import StackAuthConfig
from .cors import Cors
from .records import Response
from .tokens import ForeignToken

logger = logging.getLogger("stackauth_middleware")


class Responder:
    """Builds the responses of one config. Those that do not depend on the request are built once."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._config = config
        self._cors = Cors(config)
        self._challenges = {code: challenge_of(code, config.realm) for code in ErrorCode}
        constant = frozenset[ErrorCode]() if callable(config.error_body) or config.explain else _CONSTANT
        self._prebuilt = {code: self._make(code, _ANY_REQUEST) for code in constant}

    def __call__(self, error: RefusedError | AuthServerError, method: str, path: str, origin: str) -> Response:
        """Return the response for `error`.

        Args:
            error: the refusal.
            method: request method; the response to HEAD has no body.
            path: path of the request, for a callable ``error_body``.
            origin: ``Origin`` header, or "".
        """
        code = error.code
        prebuilt = self._prebuilt.get(code)
        if prebuilt is not None and not origin and method != "HEAD":
            return prebuilt
        reason = error.restricted_reason if isinstance(error, RefusedError) else None
        retry_after = error.retry_after if isinstance(error, AuthServerError) else None
        explained = {"reason": reason_of(error)} if self._config.explain else {}
        return self._make(code, RefusalInfo(method, path, reason, retry_after), origin, explained)

    def _make(
        self, code: ErrorCode, info: RefusalInfo, origin: str = "", explained: Mapping[str, str] = MappingProxyType({})
    ) -> Response:
        body = self._body(code, info, explained)
        problem = self._config.error_body == "problem"
        headers = [
            ("Content-Type", "application/problem+json" if problem else "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        challenge = self._challenges[code]
        if challenge:
            headers.append(("WWW-Authenticate", challenge))
        if info.retry_after is not None:
            headers.append(("Retry-After", str(info.retry_after)))
        if origin:
            headers.extend(self._cors.refusal_headers(origin))
        return Response.of(code.status, headers, b"" if info.method == "HEAD" else body)

    def _body(self, code: ErrorCode, info: RefusalInfo, explained: Mapping[str, str]) -> bytes:
        custom = self._config.error_body
        if custom is None:
            return _encode({**default_body(code, info), **explained})
        if custom == "problem":
            return _encode({**_problem(code, info), **explained})
        if isinstance(custom, Mapping):
            chosen = custom.get(code, custom.get(code.status, _MISSING))
            return _encode(default_body(code, info) if chosen is _MISSING else chosen)
        return _call_hook(custom, code, info)


_MISSING = object()
_ANY_REQUEST = RefusalInfo("GET", "/")
_CONSTANT = frozenset(ErrorCode) - {ErrorCode.RESTRICTED_NOT_ALLOWED, ErrorCode.SERVER_ERROR}
"""Error codes whose response does not depend on the request."""


def reason_of(error: RefusedError | AuthServerError) -> str:
    """Return the reason of a refusal for the developer. It quotes nothing of the token but its issuer or audience."""
    return f"{error.detail}: {error.advice}" if isinstance(error, ForeignToken) else error.detail


def challenge_of(code: ErrorCode, realm: str) -> str:
    """Return the value of ``WWW-Authenticate`` (RFC 6750 section 3), or "" for none."""
    if code.challenge is None:
        return ""
    error = f', error="{code.challenge}"' if code.challenge else ""
    return f'Bearer realm="{realm}"{error}'


def default_body(code: ErrorCode, info: RefusalInfo) -> dict[str, Any]:
    """Return the JSON body of a refusal if ``error_body`` is None."""
    body: dict[str, Any] = {"error": code.message, "code": code.value}
    if code is ErrorCode.RESTRICTED_NOT_ALLOWED:
        body["restricted_reason"] = info.restricted_reason
    return body


def close_code_of(status: int) -> int:
    """Return the WebSocket close code for `status`: 3000 Unauthorized, 3003 Forbidden, or 1013 Try Again Later.

    They are registered with IANA (WebSocket Close Code Number Registry).
    """
    return {400: 3000, 401: 3000, 403: 3003}.get(status, 1013)


def _problem(code: ErrorCode, info: RefusalInfo) -> dict[str, Any]:
    """Return the members of RFC 9457 section 3.1, with ``code`` as an extension."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(code.status).phrase,
        "status": code.status,
        "detail": code.message,
    }
    return body | {name: value for name, value in default_body(code, info).items() if name != "error"}


def _call_hook(custom: Callable[[ErrorCode, RefusalInfo], Any], code: ErrorCode, info: RefusalInfo) -> bytes:
    """Return the body that a callable ``error_body`` makes; if that fails, log it and return the default body."""
    try:
        return _encode(custom(code, info))
    except Exception:
        logger.exception("error_body raised, or returned what is not JSON; sending the default body")
        return _encode(default_body(code, info))


def _encode(body: Any) -> bytes:
    return json.dumps(body, allow_nan=False).encode("ascii")
