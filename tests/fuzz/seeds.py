"""What each target starts from, made here; and what a fuzzer found before, read from ``findings/``."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.unit.core.helpers import NORMAL, SIGNERS, USER_ID, document

from .targets import HONEST, SEPARATOR, TARGETS, TOKENS

FINDINGS = Path(__file__).parent / "findings"
HEADER = json.dumps({"alg": "ES256", "kid": SIGNERS[NORMAL][0].kid}).encode()
PLAIN = json.dumps(HONEST).encode()
WRAPPED = base64.b64encode(json.dumps({"accessToken": TOKENS[b"$N"], "refreshToken": "r"}).encode())


def request(*parts: bytes) -> bytes:
    return SEPARATOR.join(parts)


SEEDS: dict[str, list[bytes]] = {
    "token": [b"", b"a.b.c", b"!" + HEADER + b"\n" + PLAIN, *(text.encode() for text in TOKENS.values())],
    "extra_claims": [b"{}", b'{"scope": ["a", {"b": 1.5}], "azp": null, "nonce": "\\ud800"}'],
    "token_sources": [
        request(TOKENS[b"$N"].encode()),
        request(b"", b"Bearer stackauth_" + WRAPPED),
        request(b"", b"", b'{"accessToken": "a.b.c"}'),
        request(b"", b"", b"", b"chat, stackauth, a.b.c"),
        request(b"a,b", b"bearer  x.y.z", b"[", b"stackauth"),
    ],
    "middlewares": [
        request(b"GET", b"/", b"x-stack-access-token", b"$N"),
        request(b"GET", b"/", b"Authorization", b"Bearer $N"),
        request(b"GET", b"/", b"authorization", b"Bearer stackauth_" + WRAPPED),
        request(b"HEAD", b"/a//b", b"x-hexclave-auth", b'{"accessToken": "$R"}', b"origin", b"http://a"),
        request(b"GET", b"/optional/%2e%2e/x", b"x-stack-access-token", b"$S"),
        request(b"POST", b"/public/..\xff/x", b"x_stack_access_token", b"$A"),
        request(b"OPTIONS", b"/", b"origin", b"a", b"access-control-request-method", b"GET"),
        request(b"GET", b"/optional/", b"sec-websocket-protocol", b"stackauth, $N"),
        request(b"post", b"/post", b"x-stack-access-token", b"$X", b"x-stack-access-token", b"$X"),
    ],
    "key_set": [
        b"public, max-age=120\n" + json.dumps(document(NORMAL)).encode(),
        b'no-store\n{"keys": [{"kty": "EC", "crv": "P-256", "kid": "a", "x": "AQ", "y": "Ag"}]}',
        b'\n{"keys": {}}',
    ],
    "profile": [
        b"200\n\n" + json.dumps({"id": USER_ID, "is_anonymous": False, "primary_email": "a@b"}).encode(),
        b"200\n\n" + json.dumps({"id": "another"}).encode(),
        b'401\n\n{"code": "ACCESS_TOKEN_EXPIRED"}',
        b'403\n\n{"code": "RESTRICTED_USER_NOT_ALLOWED", "details": {"restricted_reason": {"type": "x"}}}',
        b"429\n999999999999\nslow down",
        b"503\nMon, 31 Feb 99 99:99:99 +9999\n",
    ],
}
WORDS = ("$N", "$R", "$A", "$S", "$X", "stackauth_", "accessToken", "max-age=", "P-256", "restricted_reason", "\\ud800")
"""What a fuzzer would be long to find by itself."""


def of(target: str) -> list[bytes]:
    """Return the seeds and the past findings of `target`."""
    assert target in TARGETS
    return [*SEEDS[target], *(path.read_bytes() for path in sorted(FINDINGS.glob(f"{target}-*")))]
