"""What all benchmarks work on: a project, its keys behind a URL, and tokens, good ones and bad ones."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from stackauth_middleware import StackAuthConfig, UserType
from stackauth_middleware.testing import LocalStackAuth

from .upstream import Upstream

PROJECT = "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063"
SECRET = "ssk_" + "s" * 45
USERS_ME = "/api/v1/users/me"
DAY = 86_400.0


class Site:
    """A Stack Auth that answers over the loopback, and what a service and its peers need of it.

    Attributes:
        local: signs tokens.
        upstream: serves the keys.
        key: the public key that all good tokens are signed for.
        issuer: the issuer of normal users.
        jwks_url: where the keys are.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.local = LocalStackAuth(PROJECT, api_url=upstream.url, secret_server_key=SECRET)
        target = f"/api/v1/projects/{PROJECT}/.well-known/jwks.json"
        self.jwks_url = upstream.url + target
        self.key_set = self.local.issuer.key_set(PROJECT)
        upstream.answer(target, self.key_set)
        signer = self.local.issuer.key(PROJECT, UserType.NORMAL, "first")
        self.kid = signer.kid
        self.key = signer.private.public_key()
        self.issuer = f"{upstream.url}/api/v1/projects/{PROJECT}"
        self.rsa = Rsa(upstream)

    @property
    def jwk(self) -> dict[str, Any]:
        """The published form of the key."""
        return next(each for each in self.key_set["keys"] if each["kid"] == self.kid)

    def config(self, **settings: Any) -> StackAuthConfig:
        return StackAuthConfig(project_id=PROJECT, api_url=self.upstream.url, **settings)

    def token(self, **claims: Any) -> str:
        return self.local.token(**{"expires_in": DAY, **claims})

    def tokens(self, count: int) -> list[str]:
        """Return tokens of as many users."""
        return [self.token(sub=str(uuid.uuid4())) for _ in range(count)]

    def refused(self) -> dict[str, str]:
        """Return a token for each way in which a client's is refused."""
        return {
            "garbage": "garbage",
            "expired": self.token(expires_in=-60),
            "bad signature": tampered(self.token()),
            "unknown kid": self.token(kid="unknownkid01"),
        }

    def have_profile(self, token: str) -> None:
        """Have users/me answer to `token`."""
        headers = {
            "x-stack-access-type": "server",
            "x-stack-project-id": PROJECT,
            "x-stack-secret-server-key": SECRET,
            "x-stack-access-token": token,
        }
        answer = self.local.answer("GET", USERS_ME, headers)
        assert answer.status == 200, answer
        self.upstream.answer(USERS_ME, json.loads(answer.body), token)


class Rsa:
    """The same for peers that know RS256 alone: a key set of one such key, and tokens signed by it."""

    def __init__(self, upstream: Upstream) -> None:
        self.url = upstream.url
        self._private = rsa.generate_private_key(65537, 2048)
        self.key = self._private.public_key()
        numbers = self.key.public_numbers()
        n, e = (_b64url(number.to_bytes((number.bit_length() + 7) // 8, "big")) for number in (numbers.n, numbers.e))
        self.jwk = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "rsa-1", "n": n, "e": e}
        upstream.answer("/v1/jwks", {"keys": [self.jwk]})

    def token(self, issuer: str) -> str:
        now = int(time.time())
        header = {"alg": "RS256", "typ": "JWT", "kid": "rsa-1"}
        claims = {"sub": str(uuid.uuid4()), "aud": PROJECT, "iss": issuer, "iat": now - 60, "exp": now + int(DAY)}
        padded = {"name": "Jane Doe", "email": "jane@example.com", "sid": str(uuid.uuid4()), "role": "authenticated"}
        signed = ".".join(_b64url(json.dumps(part).encode()) for part in (header, {**claims, **padded}))
        return f"{signed}.{_b64url(self._private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def tampered(token: str) -> str:
    """Return `token` with other octets for a signature, of the right form."""
    signed, _, signature = token.rpartition(".")
    octets = bytearray(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
    octets[-1] ^= 1
    return f"{signed}.{_b64url(bytes(octets))}"


def taken_apart(token: str) -> tuple[bytes, bytes]:
    """Return the signature of an ES256 token, as cryptography wants it, and what it signs."""
    signed, _, signature = token.rpartition(".")
    octets = base64.urlsafe_b64decode(signature + "==")
    r, s = (int.from_bytes(half, "big") for half in (octets[:32], octets[32:]))
    return encode_dss_signature(r, s), signed.encode()


ECDSA = ec.ECDSA(hashes.SHA256())


@contextmanager
def site() -> Iterator[Site]:
    with Upstream() as upstream:
        yield Site(upstream)


def _b64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
