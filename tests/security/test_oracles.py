"""Our verification compared with PyJWT and joserfc: never more permissive than both."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt as jose
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry

from stackauth_middleware import RefusedError, StackAuthConfig, User, Verifier
from stackauth_middleware._core.tokens import check_signature, parse, user_of
from tests.security.corpus import HEADER, SIGNER, claims, raw, signed
from tests.security.issuer import issuer_in_place
from tests.unit.core.helpers import AUDIENCES, ISSUERS, NORMAL, PROJECT, SIGNERS, b64url, bounded

KEY = SIGNER.public
LENIENT = JWSRegistry(algorithms=["ES256"], strict_check_header=False)
"""RFC 7515 section 4 wants unknown header parameters to be ignored; joserfc alone refuses them."""
JOSE_KEY = ECKey.import_key(SIGNER.jwk())
NORMAL_ISSUERS = [issuer for issuer, kind in ISSUERS.items() if kind is NORMAL]


def ours(token: str) -> User | None:
    """Return the user of `token` of any user type, or None if it is refused."""
    try:
        parsed = parse(token, AUDIENCES, ISSUERS)
        key = next((each for each in SIGNERS[parsed.user_type] if each.kid == parsed.kid), None)
        if key is None:
            return None
        check_signature(parsed, key.public)
        return user_of(parsed, time.time(), 5)
    except RefusedError:
        return None


def pyjwt_accepts(token: str) -> bool:
    """Return whether PyJWT accepts `token`, with every check that it offers."""
    try:
        jwt.decode(
            token,
            KEY,
            algorithms=["ES256"],
            audience=PROJECT,
            issuer=NORMAL_ISSUERS,
            leeway=5,
            options={"require": ["exp", "sub", "aud", "iss"], "strict_aud": True, "verify_iat": False},
        )
    except (jwt.PyJWTError, ValueError, RecursionError):
        return False
    return True


def joserfc_accepts(token: str) -> bool:
    registry = jose.JWTClaimsRegistry(
        leeway=5,
        exp={"essential": True},
        sub={"essential": True},
        aud={"essential": True, "value": PROJECT},
        iss={"essential": True, "values": NORMAL_ISSUERS},
    )
    try:
        decoded = jose.decode(token, JOSE_KEY, algorithms=["ES256"], registry=LENIENT)
        registry.validate({name: value for name, value in decoded.claims.items() if name != "iat"})
    except (JoseError, ValueError, TypeError, RecursionError):
        return False
    return True


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
claim_names = st.sampled_from(sorted(claims())) | st.sampled_from(["nbf", "jti", "azp", "scope"])
header_names = st.sampled_from(["alg", "kid", "typ", "cty", "crit", "jwk", "b64", "zip", "enc", "x5c", "other"])


@given(st.dictionaries(claim_names, json_values, max_size=3), st.dictionaries(header_names, json_values, max_size=2))
@bounded
def test_what_we_accept_both_oracles_accept(changes: dict[str, Any], header: dict[str, Any]) -> None:
    """For any claims and header, correctly signed."""
    parameters = {"alg": "ES256", "kid": SIGNER.kid, **header}
    token = raw(json.dumps(parameters).encode(), json.dumps({**claims(), **changes}).encode())
    if ours(token) is not None:
        assert pyjwt_accepts(token)
        assert joserfc_accepts(token)


def test_oracles_accept_a_valid_token() -> None:
    token = signed()
    assert ours(token) is not None
    assert pyjwt_accepts(token)
    assert joserfc_accepts(token)


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 20))
@bounded
def test_payload_text_of_any_kind(noise: bytes, at: int, cut: int) -> None:
    """Random bytes are inserted into the payload, which is then signed."""
    text = json.dumps(claims()).encode()
    at %= len(text)
    token = raw(HEADER, text[:at] + noise + text[at + cut :])
    if ours(token) is not None:
        assert pyjwt_accepts(token)
        assert joserfc_accepts(token)


@given(st.text(max_size=300))
@bounded
def test_any_text_is_refused(text: str) -> None:
    assert ours(text) is None


def test_every_flipped_bit_is_refused() -> None:
    """B13: every single-bit flip of a token's characters is refused."""
    token = signed()
    flipped = 0
    for at, character in enumerate(token):
        for bit in range(7):
            changed = chr(ord(character) ^ 1 << bit)
            assert ours(token[:at] + changed + token[at + 1 :]) is None, (at, bit)
            flipped += 1
    assert flipped == 7 * len(token)


def test_every_flipped_signature_bit_is_refused_by_the_verifier() -> None:
    """The same with a verifier that has cached the valid token."""
    token = signed()
    with issuer_in_place():
        verifier = Verifier(StackAuthConfig(project_id=PROJECT))
        user = verifier.verify(token)
        message, _, part = token.rpartition(".")
        honest = int.from_bytes(jwt.utils.base64url_decode(part), "big")
        for bit in range(512):
            with pytest.raises(RefusedError) as caught:
                verifier.verify(f"{message}.{b64url((honest ^ 1 << bit).to_bytes(64, 'big'))}")
            assert caught.value.code.value == "invalid_token"
        assert verifier.verify(token) == user
