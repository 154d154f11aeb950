"""The strict compact form of a JWS, its ES256 signature, and the claims of a Stack Auth token.

Three steps, each cheaper to fail than the next: `parse` looks at the form and at what can refuse
without a key, `check_signature` needs the key, `user_of` judges the claims that are now known to be
Stack Auth's. Python's own JSON and base64 readers are lenient, so form is judged here, after
RFC 7515 and RFC 8725; the signature is PyJWT's business, whose messages are never passed on, since
they can quote what an attacker wrote.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from ..errors import ErrorCode, RefusedError
from .credentials import MAX_BYTES
from .users import User, UserType, user_from_claims

ES256 = jwt.get_algorithm_by_name("ES256")

_SIGNATURE_CHARACTERS = 86
"""64 octets, r and s of 32 each (RFC 7518 section 3.4), in base64url."""
_BEFORE_SIGNATURE = slice(-_SIGNATURE_CHARACTERS - 1, -_SIGNATURE_CHARACTERS)
_USER_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_FORBIDDEN_HEADERS = ("crit", "b64", "zip", "cty", "enc", "jku", "jwk", "x5u", "x5c")
_MAX_KID = 128
_MAX_CONTAINERS = 128
"""Objects and lists in a header or payload; a token of Stack Auth has two or three."""
_STRING = re.compile(rb'"(?:[^"\\]+|\\.)*(?:"|\\?\Z)', re.DOTALL)
"""A JSON string, or what is left of one: it matches at each quote, so that no text is read twice."""
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_MAX_TIME = 2**53


class Token(NamedTuple):
    """A token whose form holds. Nothing in it is to be believed before the signature is checked."""

    kid: str
    user_type: UserType
    claims: Mapping[str, Any]
    payload: bytes
    signing_input: bytes
    signature: bytes

    def __repr__(self) -> str:
        return f"Token(user_type={self.user_type.value!r})"


class ForeignToken(RefusedError):
    """A well-formed token of another audience or issuer: what a wrong `project_id` looks like."""


def is_possible(token: str) -> bool:
    """Say whether `token` is worth a closer look: ASCII of at most 8 KiB that ends in what could be a signature."""
    return len(token) <= MAX_BYTES and token.isascii() and token[_BEFORE_SIGNATURE] == "."


def parse(token: str, audiences: Mapping[str, UserType], issuers: Mapping[str, UserType]) -> Token:
    """Take `token` apart and refuse what no key could save.

    Args:
        token: the compact form.
        audiences: the accepted audiences, and the user type that each belongs to.
        issuers: the same for the accepted issuers.

    Raises:
        RefusedError: INVALID_TOKEN.
    """
    kid, payload, signing_input, signature = jws(token)
    claims = _json_object(payload)
    user_type = _audience_type(claims, audiences, issuers)
    if not _is_time(claims.get("exp")):
        _refuse("exp is not a finite number")
    return Token(kid, user_type, claims, payload, signing_input, signature)


def jws(token: str) -> tuple[str, bytes, bytes, bytes]:
    """Take a JWS in the compact form apart: key id, payload, signing input and signature.

    Raises:
        RefusedError: INVALID_TOKEN, it is not the strict form of one that ES256 signed.
    """
    if not is_possible(token):
        _refuse("not a token by form")
    signing_input, _, signature_part = token.rpartition(".")
    header_part, _, payload_part = signing_input.partition(".")
    if len(signature_part) != _SIGNATURE_CHARACTERS or not header_part or not payload_part or "." in payload_part:
        _refuse("not the compact form of an ES256 JWS")
    return _kid(header_part), _decode(payload_part), signing_input.encode("ascii"), _decode(signature_part)


def check_signature(token: Token, key: EllipticCurvePublicKey) -> None:
    """Check the signature of `token` by `key`, which must be a key of the token's own user type.

    Raises:
        RefusedError: INVALID_TOKEN.
    """
    if not ES256.verify(token.signing_input, key, token.signature):
        _refuse("the signature does not hold")


def user_of(token: Token, wall: float, leeway: float) -> User:
    """Judge the claims of a `token` whose signature held, and return its user.

    The rules are the back end's own (contract.md section 1, "Consistency enforced"), but that `nbf` is
    honoured and a `leeway` granted. `iat` is not compared with the clock: the back end does not
    either, and a host whose clock lags must not lock people out.

    Args:
        wall: now, in seconds since the epoch.
        leeway: seconds granted to ``exp`` and ``nbf``.

    Raises:
        RefusedError: INVALID_TOKEN, or EXPIRED_TOKEN if all else holds.
    """
    claims = token.claims
    sub = claims.get("sub")
    if not isinstance(sub, str) or not _USER_ID.fullmatch(sub):
        _refuse("sub is not a user id")
    if claims.get("branch_id", claims.get("branchId")) != "main":
        _refuse("a token of another branch")
    if not _flags_agree(claims, token.user_type):
        _refuse("the flags and the audience disagree")
    for name in ("iat", "nbf"):
        if name in claims and not _is_time(claims[name]):
            _refuse(f"{name} is not a finite number")
    if not isinstance(claims.get("jti", ""), str):
        _refuse("jti is not a string")
    if claims.get("nbf", -math.inf) > wall + leeway:
        _refuse("not valid yet")
    if claims["exp"] <= wall - leeway:
        raise RefusedError(ErrorCode.EXPIRED_TOKEN, "expired")
    return user_from_claims(claims, token.user_type, token.payload)


@lru_cache(maxsize=64)
def _kid(header_part: str) -> str:
    """Return the key id of a header that is fit for an ES256 token: one of the few that a project has."""
    header = _json_object(_decode(header_part))
    if header.get("alg") != "ES256":
        _refuse("alg is not ES256")
    if header.get("typ", "JWT") != "JWT":
        _refuse("typ is not JWT")
    if any(name in header for name in _FORBIDDEN_HEADERS):
        _refuse("a header parameter that changes the meaning or brings its own key")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_KID:
        _refuse("kid is not a string of 1 to 128 characters")
    return kid


def _audience_type(
    claims: Mapping[str, Any], audiences: Mapping[str, UserType], issuers: Mapping[str, UserType]
) -> UserType:
    """Return the user type that the audience names, where the issuer is one of the same type."""
    aud, iss = claims.get("aud"), claims.get("iss")
    user_type = audiences.get(aud) if isinstance(aud, str) else None
    if user_type is None:
        raise ForeignToken(ErrorCode.INVALID_TOKEN, "a token for another audience")
    issuer_type = issuers.get(iss) if isinstance(iss, str) else None
    if issuer_type is None:
        raise ForeignToken(ErrorCode.INVALID_TOKEN, "a token of another issuer")
    if issuer_type is not user_type:
        _refuse("issuer and audience disagree about the user type")
    return user_type


def _flags_agree(claims: Mapping[str, Any], user_type: UserType) -> bool:
    """Say whether the flags, read as the back end reads those of older tokens, fit `user_type`."""
    anonymous = claims.get("is_anonymous", False)
    restricted = claims.get("is_restricted")
    restricted = anonymous if restricted is None else restricted
    reason = claims.get("restricted_reason")
    reason = {"type": "anonymous"} if reason is None and anonymous else reason
    return (
        anonymous is (user_type is UserType.ANONYMOUS)
        and restricted is (user_type is not UserType.NORMAL)
        and (isinstance(reason, dict) if restricted else reason is None)
    )


def _is_time(value: object) -> bool:
    """Say whether `value` is a NumericDate of RFC 7519 section 2 that every JSON reader takes for the same."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_MAX_TIME <= value <= _MAX_TIME


def _decode(part: str) -> bytes:
    """Decode base64url without padding, in its one canonical spelling (RFC 7515 section 2).

    The decoder passes over characters that are not of the alphabet; encoding again tells.
    """
    encoded = part.encode("ascii")
    try:
        octets = binascii.a2b_base64(encoded.translate(_TO_STANDARD) + b"==")
    except binascii.Error:
        _refuse("not base64url")
    if binascii.b2a_base64(octets, newline=False).translate(_TO_URL_SAFE).rstrip(b"=") != encoded:
        _refuse("not the canonical base64url")
    return octets


def _json_object(octets: bytes) -> dict[str, Any]:
    """Read one JSON object in UTF-8 whose names are unique (RFC 7515 section 4, RFC 8725 section 3.7).

    Brackets are counted before anything is parsed: each container costs a call, and the count bounds the depth too.
    """
    if _openings(octets) > _MAX_CONTAINERS and _openings(_STRING.sub(b"", octets)) > _MAX_CONTAINERS:
        _refuse("too many objects and lists")
    try:
        text = octets.decode("utf-8")
        value, end = _STRICT_JSON.raw_decode(text)
    except (ValueError, RecursionError):
        _refuse("not one JSON text in UTF-8 with unique names")
    if end != len(text) or not isinstance(value, dict):
        _refuse("not a JSON object and nothing else")
    return value


def _openings(octets: bytes) -> int:
    return octets.count(b"[") + octets.count(b"{")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_STRICT_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _refuse(detail: str) -> NoReturn:
    raise RefusedError(ErrorCode.INVALID_TOKEN, detail)
