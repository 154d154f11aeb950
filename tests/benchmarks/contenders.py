"""Who is measured: the peers, each as its own documentation has it, and what they stand on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from jwt import PyJWKClient

from .material import ECDSA, PROJECT, Site, taken_apart, tampered

TENANT = "https://tenant.example.com/"
"""The issuer for those who insist on https."""


class Peer(NamedTuple):
    """A way to verify a token.

    Attributes:
        name: as the table has it.
        verify: takes what `prepare` makes, and raises for a bad one.
        prepare: makes, ahead of the timing, what `verify` takes out of a token.
        token: makes another good token.
    """

    name: str
    verify: Callable[[Any], object]
    token: Callable[[], str]
    prepare: Callable[[str], Any] = str

    def prove(self) -> None:
        """Raise unless this lets a good token in and keeps a tampered one out."""
        good = self.token()
        self.verify(self.prepare(good))
        try:
            outcome = self.verify(self.prepare(tampered(good)))
        except Exception:
            return
        raise AssertionError(f"{self.name} accepts a tampered token: {outcome!r}")


def done(coroutine: Any) -> Any:
    """Return what a coroutine comes to that has nothing to wait for, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def bare_ecdsa(site: Site) -> Peer:
    def verify(parts: tuple[bytes, bytes]) -> None:
        key.verify(*parts, ECDSA)

    key = site.key
    return Peer("cryptography, bare ECDSA verify", verify, site.token, taken_apart)


def pyjwt(site: Site) -> Peer:
    key, issuer = site.key, site.issuer

    def verify(token: str) -> Any:
        return jwt.decode(token, key, algorithms=["ES256"], audience=PROJECT, issuer=issuer)

    return Peer("PyJWT decode, key at hand", verify, site.token)


class Snippet:
    """What the documentation of Stack Auth has a Python service do, as it stands there."""

    def __init__(self, jwks_url: str) -> None:
        self.jwks_client = PyJWKClient(jwks_url)

    def verify(self, access_token: str) -> dict[str, Any] | None:
        try:
            signing_key = self.jwks_client.get_signing_key_from_jwt(access_token)
            payload = jwt.decode(access_token, signing_key.key, algorithms=["ES256"], audience=PROJECT)
        except Exception:
            return None
        return {"user_id": payload["sub"], "is_anonymous": payload.get("role") == "anon"}

    def required(self, access_token: str) -> dict[str, Any]:
        user = self.verify(access_token)
        if not user:
            raise PermissionError("Unauthorized")
        return user


def snippet(site: Site) -> Peer:
    return Peer("documented snippet", Snippet(site.jwks_url).required, site.token)


def joserfc(site: Site) -> Peer:
    from joserfc import jwk
    from joserfc import jwt as jose

    key = jwk.ECKey.import_key(site.jwk)
    registry = jose.JWTClaimsRegistry(
        iss={"essential": True, "value": site.issuer}, aud={"essential": True, "value": PROJECT}
    )

    def verify(token: str) -> Any:
        decoded = jose.decode(token, key, algorithms=["ES256"])
        registry.validate(decoded.claims)
        return decoded.claims

    return Peer("joserfc decode and validate", verify, site.token)


def authlib(site: Site) -> Peer:
    with _no_warnings():  # deprecated in favour of joserfc, and still what many use
        from authlib.jose import JsonWebKey, JsonWebToken

    key = JsonWebKey.import_key(site.jwk)
    decoder = JsonWebToken(["ES256"])
    options = {"iss": {"essential": True, "value": site.issuer}, "aud": {"essential": True, "value": PROJECT}}

    def verify(token: str) -> Any:
        claims = decoder.decode(token, key, claims_options=options)
        claims.validate()
        return claims

    return Peer("Authlib (authlib.jose)", verify, site.token)


def python_jose(site: Site) -> Peer:
    from jose import jwk
    from jose import jwt as jose

    key, issuer = jwk.construct(site.jwk), site.issuer

    def verify(token: str) -> Any:
        return jose.decode(token, key, algorithms=["ES256"], audience=PROJECT, issuer=issuer)

    return Peer("python-jose", verify, site.token)


def bare_rsa(site: Site) -> Peer:
    key, scheme, digest = site.rsa.key, padding.PKCS1v15(), hashes.SHA256()

    def prepare(token: str) -> tuple[bytes, bytes]:
        signed, _, signature = token.rpartition(".")
        return jwt.utils.base64url_decode(signature), signed.encode()

    def verify(parts: tuple[bytes, bytes]) -> None:
        key.verify(*parts, scheme, digest)

    return Peer("RS256: cryptography, bare RSA verify", verify, lambda: site.rsa.token(TENANT), prepare)


def clerk(site: Site) -> Peer:
    from clerk_backend_api.security.types import VerifyTokenOptions
    from clerk_backend_api.security.verifytoken import verify_token

    options = VerifyTokenOptions(audience=PROJECT, secret_key="sk_test_1", api_url=site.rsa.url)
    return Peer("RS256: clerk-backend-api", lambda token: verify_token(token, options), lambda: site.rsa.token(TENANT))


def auth0(site: Site) -> Peer:
    with _no_warnings():
        from auth0_api_python import ApiClient, ApiClientOptions

    documents = {"jwks.json": {"keys": [site.rsa.jwk]}}

    class Fetched:
        def __init__(self, body: Any) -> None:
            self.headers: dict[str, str] = {}
            self._body = json.dumps(body)

        def raise_for_status(self) -> None: ...

        def json(self) -> Any:
            return json.loads(self._body)

    async def fetch(url: str) -> Any:
        known = {"issuer": TENANT, "jwks_uri": f"{TENANT}.well-known/jwks.json"}
        return Fetched(documents.get(url.rpartition("/")[2], known))

    client = ApiClient(ApiClientOptions(domain="tenant.example.com", audience=PROJECT, custom_fetch=fetch))
    return Peer(
        "RS256: auth0-api-python",
        lambda token: done(client.verify_access_token(token)),
        lambda: site.rsa.token(TENANT),
    )


@contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        with suppress(ImportError):
            import_module("authlib.deprecate")  # which switches its own warnings on
        warnings.simplefilter("ignore")
        yield


PEERS: dict[str, Callable[[Site], Peer]] = {
    "cryptography": bare_ecdsa,
    "PyJWT": pyjwt,
    "joserfc": joserfc,
    "Authlib": authlib,
    "python-jose": python_jose,
    "requests": snippet,
}
RSA_PEERS: dict[str, Callable[[Site], Peer]] = {
    "cryptography": bare_rsa,
    "clerk-backend-api": clerk,
    "auth0-api-python": auth0,
}


def present(peers: dict[str, Callable[[Site], Peer]], site: Site, notes: list[str]) -> list[Peer]:
    """Return the peers that are installed, each shown to verify; of the others `notes` get a word."""
    found: list[Peer] = []
    for distribution, make in peers.items():
        try:
            version(distribution)
        except PackageNotFoundError:
            notes.append(f"{distribution} is not installed here, and left out.")
            continue
        peer = make(site)
        peer.prove()
        found.append(peer)
    return found
