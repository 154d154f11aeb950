"""Token sources: where in a request an access token is read from. Checks form only, never the token.

Stack Auth's SDKs and documentation send a token to an app's own back end in these ways (docs/stack-auth.md
section 8), under header names of the old and of the new brand. They are read in this order:

1. ``x-stack-access-token: <jwt>``
2. ``Authorization: Bearer stackauth_<base64 of {"accessToken": …, "refreshToken": …}>``
3. ``x-stack-auth: {"accessToken": …, "refreshToken": …}``
4. ``Authorization: Bearer <jwt>``
5. the WebSocket sub-protocols ``stackauth, <jwt>``, since browsers cannot set headers there

The first that is present decides, even if it is malformed. The refresh token of 2 and 3 is dropped here.

API keys of users and teams are read on paths that accept them, from ``x-stack-api-key`` (of either brand),
``x-api-key`` and ``Authorization: Bearer <key>``. Several API keys, or an API key and a token, are malformed.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Container, Mapping
from contextlib import suppress
from typing import Any, Literal, TypeAlias, get_args

from ..errors import ErrorCode, RefusedError
from .api_keys import form_of

TokenSource: TypeAlias = Literal["x-stack-access-token", "bearer", "x-stack-auth", "websocket"]
TOKEN_SOURCES: tuple[TokenSource, ...] = get_args(TokenSource)
ApiKeySource: TypeAlias = Literal["x-stack-api-key", "x-api-key", "bearer"]
API_KEY_SOURCES: tuple[ApiKeySource, ...] = get_args(ApiKeySource)

SUBPROTOCOL = "stackauth"
"""The sub-protocol that a client offers just before the token."""
MAX_BYTES = 8192
"""Maximum length of a credential, in bytes."""

_TOKEN_HEADERS = ("x-stack-access-token", "x-hexclave-access-token")
_JSON_HEADERS = ("x-stack-auth", "x-hexclave-auth")
_PREFIXES = ("stackauth_", "hexclave_")
_API_KEY_HEADERS: dict[ApiKeySource, tuple[str, ...]] = {
    "x-stack-api-key": ("X-Stack-Api-Key", "X-Hexclave-Api-Key"),
    "x-api-key": ("X-Api-Key",),
    "bearer": ("Authorization",),
}
HEADERS = frozenset(
    {
        *(*_TOKEN_HEADERS, *_JSON_HEADERS, "authorization", "sec-websocket-protocol"),
        *(name.lower() for names in _API_KEY_HEADERS.values() for name in names),
    }
)
"""Names, in lower case, of the headers that `extract` and `extract_api_key` read."""

_SOURCE_HEADERS: dict[TokenSource, tuple[str, ...]] = {
    "x-stack-access-token": ("X-Stack-Access-Token", "X-Hexclave-Access-Token"),
    "bearer": ("Authorization",),
    "x-stack-auth": ("X-Stack-Auth", "X-Hexclave-Auth"),
    "websocket": (),  # responses to WebSocket handshakes are not cached
}
MAX_HEADERS = 2000
"""Maximum number of header fields that are searched for credentials, as in Node.js."""
UNSEARCHED = {**dict.fromkeys(HEADERS, ","), "authorization": "bearer stackauth_,"}
"""Headers used instead of those of a request with more than `MAX_HEADERS`: all malformed, so that it is refused."""

_BEARER = re.compile(r"bearer +([^ ].*)", re.IGNORECASE | re.DOTALL)
_JWT_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")


def extract(headers: Mapping[str, str], token_sources: Container[TokenSource]) -> str | None:
    """Return the token of the first token source that is present, or None where the request has none.

    Args:
        headers: names in lower case, values as latin-1 text. For a repeated header, the values joined by
            commas, or the first value followed by a comma.
        token_sources: those that are enabled.

    Raises:
        RefusedError: INVALID_REQUEST for a credential that is repeated, malformed or over 8 KiB.
    """
    if "x-stack-access-token" in token_sources:
        value = _one_of(headers, _TOKEN_HEADERS)
        if value is not None:
            return _plain(value)
    bearer = _bearer(headers) if "bearer" in token_sources else None
    if bearer is not None and bearer.startswith(_PREFIXES):
        return _wrapped(_once(bearer).partition("_")[2])
    if "x-stack-auth" in token_sources:
        value = _one_of(headers, _JSON_HEADERS)
        if value is not None:
            return _member(value)
    if bearer is not None and _JWT_FORM.fullmatch(_once(bearer)):
        return bearer
    if "websocket" in token_sources and "sec-websocket-protocol" in headers:
        return _subprotocol(headers["sec-websocket-protocol"])
    return None


def extract_api_key(headers: Mapping[str, str], sources: Container[ApiKeySource]) -> str | None:
    """Return the API key of a request, or None where it has none.

    A Bearer value is an API key only if it has the form and the checksum of one; else it is a token, or a credential
    that the app itself reads. The other headers are for API keys only, so their value is returned in any form.

    Args:
        headers: as `extract` takes them.
        sources: those that are enabled.

    Raises:
        RefusedError: INVALID_REQUEST for several keys, or one that is repeated or over 8 KiB.
    """
    keys: list[str] = []
    for source in API_KEY_SOURCES:
        if source in sources:
            values = (headers.get(name.lower(), "").strip(" \t") for name in _API_KEY_HEADERS[source])
            keys += filter(None, map(_bearer_key, values) if source == "bearer" else values)
    if len(keys) > 1 or any("," in each for each in keys):
        raise _malformed("several API keys")
    if keys and len(keys[0]) > MAX_BYTES:
        raise _malformed("a credential over 8 KiB")
    return keys[0] if keys else None


def _bearer_key(value: str) -> str | None:
    """Return the API key of the Bearer scheme, also one with a comma behind it; None for other schemes and values."""
    match = _BEARER.fullmatch(value)
    first = match[1].partition(",")[0].rstrip(" \t") if match is not None else ""
    return match[1] if match is not None and form_of(first) is not None else None


def vary_names(token_sources: Container[TokenSource], api_key_sources: Container[ApiKeySource] = ()) -> tuple[str, ...]:
    """Return the names of the request headers that the enabled sources read, for ``Vary``."""
    names = [name for source in TOKEN_SOURCES if source in token_sources for name in _SOURCE_HEADERS[source]]
    names += [name for source in API_KEY_SOURCES if source in api_key_sources for name in _API_KEY_HEADERS[source]]
    return tuple(dict.fromkeys(names))


def split_subprotocols(value: str) -> list[str]:
    """Return the sub-protocols that a ``Sec-WebSocket-Protocol`` header offers."""
    return [each.strip(" \t") for each in value.split(",")]


def _one_of(headers: Mapping[str, str], names: tuple[str, str]) -> str | None:
    """Return the value of the one header that is not empty, or None. Values under both brands are malformed."""
    if names[0] not in headers and names[1] not in headers:
        return None
    old, new = headers.get(names[0], "").strip(" \t"), headers.get(names[1], "").strip(" \t")
    if old and new:
        raise _malformed("one header in both brands")
    if len(old or new) > MAX_BYTES:
        raise _malformed("a credential over 8 KiB")
    return old or new or None


def _plain(value: str) -> str:
    if "," in value:
        raise _malformed("an access token header twice")
    return value


def _bearer(headers: Mapping[str, str]) -> str | None:
    """Return the credential of the Bearer scheme; None for other schemes and for values not in the form of a token."""
    value = headers.get("authorization")
    if value is None:
        return None
    match = _BEARER.fullmatch(value.strip(" \t"))
    if match is None:
        return None
    bearer = match[1]
    return bearer if bearer.startswith(_PREFIXES) or _JWT_FORM.match(bearer, 0, 2 * MAX_BYTES) else None


def _once(bearer: str) -> str:
    """Return `bearer`, or raise if it is too long or its header is repeated."""
    if len(bearer) > MAX_BYTES:
        raise _malformed("a credential over 8 KiB")
    if "," in bearer:
        raise _malformed("an authorization header twice")
    return bearer


def _wrapped(value: str) -> str | None:
    """Return the token in what the SDKs' `getAuthorizationHeader()` returns: JSON in padded standard base64."""
    text = None
    with suppress(ValueError):  # raised below instead: this exception and its frames hold the credential
        text = base64.b64decode(value.encode("ascii"), validate=True).decode("utf-8")
    if text is None:
        raise _malformed("no base64 after the bearer prefix")
    return _member(text)


def _member(text: str) -> str | None:
    """Return the member ``accessToken`` of a JSON credential; the refresh token beside it is dropped."""
    members = None
    with suppress(ValueError, RecursionError):  # raised below instead, as above
        members = json.loads(text, object_pairs_hook=_unique)
    if not isinstance(members, dict):
        raise _malformed("a credential that is not one JSON object")
    token = members.get("accessToken")
    if not isinstance(token, str | None):
        raise _malformed("an access token that is not a string")
    return token or None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name twice")
    return members


def _subprotocol(value: str) -> str | None:
    """Return the token offered as ``stackauth, <jwt>``, in this order and once."""
    if len(value) > 2 * MAX_BYTES:
        raise _malformed("sub-protocols over 16 KiB")
    offered = split_subprotocols(value)
    if SUBPROTOCOL not in offered:
        return None
    at = offered.index(SUBPROTOCOL)
    if offered.count(SUBPROTOCOL) > 1 or at + 1 == len(offered):
        raise _malformed("the sub-protocol without exactly one token")
    token = offered[at + 1]
    if len(token) > MAX_BYTES:
        raise _malformed("a credential over 8 KiB")
    return token or None


def _malformed(detail: str) -> RefusedError:
    return RefusedError(ErrorCode.INVALID_REQUEST, detail)
