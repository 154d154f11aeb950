"""JWK Sets: how the keys of one user type are read from documents, and what to do at each age of a key set.

Stack Auth publishes the keys at one address (docs/stack-auth.md section 4). Without a query, the document holds the
keys of normal users; ``include_restricted`` adds those of restricted users, and ``include_anonymous`` those of both
other types. A key signs tokens of its own user type only, so the keys of a type are those of its document
without those of the next smaller one. Coordinates are published without leading zero octets, so about one project
in 130 has a short one.

Freshness follows RFC 5861; `ACTIONS` is the complete table:

- for `FRESH_FOR` seconds after a fetch the keys are used without another;
- then they are stale: used while one caller refreshes them (section 3, stale-while-revalidate);
- while refreshing fails, they are used until `STALE_IF_ERROR` seconds after the fetch (section 4, stale-if-error);
- a fetch starts at least `MIN_FETCH_INTERVAL` seconds after the last one of this set ended, whether it failed or not.
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
from .clocks import NEVER, elapsed
from .records import Clocks
from .tokens import ES256
from .upstream import Answer, Call, Failure, Reply
from .users import UserType

MAX_BYTES = 64 * 1024
"""Limit in bytes on a document, which also bounds the number of its keys."""
FRESH_FOR = 600.0
"""Seconds after a fetch for which a key set is fresh; ``Cache-Control`` can only shorten them."""
MIN_FRESH_FOR = 60.0
"""Shortest time in seconds to which ``Cache-Control`` can reduce `FRESH_FOR`."""
STALE_IF_ERROR = 24 * 3600.0
"""Seconds after a fetch for which a key set is used while refreshing it fails (RFC 5861 section 4)."""
MIN_FETCH_INTERVAL = 10.0
"""Seconds between two fetches of the same key set, failed ones included; a longer ``Retry-After`` is honoured."""

SMALLER = {UserType.RESTRICTED: UserType.NORMAL, UserType.ANONYMOUS: UserType.RESTRICTED}
"""For each user type the one whose document is the next smaller, if any."""

_QUERIES = {
    UserType.NORMAL: "",
    UserType.RESTRICTED: "?include_restricted=true",
    UserType.ANONYMOUS: "?include_anonymous=true",
}

Point: TypeAlias = tuple[bytes, bytes]


class Key(NamedTuple):
    """A public key and its coordinates: the same object for as long as the key is published."""

    point: Point
    public: EllipticCurvePublicKey


Keys: TypeAlias = Mapping[str, Key]


class Action(Enum):
    """The action for a token, by its key id.

    `REFRESH`: the key set has to be fetched before the token can be verified. `UNKNOWN`: the token is rejected, or
    cannot be verified if the last fetch failed. `UNAVAILABLE`: it cannot be verified. See `key_set_cache.no_key`.
    """

    USE = 1
    USE_AND_REFRESH = 2
    REFRESH = 3
    UNKNOWN = 4
    UNAVAILABLE = 5

    def is_ready(self, *, defer_refresh: bool) -> bool:
        """Return whether the key can be used at once, without a fetch before the app runs."""
        return self is Action.USE or (defer_refresh and self is Action.USE_AND_REFRESH)


class Age(Enum):
    """The age of a key set. `NONE`: there is no key set, or it is older than `STALE_IF_ERROR`."""

    NONE = 1
    STALE = 2
    FRESH = 3

    __hash__ = object.__hash__  # members are singletons, and Enum's own hash is slow Python code


ACTIONS: Mapping[tuple[Age, bool, bool], Action] = {
    # (age, whether the set has the key id, whether a fetch may start now)
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
"""The action for every case; a test checks that no case is missing."""


class KeySet(NamedTuple):
    """The keys of one user type and the state of fetching them. Periods end on whichever clock advances further.

    Attributes:
        keys: the keys by id.
        fetched_at: when the keys arrived.
        fresh_for: seconds after `fetched_at` for which they are fresh.
        asked_at: when the last fetch ended, successful or not.
        fetch_interval: seconds after `asked_at` before the next fetch may start.
        failure: the error code of the last fetch, or None if it succeeded.
        as_of: when the fetch of `keys` started; keys whose fetch started earlier never replace them.
    """

    keys: Keys = MappingProxyType({})
    fetched_at: Clocks = NEVER
    fresh_for: float = 0.0
    asked_at: Clocks = NEVER
    fetch_interval: float = MIN_FETCH_INTERVAL
    failure: ErrorCode | None = None
    as_of: Clocks = NEVER

    def is_fresh(self, now: Clocks) -> bool:
        """Return whether the keys are fresh."""
        since = self.fetched_at  # without `elapsed`, for speed: this is called for every request
        return now.mono - since.mono < self.fresh_for and now.wall - since.wall < self.fresh_for

    def age(self, now: Clocks) -> Age:
        """Return the age of the keys."""
        since = elapsed(self.fetched_at, now)
        return Age.FRESH if self.is_fresh(now) else Age.STALE if since < STALE_IF_ERROR else Age.NONE

    def may_refresh(self, now: Clocks) -> bool:
        """Return whether a fetch may start now."""
        return elapsed(self.asked_at, now) >= self.fetch_interval

    def action(self, kid: str, now: Clocks) -> Action:
        """Return the action for a token signed by the key `kid`."""
        return ACTIONS[self.age(now), kid in self.keys, self.may_refresh(now)]

    def retry_after(self, now: Clocks) -> int:
        """Return the whole seconds until the next fetch may start, at least 1."""
        left = self.fetch_interval - elapsed(self.asked_at, now)
        return max(1, math.ceil(left)) if math.isfinite(left) else 1

    def filled(self, keys: Keys, fresh_for: float, as_of: Clocks, now: Clocks) -> KeySet:
        """Return the key set after a fetch that started at `as_of` and returned `keys`. Keys of a later fetch stay."""
        if as_of.mono < self.as_of.mono <= now.mono:  # else the clock was set back, as after a test that froze it
            return self
        return KeySet(MappingProxyType(dict(keys)), now, fresh_for, now, as_of=as_of)

    def failed(self, failure: Failure, as_of: Clocks, now: Clocks) -> KeySet:
        """Return the key set after a fetch that started at `as_of` and failed. The keys stay."""
        if as_of.mono < self.as_of.mono <= now.mono:  # else the clock was set back, as after a test that froze it
            return self
        return self._replace(
            asked_at=now, fetch_interval=max(MIN_FETCH_INTERVAL, failure.retry_after or 0), failure=failure.code
        )


class Document(NamedTuple):
    """The usable keys of one document, as points by key id, and the seconds for which they are fresh."""

    points: Mapping[str, Point]
    fresh_for: float = FRESH_FOR

    def less(self, smaller: Document) -> Document | Failure:
        """Return this document without the keys of `smaller`; a Failure if it does not hold all of them unchanged."""
        if any(self.points.get(kid) != point for kid, point in smaller.points.items()):
            return Failure(ErrorCode.SERVER_ERROR, "two key sets that do not fit each other")
        rest = {kid: point for kid, point in self.points.items() if kid not in smaller.points}
        return Document(rest, min(self.fresh_for, smaller.fresh_for))

    def keys(self, held: Keys) -> Keys:
        """Return the keys by id. Those that `held` has already are the same objects."""
        keys: dict[str, Key] = {}
        for kid, point in self.points.items():
            known = held.get(kid)
            if known is not None and known.point == point:
                keys[kid] = known
            elif (public := _import(point)) is not None:
                keys[kid] = Key(point, public)
        return keys


def call(url: str, user_type: UserType, *, past_caches: bool) -> Call:
    """Return the call for the smallest document that holds the keys of `user_type`.

    Args:
        url: of the key sets, without a query.
        user_type: the user type.
        past_caches: whether caches on the way must revalidate (RFC 9111 section 5.2.1.4).
    """
    headers = {"accept": "application/json"} | ({"cache-control": "no-cache"} if past_caches else {})
    return Call("GET", url + _QUERIES[user_type], headers, max_bytes=MAX_BYTES)


def read(answer: Answer, clocks: Clocks) -> Document | Failure:
    """Read the document in `answer`, which must be a 200 with at least one usable key."""
    if not isinstance(answer, Reply):
        return Failure(ErrorCode.SERVER_ERROR, str(answer))
    status = answer.meant_status
    if status != 200:
        if status in (401, 404):
            code, hint = ErrorCode.MISCONFIGURED, " (check project_id and api_url)"
        else:
            code, hint = ErrorCode.SERVER_ERROR, ""
        return Failure(code, f"status {status}{hint}", answer.retry_after(clocks.wall))
    try:
        points = _points(json.loads(answer.body.decode("utf-8"))["keys"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return Failure(ErrorCode.SERVER_ERROR, "an answer that is no JWK Set")
    if not points:
        return Failure(ErrorCode.SERVER_ERROR, "a JWK Set without a usable key")
    return Document(points, _fresh_for(answer.headers.get("cache-control", "")))


def is_unsupported(answer: Answer) -> bool:
    """Return whether `answer` is that of a server too old to know the query parameter."""
    return isinstance(answer, Reply) and answer.meant_status == 400


def _points(published: list[Any]) -> dict[str, Point]:
    """Return the usable keys by id. Ids published with conflicting keys are dropped."""
    if not isinstance(published, list):
        raise TypeError("keys is not a list")
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
    """Return the 32 octets of a coordinate (RFC 7518 section 6.2.1.2), with the leading zeros restored."""
    if not isinstance(value, str) or not _BASE64URL.fullmatch(value):
        return None
    try:
        decoded = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except binascii.Error:
        return None
    return decoded.rjust(32, b"\0") if len(decoded) <= 32 else None


def _import(point: Point) -> EllipticCurvePublicKey | None:
    x, y = (base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in point)
    try:
        key = ES256.from_jwk({"kty": "EC", "crv": "P-256", "x": x, "y": y})
    except (PyJWTError, ValueError):
        return None  # not a point on the curve
    return key if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1) else None


def _fresh_for(cache_control: str) -> float:
    """Return the seconds for which a document is fresh, between `MIN_FRESH_FOR` and `FRESH_FOR`."""
    if re.search(r"\bno-(?:store|cache)\b", cache_control, re.IGNORECASE):
        return MIN_FRESH_FOR
    max_age = re.search(r"\bmax-age=(\d{1,9})\b", cache_control, re.IGNORECASE)
    return min(FRESH_FOR, max(MIN_FRESH_FOR, float(max_age[1]))) if max_age else FRESH_FOR


_BASE64URL = re.compile(r"[A-Za-z0-9_-]{1,64}")
