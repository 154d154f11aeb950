"""JWK Sets: from documents to the keys of one user type, and from their age to what to do.

What Stack Auth publishes (contract.md section 2): one address with two query parameters. The plain
document holds the keys of normal users; ``include_restricted`` adds those of restricted users;
``include_anonymous`` adds those of both. Two keys for each type, kty, alg, crv, x, y and kid only,
no ETag. Coordinates lose their leading zero octets, so about one project in 130 has a short one.
A key signs for its own type only, so the keys of a type are a document less the next smaller one.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from jwt.exceptions import PyJWTError

from ..errors import ErrorCode
from .records import Clocks
from .tokens import ES256
from .upstream import Answer, Call, Failure, Reply
from .users import UserType

MAX_BYTES = 64 * 1024
FRESH = 600.0
"""Seconds for which a key set is used without asking again; ``Cache-Control`` can only shorten them."""
MIN_FRESH_FOR = 60.0
STALE_IF_ERROR = 24 * 3600.0
"""Seconds for which a key set goes on being used while it cannot be refreshed."""
MIN_FETCH_INTERVAL = 10.0
"""Seconds between two flights for the same key set, failures included."""

SMALLER = {UserType.RESTRICTED: UserType.NORMAL, UserType.ANONYMOUS: UserType.RESTRICTED}
"""The user type whose document is the next smaller one."""

_QUERIES = {
    UserType.NORMAL: "",
    UserType.RESTRICTED: "?include_restricted=true",
    UserType.ANONYMOUS: "?include_anonymous=true",
}

Point: TypeAlias = tuple[bytes, bytes]


class Key(NamedTuple):
    """A public key and its coordinates. The object stays the same for as long as the key is published."""

    point: Point
    public: EllipticCurvePublicKey


Keys: TypeAlias = Mapping[str, Key]


class Action(Enum):
    """What to do for a key id."""

    USE = 1
    USE_AND_REFRESH = 2
    REFRESH = 3
    UNKNOWN = 4
    UNAVAILABLE = 5

    def is_ready(self, *, defer_refresh: bool) -> bool:
        """Return whether a key can be used without a fetch before the app runs."""
        return self is Action.USE or (defer_refresh and self is Action.USE_AND_REFRESH)


class Age(Enum):
    """How old a key set is. `NONE` is also one that is too old to be used."""

    NONE = 1
    STALE = 2
    FRESH = 3

    __hash__ = object.__hash__  # there is one of each; Enum's own is written in Python


ACTIONS: Mapping[tuple[Age, bool, bool], Action] = {
    # (age, is the key id known, may a flight start now)
    (Age.FRESH, True, True): Action.USE,
    (Age.FRESH, True, False): Action.USE,
    (Age.FRESH, False, True): Action.REFRESH,
    (Age.FRESH, False, False): Action.UNKNOWN,
    (Age.STALE, True, True): Action.USE_AND_REFRESH,
    (Age.STALE, True, False): Action.USE,
    (Age.STALE, False, True): Action.REFRESH,
    (Age.STALE, False, False): Action.UNKNOWN,
    (Age.NONE, True, True): Action.REFRESH,
    (Age.NONE, True, False): Action.UNAVAILABLE,
    (Age.NONE, False, True): Action.REFRESH,
    (Age.NONE, False, False): Action.UNAVAILABLE,
}


class KeySet(NamedTuple):
    """The keys of one user type, and when they and their absence were last heard of (monotonic seconds).

    Attributes:
        as_of: when the keys were asked for; keys that were asked for earlier never replace them.
        failure: the row that the last flight failed with, or None where it brought keys.
        apart: seconds after `asked_at` before another flight may start.
    """

    keys: Keys = MappingProxyType({})
    fetched_at: float = -math.inf
    fresh_for: float = 0.0
    asked_at: float = -math.inf
    fetch_interval: float = MIN_FETCH_INTERVAL
    failure: ErrorCode | None = None
    as_of: float = -math.inf

    def is_fresh(self, mono: float) -> bool:
        return mono - self.fetched_at < self.fresh_for

    def age(self, mono: float) -> Age:
        since = mono - self.fetched_at
        return Age.FRESH if self.is_fresh(mono) else Age.STALE if since < STALE_IF_ERROR else Age.NONE

    def may_refresh(self, mono: float) -> bool:
        return mono - self.asked_at >= self.fetch_interval

    def action(self, kid: str, mono: float) -> Action:
        """Say what to do for a token signed by the key `kid`."""
        return ACTIONS[self.age(mono), kid in self.keys, self.may_refresh(mono)]

    def retry_after(self, mono: float) -> int:
        """Return the whole seconds until the next flight may start, at least 1."""
        left = self.asked_at + self.fetch_interval - mono
        return max(1, math.ceil(left)) if math.isfinite(left) else 1

    def filled(self, keys: Keys, fresh_for: float, as_of: float, mono: float) -> KeySet:
        """Return the record after a fetch that began at `as_of` and brought `keys`: newer keys stay."""
        return self if self.as_of > as_of else KeySet(MappingProxyType(dict(keys)), mono, fresh_for, mono, as_of=as_of)

    def failed(self, failure: Failure, as_of: float, mono: float) -> KeySet:
        """Return the record after a fetch that began at `as_of` and failed: it changes no key."""
        if self.as_of > as_of:
            return self
        return self._replace(
            asked_at=mono, fetch_interval=max(MIN_FETCH_INTERVAL, failure.retry_after or 0), failure=failure.code
        )


class Document(NamedTuple):
    """The usable keys that one address published, as points, and the seconds for which they are fresh."""

    points: Mapping[str, Point]
    fresh_for: float = FRESH

    def less(self, smaller: Document) -> Document | Failure:
        """Return what this document has beyond `smaller`, which must be wholly in it, and unchanged."""
        if any(self.points.get(kid) != point for kid, point in smaller.points.items()):
            return Failure(ErrorCode.SERVER_ERROR, "two key sets that do not fit each other")
        rest = {kid: point for kid, point in self.points.items() if kid not in smaller.points}
        return Document(rest, min(self.fresh_for, smaller.fresh_for))

    def keys(self, held: Keys) -> Keys:
        """Return the keys; those that `held` has already are the same objects."""
        keys: dict[str, Key] = {}
        for kid, point in self.points.items():
            known = held.get(kid)
            public = known.public if known and known.point == point else _import(point)
            if public is not None:
                keys[kid] = known if known and known.point == point else Key(point, public)
        return keys


def call(url: str, user_type: UserType, *, past_caches: bool) -> Call:
    """Return the call for the smallest document that holds the keys of `user_type`."""
    headers = {"accept": "application/json"} | ({"cache-control": "no-cache"} if past_caches else {})
    return Call("GET", url + _QUERIES[user_type], headers, max_bytes=MAX_BYTES)


def read(answer: Answer, clocks: Clocks) -> Document | Failure:
    """Return the document in `answer`: a 200 with a JSON object that holds a key of the right form."""
    if not isinstance(answer, Reply):
        return Failure(ErrorCode.SERVER_ERROR, str(answer))
    status = answer.meant_status
    if status != 200:
        code = ErrorCode.MISCONFIGURED if status in (401, 404) else ErrorCode.SERVER_ERROR
        return Failure(code, f"status {status}", answer.retry_after(clocks.wall))
    try:
        points = _points(json.loads(answer.body.decode("utf-8"))["keys"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return Failure(ErrorCode.SERVER_ERROR, "an answer that is no JWK Set")
    if not points:
        return Failure(ErrorCode.SERVER_ERROR, "a JWK Set without a usable key")
    return Document(points, _fresh_for(answer.headers.get("cache-control", "")))


def is_unsupported(answer: Answer) -> bool:
    """Say whether a server is too old to know the query parameter that it was asked with."""
    return isinstance(answer, Reply) and answer.meant_status == 400


def _points(published: list[Any]) -> dict[str, Point]:
    """Return the usable keys by id. An id that names two different keys names none."""
    if not isinstance(published, list):
        raise TypeError("keys is no list")
    found: dict[str, set[Point]] = {}
    for jwk in published:
        if isinstance(jwk, dict) and (point := _point(jwk)) is not None:
            found.setdefault(jwk["kid"], set()).add(point)
    return {kid: points.pop() for kid, points in found.items() if len(points) == 1}


def _point(jwk: Mapping[str, Any]) -> Point | None:
    """Return the coordinates of a public ES256 key with an id; None for any other JWK (RFC 7517 section 5)."""
    kid, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    usable = (
        jwk.get("kty") == "EC"
        and jwk.get("crv") == "P-256"
        and jwk.get("alg", "ES256") == "ES256"
        and jwk.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and "d" not in jwk
        and isinstance(kid, str)
        and 0 < len(kid) <= 128
    )
    if not usable:
        return None
    x, y = _coordinate(jwk.get("x")), _coordinate(jwk.get("y"))
    return (x, y) if x and y else None


def _coordinate(value: object) -> bytes | None:
    """Return the 32 octets of a coordinate, with the leading zeros that Stack Auth leaves out."""
    if not isinstance(value, str) or not _BASE64URL.fullmatch(value):
        return None
    try:
        octets = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except binascii.Error:
        return None
    return octets.rjust(32, b"\0") if len(octets) <= 32 else None


def _import(point: Point) -> EllipticCurvePublicKey | None:
    x, y = (base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in point)
    try:
        key = ES256.from_jwk({"kty": "EC", "crv": "P-256", "x": x, "y": y})
    except (PyJWTError, ValueError):
        return None  # not a point of the curve
    return key if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1) else None


def _fresh_for(cache_control: str) -> float:
    """Return how long a document is fresh: ``Cache-Control`` may shorten it to a minute, never lengthen it."""
    if re.search(r"\bno-(?:store|cache)\b", cache_control, re.IGNORECASE):
        return MIN_FRESH_FOR
    max_age = re.search(r"\bmax-age=(\d{1,9})\b", cache_control, re.IGNORECASE)
    return min(FRESH, max(MIN_FRESH_FOR, float(max_age[1]))) if max_age else FRESH


_BASE64URL = re.compile(r"[A-Za-z0-9_-]{1,64}")
