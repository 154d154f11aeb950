"""The vectors of C2SP/wycheproof, at the ECDSA primitive and as signatures of whole tokens."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from stackauth_middleware import RefusedError, StackAuthConfig, Verifier
from stackauth_middleware._core.key_sets import Document, Failure, read
from stackauth_middleware._core.records import Clocks
from stackauth_middleware._core.tokens import ES256, parse_jws
from stackauth_middleware._core.upstream import Reply
from tests.security.corpus import HEADER, SIGNER, claims
from tests.security.issuer import issuer_in_place
from tests.security.p256 import recover
from tests.unit.core.helpers import NORMAL, PROJECT, b64url, reply


def vectors(root: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((root / name).read_bytes())
    return loaded


def groups(root: Path, name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(group, test) for group in vectors(root, name)["testGroups"] for test in group["tests"]]


def holds(message: bytes, key: Any, signature: bytes) -> bool:
    return len(signature) == 64 and ES256.verify(message, key, signature)


def test_raw_vectors_verify_as_labelled(wycheproof: Path) -> None:
    """B14: 262 raw r||s vectors, each exactly as labelled."""
    results: Counter[tuple[str, bool]] = Counter()
    for group, test in groups(wycheproof, "ecdsa_secp256r1_sha256_p1363_test.json"):
        key = load_der_public_key(
            bytes.fromhex(group["publicKey"] if isinstance(group["publicKey"], str) else group["publicKeyDer"])
        )
        outcome = holds(bytes.fromhex(test["msg"]), key, bytes.fromhex(test["sig"]))
        results[test["result"], outcome] += 1
    assert results == {("valid", True): 173, ("invalid", False): 89}


def test_der_vectors_are_refused(wycheproof: Path) -> None:
    """B2: DER is not r||s, whether its signature is valid or not."""
    count = 0
    for group, test in groups(wycheproof, "ecdsa_secp256r1_sha256_test.json"):
        key = load_der_public_key(bytes.fromhex(group["publicKeyDer"]))
        assert not holds(bytes.fromhex(test["msg"]), key, bytes.fromhex(test["sig"])), test["tcId"]
        count += 1
    assert count == 484


def wrapped(key: ec.EllipticCurvePublicKey, message: str, signature: bytes) -> str:
    """Return the outcome of verifying `signature` over `message` with the published `key`."""
    numbers = key.public_numbers()
    x, y = (b64url(each.to_bytes(32, "big")) for each in (numbers.x, numbers.y))
    document = {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": SIGNER.kid, "x": x, "y": y}]}
    with issuer_in_place() as issuer:
        issuer.answers[""] = reply(document)
        try:
            Verifier(StackAuthConfig(project_id=PROJECT)).verify(f"{message}.{b64url(signature)}")
        except RefusedError as error:
            return error.code.value
    return "accept"


def test_b14_raw_signatures_on_a_token_verify_only_under_their_key(wycheproof: Path) -> None:
    """B14: a signature verifies a token under the key recovered from it, and an impossible one under no key."""
    message = f"{b64url(HEADER)}.{b64url(json.dumps(claims(NORMAL)).encode())}"
    results: Counter[tuple[str, str]] = Counter()
    for group, test in groups(wycheproof, "ecdsa_secp256r1_sha256_p1363_test.json"):
        signature = bytes.fromhex(test["sig"])
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        implied = recover(message.encode(), r, s) if len(signature) == 64 else None
        own = load_der_public_key(bytes.fromhex(group["publicKeyDer"]))
        assert isinstance(own, ec.EllipticCurvePublicKey)
        outcome = wrapped(implied or own, message, signature)
        results["possible" if implied else "impossible", outcome] += 1
    assert set(results) == {("possible", "accept"), ("impossible", "invalid_token")}
    assert sum(results.values()) == 262
    assert results["possible", "accept"] > 170


def accepts_jws(token: str, key_set: dict[str, Any]) -> bool:
    """Return whether our JWS check, below the claims, accepts `token` under a published `key_set`."""
    document = read(Reply(200, {}, json.dumps(key_set).encode()), Clocks(0, 0))
    if isinstance(document, Failure):
        return False
    assert isinstance(document, Document)
    try:
        kid, _, signing_input, signature = parse_jws(token)
    except RefusedError:
        return False
    keys = document.keys({})
    return kid in keys and ES256.verify(signing_input, keys[kid].public, signature)


def test_jws_vectors_are_verified_as_labelled(wycheproof: Path) -> None:
    """Nothing that is labelled invalid passes, and nothing of group 21, which is symmetric and mislabelled in part.

    Of what is valid, all that is ES256 with a key id passes.
    """
    counts: Counter[str] = Counter()
    for group, test in groups(wycheproof, "json_web_signature_test.json"):
        key = group.get("public") or {}
        token = test["jws"] if isinstance(test["jws"], str) else json.dumps(test["jws"])
        accepted = accepts_jws(token, {"keys": [key]})
        if test["result"] == "invalid":
            assert not accepted, test
        counts[f"{test['result']}-{'accepted' if accepted else 'refused'}"] += 1
        if test["result"] == "valid" and key.get("alg") == "ES256" and '"kid"' in str(_header(token)):
            assert accepted, test
    assert counts["valid-accepted"] >= 2
    assert sum(counts.values()) == 401


def _header(token: str) -> bytes:
    part = token.partition(".")[0]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_no_jwk_vector_makes_an_invalid_jws_pass(wycheproof: Path) -> None:
    """No key set of the JWK groups makes an invalid token pass."""
    count = 0
    for group, test in groups(wycheproof, "json_web_key_test.json"):
        key_set = group.get("public") or group.get("private") or {}
        key_set = key_set if "keys" in key_set else {"keys": [key_set]}
        accepted = accepts_jws(test["jws"], key_set) if isinstance(test.get("jws"), str) else False
        assert not (accepted and test["result"] == "invalid"), test
        count += 1
    assert count == 26
