"""Sentry: remove Stack Auth's tokens and keys from what an SDK sends.

::

    from stackauth_middleware.contrib.sentry import scrub

    sentry_sdk.init(dsn="…", before_send=scrub, before_send_transaction=scrub, before_breadcrumb=scrub)

Sentry's own scrubber does not know ``x-stack-access-token`` nor ``x-stack-auth``, which also has the refresh token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

__all__ = ["scrub"]

T = TypeVar("T")

FILTERED = "[Filtered]"
"""What Sentry's own scrubber writes."""

_NAME = re.compile(
    r"""
    (http-)? (
        authorization | sec-websocket-protocol | (set-)?cookies?
        | x-(stack|hexclave)-.* (auth|token|key)
        | (__host-)? (stack|hexclave)-(access|refresh).*                # cookies of the SDKs
        | (access|refresh)-?token
        | .*(secret-?server|publishable-?client|secret-?admin)-?key | client-?secret
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Names of headers, environ keys, cookies and settings that hold a credential, written with hyphens."""
_VALUE = re.compile(
    r"""
    eyJ[\w.=+/-]{16,}                                                   # a JWT, or base64 of JSON
    | (?<![^\W_]) (ssk|pck|sak|sk|pk|wrt) _ [\w-]{16,}                  # a key of Stack Auth, or a workflow token
    | (?<![a-z0-9]) [a-z0-9]{45} (?![a-z0-9])                           # a refresh token
    """,
    re.VERBOSE,
)
_BYTES = re.compile(r"b?(['\"])(.*)\1", re.DOTALL)
"""How the SDK writes a string or bytes in a variable."""


def scrub(event: T, hint: Any = None) -> T:
    """Return a copy of an event, breadcrumb or log without tokens and keys of Stack Auth.

    For ``before_send``, ``before_send_transaction``, ``before_breadcrumb`` and ``before_send_log``. It removes the
    values of headers, environ keys, cookies and settings by their names, and tokens and keys in any other text, such
    as the variables of stack frames.

    Args:
        event: what the SDK passes: dicts, lists, strings and numbers.
        hint: not used.

    Not promised: that names, addresses or ids of users are removed; see ``send_default_pii`` of the SDK.

    Example::

        sentry_sdk.init(dsn="…", before_send=scrub, before_breadcrumb=scrub)
    """
    cleaned: Any = _cleaned(event)
    return cleaned  # type: ignore[no-any-return]


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _VALUE.sub(FILTERED, value)
    if isinstance(value, Mapping):
        return {name: FILTERED if member and _is_secret(name) else _cleaned(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) == 2 and _is_secret(value[0]):  # a header as a pair
            return [value[0], FILTERED]
        return [_cleaned(each) for each in value]
    return value


def _is_secret(name: object) -> bool:
    if not isinstance(name, str):
        return False
    quoted = _BYTES.fullmatch(name)
    return _NAME.fullmatch((quoted[2] if quoted else name).replace("_", "-")) is not None
