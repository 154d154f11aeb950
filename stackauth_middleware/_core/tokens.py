"""Verification of a Stack Auth access token: its form, its ES256 signature and its claims.

A verifier calls `parse`, which needs no key, then `check_signature`, then `user_of`. So a token that can be
rejected cheaply never causes a fetch, and no claim is trusted before the signature holds. These three are made
of the named checks below, which the command line also calls one by one, to report on each of them:

- `is_possible`, `decode_part`, `parse_object`, `key_id_of` and `parse_jws` check the form;
- `user_type_of` checks audience and issuer;
- `check_user` checks the subject, the branch and the flags;
- `check_times` checks ``exp``, ``nbf`` and ``iat``.

Each raises a `RefusedError` whose `detail` names the fault and quotes nothing of the token.

Python's JSON and base64 decoders are lenient, so the form is checked here (RFC 7515, RFC 8725). Of PyJWT, only the
ES256 algorithm is used.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from ..errors import ErrorCode, RefusedError
from .credentials import MAX_BYTES
from .users import User, UserType, user_from_claims

ES256 = jwt.get_algorithm_by_name("ES256")

SIGNATURE_CHARACTERS = 86
"""Length in characters of a signature: the 64 octets of r and s (RFC 7518 section 3.4) in base64url."""
BEFORE_SIGNATURE = slice(-SIGNATURE_CHARACTERS - 1, -SIGNATURE_CHARACTERS)
"""Position of the dot before the signature."""
_USER_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_FORBIDDEN_HEADERS = ("crit", "b64", "zip", "cty", "enc", "jku", "jwk", "x5u", "x5c")
_MAX_KID = 128
"""Maximum length of a key id, in characters."""
_MAX_CONTAINERS = 128
"""Maximum number of objects and lists in a header or payload; a token of Stack Auth has two or three."""
_STRING = re.compile(rb'"(?:[^"\\]+|\\.)*(?:"|\\?\Z)', re.DOTALL)
"""A JSON string. An unterminated one matches to the end, so that the search never backtracks to a later quote."""
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_SHOWN = 200
"""Maximum length of a claim in logs, in characters."""
_MAX_TIME = 2**53
"""Latest time that is accepted, in seconds since the epoch: a double holds every integer up to this one."""


class Token(NamedTuple):
    """A token of the right form. Its claims must not be trusted before `check_signature` has passed."""

    kid: str
    user_type: UserType
    claims: Mapping[str, Any]
    payload: bytes
    signing_input: bytes
    signature: bytes

    def __repr__(self) -> str:
        return f"Token(user_type={self.user_type.value!r})"


class ForeignToken(RefusedError):
    """A well-formed token of another audience or issuer. If every token is one, a setting is wrong.

    Attributes:
        advice: what the token has, what was expected, and which setting to look at. For logs.
    """

    advice = ""

    def __str__(self) -> str:
        return f"{super().__str__()}: {self.advice}"


# -- the steps of a verifier -----------------------------------------------------------------------


def parse(token: str, audiences: Mapping[str, UserType], issuers: Mapping[str, UserType]) -> Token:
    """Parse `token`, rejecting everything that can be rejected without a key.

    Args:
        token: the compact form.
        audiences: the accepted audiences, each with its user type.
        issuers: the accepted issuers, each with its user type.

    Raises:
        RefusedError: INVALID_TOKEN.
    """
    kid, payload, signing_input, signature = parse_jws(token)
    claims = parse_object(payload)
    user_type = user_type_of(claims, audiences, issuers)
    if not is_numeric_date(claims.get("exp")):
        _refuse("exp is not a finite number")
    return Token(kid, user_type, claims, payload, signing_input, signature)


def check_signature(token: Token, key: EllipticCurvePublicKey) -> None:
    """Check the signature of `token`.

    Args:
        token: as `parse` returned it.
        key: the key that is published under the key id of `token` for its user type.

    Raises:
        RefusedError: INVALID_TOKEN.
    """
    if not ES256.verify(token.signing_input, key, token.signature):
        _refuse("the signature does not hold")


def user_of(token: Token, wall: float, leeway: float) -> User:
    """Check the claims of `token`, whose signature was checked, and return its user.

    Args:
        token: as `parse` returned it.
        wall: the current time, in seconds since the epoch.
        leeway: clock difference allowed for ``exp`` and ``nbf``, in seconds.

    Raises:
        RefusedError: INVALID_TOKEN; EXPIRED_TOKEN if nothing else is wrong.
    """
    check_user(token.claims, token.user_type)
    check_times(token.claims, wall, leeway)
    return user_from_claims(token.claims, token.user_type, token.payload)


# -- the form --------------------------------------------------------------------------------------


def is_possible(token: str) -> bool:
    """Return whether `token` is ASCII of at most 8 KiB with a dot where the signature begins."""
    return len(token) <= MAX_BYTES and token.isascii() and token[BEFORE_SIGNATURE] == "."


def parse_jws(token: str) -> tuple[str, bytes, bytes, bytes]:
    """Split a JWS in the compact form into key id, payload, signing input and signature.

    Raises:
        RefusedError: INVALID_TOKEN if it is not the strict compact form with a header for ES256.
    """
    if not is_possible(token):
        _refuse("not a token by form")
    signing_input, _, signature_part = token.rpartition(".")
    header_part, _, payload_part = signing_input.partition(".")
    if len(signature_part) != SIGNATURE_CHARACTERS or not header_part or not payload_part or "." in payload_part:
        _refuse("not the compact form of an ES256 JWS")
    return key_id_of(header_part), decode_part(payload_part), signing_input.encode("ascii"), decode_part(signature_part)


@lru_cache(maxsize=64)
def key_id_of(header_part: str) -> str:
    """Return the key id of an encoded header, which must be one for ES256. Cached: a project has few headers.

    Raises:
        RefusedError: INVALID_TOKEN.
    """
    header = parse_object(decode_part(header_part))
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


def decode_part(part: str) -> bytes:
    """Decode base64url without padding, in its canonical form only (RFC 7515 section 2).

    The decoder skips characters outside the alphabet, so the result is encoded again and compared.

    Args:
        part: ASCII text.

    Raises:
        RefusedError: INVALID_TOKEN.
    """
    encoded = part.encode("ascii")
    try:
        decoded = binascii.a2b_base64(encoded.translate(_TO_STANDARD) + b"==")
    except binascii.Error:
        _refuse("not base64url")
    if binascii.b2a_base64(decoded, newline=False).translate(_TO_URL_SAFE).rstrip(b"=") != encoded:
        _refuse("not the canonical base64url")
    return decoded


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse one JSON object in UTF-8 with unique names (RFC 7515 section 4, RFC 8725 section 3.7).

    Brackets are counted before parsing, which bounds both the work and the depth of nesting.

    Raises:
        RefusedError: INVALID_TOKEN.
    """
    if _openings(data) > _MAX_CONTAINERS and _openings(_STRING.sub(b"", data)) > _MAX_CONTAINERS:
        _refuse("too many objects and lists")
    try:
        text = data.decode("utf-8")
        value, end = _STRICT_JSON.raw_decode(text)
    except (ValueError, RecursionError):
        _refuse("not one JSON text in UTF-8 with unique names")
    if end != len(text) or not isinstance(value, dict):
        _refuse("not a JSON object and nothing else")
    return value


def _openings(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate name")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_STRICT_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)

# -- claims ----------------------------------------------------------------------------------------


def user_type_of(
    claims: Mapping[str, Any], audiences: Mapping[str, UserType], issuers: Mapping[str, UserType]
) -> UserType:
    """Return the user type that both the audience and the issuer stand for.

    Raises:
        ForeignToken: the audience or the issuer is not among those accepted.
        RefusedError: INVALID_TOKEN if they stand for different user types.
    """
    aud, iss = claims.get("aud"), claims.get("iss")
    user_type = audiences.get(aud) if isinstance(aud, str) else None
    if user_type is None:
        raise _foreign("a token for another audience", "aud", aud, audiences, "project_id")
    issuer_type = issuers.get(iss) if isinstance(iss, str) else None
    if issuer_type is None:
        expected = [name for name, kind in issuers.items() if kind is user_type]
        raise _foreign("a token of another issuer", "iss", iss, expected, "issuer_url or api_url")
    if issuer_type is not user_type:
        _refuse("issuer and audience disagree about the user type")
    return user_type


def _foreign(detail: str, claim: str, value: object, expected: Iterable[str], settings: str) -> ForeignToken:
    error = ForeignToken(ErrorCode.INVALID_TOKEN, detail)
    found = ascii(value[:_SHOWN]) if isinstance(value, str) else f"a {type(value).__name__}"
    error.advice = f"{claim} is {found}, expected {' or '.join(map(repr, expected))}; is {settings} right?"
    return error


def check_user(claims: Mapping[str, Any], user_type: UserType) -> None:
    """Check the claims about the user as Stack Auth's back end does (docs/stack-auth.md section 2).

    Args:
        claims: of the token.
        user_type: as `user_type_of` returned it; the flags must agree with it.

    Raises:
        RefusedError: INVALID_TOKEN.
    """
    sub = claims.get("sub")
    if not isinstance(sub, str) or not _USER_ID.fullmatch(sub):
        _refuse("sub is not a user id")
    if claims.get("branch_id", claims.get("branchId")) != "main":
        _refuse("a token of another branch")
    if not _flags_agree(claims, user_type):
        _refuse("the flags and the audience disagree")
    if not isinstance(claims.get("jti", ""), str):
        _refuse("jti is not a string")


def check_times(claims: Mapping[str, Any], wall: float, leeway: float) -> None:
    """Check ``exp``, ``nbf`` and the type of ``iat``.

    ``iat`` is not compared with the clock: the back end does not do so either, and a host whose clock is slow
    must not refuse every fresh token. Unlike the back end, this honours ``nbf`` and allows a `leeway`.

    Args:
        claims: of the token; ``exp`` passed `is_numeric_date`.
        wall: the current time, in seconds since the epoch.
        leeway: clock difference allowed for ``exp`` and ``nbf``, in seconds.

    Raises:
        RefusedError: INVALID_TOKEN, or EXPIRED_TOKEN.
    """
    for name in ("iat", "nbf"):
        if name in claims and not is_numeric_date(claims[name]):
            _refuse(f"{name} is not a finite number")
    if claims.get("nbf", -math.inf) > wall + leeway:
        _refuse("not valid yet")
    if claims["exp"] <= wall - leeway:
        raise RefusedError(ErrorCode.EXPIRED_TOKEN, "expired")


def is_numeric_date(value: object) -> bool:
    """Return whether `value` is a NumericDate (RFC 7519 section 2) that every JSON parser reads as the same number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_MAX_TIME <= value <= _MAX_TIME


def _flags_agree(claims: Mapping[str, Any], user_type: UserType) -> bool:
    """Return whether the flags agree with `user_type`, given the back end's defaults for older tokens."""
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


def _refuse(detail: str) -> NoReturn:
    raise RefusedError(ErrorCode.INVALID_TOKEN, detail)
