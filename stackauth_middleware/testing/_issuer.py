"""Signing keys of projects, the key sets that they publish, and signed tokens.

As in the real service (docs/stack-auth.md sections 3 and 4), each user type of a project has two P-256 keys: the
first signs, the second is for the next rotation. The published members are ``kty, alg, crv, x, y, kid``; short
coordinates are not padded.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .._core.users import UserType

SigningKey: TypeAlias = Literal["first", "second", "foreign", "normal", "restricted", "anonymous"]
"""The key that signs: the first or second of the token's user type, an unpublished one, or the first of a type."""

AUDIENCE_SUFFIXES: Final = {UserType.NORMAL: "", UserType.RESTRICTED: ":restricted", UserType.ANONYMOUS: ":anon"}
ISSUER_PATHS: Final = {
    UserType.NORMAL: "/api/v1/projects/",
    UserType.RESTRICTED: "/api/v1/projects-restricted-users/",
    UserType.ANONYMOUS: "/api/v1/projects-anonymous-users/",
}

_FULL_WIDTH = 1 << 248
"""The smallest coordinate of 32 bytes."""


class Key(NamedTuple):
    """A private key and its key id."""

    kid: str
    private: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Key({self.kid!r})"

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as published, with unpadded coordinates."""
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "EC",
            "crv": "P-256",
            "alg": "ES256",
            "kid": self.kid,
            "x": _b64url(_shortest(numbers.x)),
            "y": _b64url(_shortest(numbers.y)),
        }


def new_key(*, short: bool = False) -> Key:
    """Generate a key with a new id of 12 base64url characters.

    Args:
        short: whether x or y has a leading zero byte, which takes about 130 attempts, a few milliseconds. If False,
            neither has, so that tests do not depend on chance.
    """
    while True:
        private = ec.generate_private_key(ec.SECP256R1())
        numbers = private.public_key().public_numbers()
        if (min(numbers.x, numbers.y) < _FULL_WIDTH) is short:
            return Key(secrets.token_urlsafe(9), private)


def compact(key: Key, header: Mapping[str, Any] | bytes, payload: Mapping[str, Any] | bytes) -> str:
    """Return a JWS in compact form, signed with ES256 even if the header says otherwise.

    Args:
        key: the signing key.
        header: the members of the header, or its bytes.
        payload: likewise.
    """
    parts = [_b64url(part if isinstance(part, bytes) else _json(part)) for part in (header, payload)]
    signing_input = ".".join(parts)
    r, s = decode_dss_signature(key.private.sign(signing_input.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signing_input}.{_b64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class Issuer:
    """The keys of all projects, generated at first use. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[tuple[str, UserType], tuple[Key, ...]] = {}
        self._short: set[str] = set()
        self._foreign = new_key()

    def with_short_coordinates(self, project_id: str) -> None:
        """Replace the keys for normal users of `project_id` by keys with a coordinate of 31 bytes.

        Later rotations do so too.
        """
        with self._lock:
            self._short.add(project_id)
            self._keys[project_id, UserType.NORMAL] = self._fresh(project_id, UserType.NORMAL)

    def keys(self, project_id: str, user_type: UserType) -> tuple[Key, ...]:
        """Return the published keys of one user type. The first signs."""
        with self._lock:
            return self._held(project_id, user_type)

    def key(self, project_id: str, user_type: UserType, choice: SigningKey) -> Key:
        """Return the key that `choice` names for a token of `user_type`.

        The foreign key has the id of the first key, so that only the signature is wrong.
        """
        first, second = self.keys(project_id, user_type)[:2]
        if choice == "first":
            return first
        if choice == "second":
            return second
        if choice == "foreign":
            return Key(first.kid, self._foreign.private)
        return self.keys(project_id, UserType(choice))[0]

    def key_set(self, project_id: str, *, restricted: bool = False, anonymous: bool = False) -> dict[str, Any]:
        """Return the JWKS document: the keys for normal users, then restricted, then anonymous ones.

        Args:
            project_id: the project.
            restricted: add the keys for restricted users.
            anonymous: add the keys for restricted and anonymous users.
        """
        types = [UserType.NORMAL]
        if restricted or anonymous:
            types.append(UserType.RESTRICTED)
        if anonymous:
            types.append(UserType.ANONYMOUS)
        return {"keys": [key.jwk for each in types for key in self.keys(project_id, each)]}

    def rotate(self, project_id: str | None = None, *, keep_old: bool = False) -> None:
        """Replace the keys of `project_id`, or of all projects that have keys.

        Args:
            project_id: the project; None for all.
            keep_old: rotate as Stack Auth does: the second key signs from now on, a new second key is added, and
                the previous signing key stays published until the next rotation. If False, all keys are replaced
                and old tokens fail.
        """
        with self._lock:
            selected = {held for held in self._keys if project_id in (None, held[0])}
            if project_id is not None:
                selected |= {(project_id, each) for each in UserType}
            for of_project, user_type in selected:
                old = self._held(of_project, user_type)
                fresh = self._fresh(of_project, user_type)
                self._keys[of_project, user_type] = (old[1], fresh[1], old[0]) if keep_old else fresh

    def _held(self, project_id: str, user_type: UserType) -> tuple[Key, ...]:
        if (project_id, user_type) not in self._keys:
            self._keys[project_id, user_type] = self._fresh(project_id, user_type)
        return self._keys[project_id, user_type]

    def _fresh(self, project_id: str, user_type: UserType) -> tuple[Key, ...]:
        short = project_id in self._short and user_type is UserType.NORMAL
        return new_key(short=short), new_key(short=short)


def origin(url: str) -> str:
    """Return scheme, host and port as JavaScript's ``new URL(url).origin`` does, without a default port."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, default) else "")


def _shortest(coordinate: int) -> bytes:
    return coordinate.to_bytes((coordinate.bit_length() + 7) // 8, "big")


def _json(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
