"""Hundreds of hostile tokens, one named case each, signed with the keys of an issuer made here.

A case names its threat of the threat list and the expected outcome: ``accept``,
``reject``, or ``either`` where no promise is made but that nothing breaks. The names of the families
follow the threat list: ``hdr`` header, ``sig`` signature, ``enc`` framing, ``pay`` payload text,
``exp``/``nbf``/``iat``/``aud``/``iss``/``sub`` claims, ``sta`` what only Stack Auth has, ``mat`` the
matrix of key, audience, issuer and flags, ``tok`` what is no token at all.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from stackauth_middleware import ErrorCode
from tests.unit.core import helpers
from tests.unit.core.helpers import (
    ANONYMOUS,
    LEFT_OUT,
    NORMAL,
    ORDER,
    OTHER_PROJECT,
    PATHS,
    PROJECT,
    RESTRICTED,
    SIGNERS,
    STRANGER,
    SUFFIXES,
    Signer,
    b64url,
    unb64url,
)

Expected = Literal["accept", "reject", "either"]
FIELD = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
"""The prime of P-256's field."""
SIGNER = SIGNERS[NORMAL][0]
SECRET_PART = "9z6t5zf9b565wry17v6whrbg7hbkhzb53fa4yz1mwz8j8"


@dataclass(frozen=True)
class Case:
    """A hostile token, or a valid but unusual one.

    Attributes:
        name: family and particular, unique.
        threat: the number in the threat list.
        token: what is presented.
        expected: what must become of it by default settings.
        code: the error code of a rejection.
        needs_key: whether a key has to be had before it can be refused.
    """

    name: str
    threat: str
    token: str
    expected: Expected = "reject"
    code: ErrorCode = ErrorCode.INVALID_TOKEN
    needs_key: bool = True


def claims(kind: Any = NORMAL, **changes: Any) -> dict[str, Any]:
    """Return valid claims as of now, with `changes`."""
    now = int(time.time())
    times = {"iat": now - 60, "exp": now + 86_400, "signed_up_at": now - 86_400}
    return helpers.claims(kind, **{**times, **changes})


def signed(kind: Any = NORMAL, *, signer: Signer = SIGNER, **changes: Any) -> str:
    return signer.token(claims(kind, **changes))


def raw(header: bytes, payload: bytes, signer: Signer = SIGNER) -> str:
    """Return a correctly signed token of any bytes."""
    return signer.compact(header, payload)


def with_signature(signature: bytes, token: str = "") -> str:
    return (token or signed()).rpartition(".")[0] + "." + b64url(signature)


def scalar(number: int) -> bytes:
    return number.to_bytes(32, "big")


HEADER = json.dumps({"alg": "ES256", "kid": SIGNER.kid}).encode()


def payload(**changes: Any) -> bytes:
    return json.dumps(claims(**changes)).encode()


def cases() -> Iterator[Case]:
    """Yield every case. Names are unique, held by a test."""
    yield from _honest()
    yield from _algorithms()
    yield from _header_keys()
    yield from _header_parameters()
    yield from _header_kids()
    yield from _header_text()
    yield from _signatures()
    yield from _framing()
    yield from _payload_text()
    yield from _times()
    yield from _audiences()
    yield from _issuers()
    yield from _subjects()
    yield from _stack()
    yield from _matrix()
    yield from _no_tokens()


def _honest() -> Iterator[Case]:
    def ok(name: str, token: str, threat: str = "C12") -> Case:
        return Case(f"ok-{name}", threat, token, "accept")

    yield ok("plain", signed())
    yield ok("second-key", signed(signer=SIGNERS[NORMAL][1]), "D8")
    for name, value in {
        "name-null": None,
        "name-4kb": "x" * 4000,
        "name-html": "<script>alert(1)</script>",
        "name-crlf": "a\r\nSet-Cookie: a=b",
        "name-nul": "a\0b",
        "name-emoji": "\U0001f600\u202e",
        "name-lone-surrogate": "\ud800",
        "name-json": '{"is_anonymous": true}',
    }.items():
        yield ok(name, signed(name=value))
    yield ok("email-null", signed(email=None))
    yield ok("unknown-claim", signed(something={"deep": [1, 2, {"x": None}]}))
    yield ok("key-order", SIGNER.token(dict(reversed(claims().items()))))
    yield ok("payload-spaces", raw(HEADER, json.dumps(claims(), indent=2).encode()))
    yield ok("typ-jwt", SIGNER.token(claims(), typ="JWT"))
    yield ok("iat-future-1s", signed(iat=int(time.time()) + 1), "C7")
    yield ok("iat-future-1h", signed(iat=int(time.time()) + 3600), "C7")
    yield ok("iat-missing", signed(iat=LEFT_OUT), "C7")
    yield ok("exp-fraction", signed(exp=int(time.time()) + 86_400.5), "C5")
    yield ok("nbf-past", signed(nbf=int(time.time()) - 10), "C6")
    yield ok("legacy-branch", signed(branch_id=LEFT_OUT, branchId="main"), "D6")
    yield ok("legacy-no-flags", signed(is_restricted=LEFT_OUT, restricted_reason=LEFT_OUT), "D6")
    yield ok("legacy-no-session", signed(refresh_token_id=LEFT_OUT), "D6")
    yield ok("hexclave-issuer", signed(iss=f"https://api.hexclave.com/api/v1/projects/{PROJECT}"), "C9")
    low, high = _low_and_high(SIGNER)
    yield ok("sig-low-s", low, "B5")
    yield ok("sig-high-s", high, "B5")
    yield ok("sig-r-leading-zero", _with_short("r"), "B4")
    yield ok("sig-s-leading-zero", _with_short("s"), "B4")


def _low_and_high(signer: Signer) -> tuple[str, str]:
    token = signed(signer=signer)
    message, _, part = token.rpartition(".")
    signature = unb64url(part)
    s = int.from_bytes(signature[32:], "big")
    mirrored = f"{message}.{b64url(signature[:32] + scalar(ORDER - s))}"
    return (token, mirrored) if s <= ORDER // 2 else (mirrored, token)


def _with_short(which: str) -> str:
    """Return a token whose r or s begins with a zero byte, correctly padded."""
    at = 0 if which == "r" else 32
    for number in range(100_000):
        token = signed(jti=str(number))
        if unb64url(token.rpartition(".")[2])[at] == 0:
            return token
    raise AssertionError("one signature in 256 begins so")


def _algorithms() -> Iterator[Case]:
    body = payload()
    public = SIGNER.public
    texts = {
        "pem": public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        "point": public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint),
        "jwk": json.dumps(SIGNER.jwk()).encode(),
        "jwks": json.dumps({"keys": [SIGNER.jwk()]}).encode(),
        "kid": SIGNER.kid.encode(),
        "project": PROJECT.encode(),
        "empty": b"",
    }
    for size, digest in (("256", hashlib.sha256), ("384", hashlib.sha384), ("512", hashlib.sha512)):
        for name, secret in texts.items():
            header = json.dumps({"alg": f"HS{size}", "kid": SIGNER.kid}).encode()
            message = f"{b64url(header)}.{b64url(body)}"
            tag = hmac.new(secret, message.encode(), digest).digest()
            yield Case(f"hdr-hs{size}-{name}", "A2", f"{message}.{b64url(tag)}", needs_key=False)
    for name, alg in {
        "none": "none",
        "None": "None",
        "NONE": "NONE",
        "nOnE": "nOnE",
        "null": None,
        "number": 0,
        "list": ["none"],
        "empty": "",
        "false": False,
    }.items():
        header = json.dumps({"alg": alg, "kid": SIGNER.kid}).encode()
        message = f"{b64url(header)}.{b64url(body)}"
        yield Case(f"hdr-alg-{name}-nosig", "A1", f"{message}.", needs_key=False)
        yield Case(f"hdr-alg-{name}-honest-sig", "A1", raw(header, body), needs_key=False)
        yield Case(f"hdr-alg-{name}-zero-sig", "A1", f"{message}.{b64url(bytes(64))}", needs_key=False)
    for name, alg in {
        "missing": LEFT_OUT,
        "lower": "es256",
        "mixed": "Es256",
        "blank-after": "ES256 ",
        "blank-before": " ES256",
        "list": ["ES256"],
        "object": {"a": "ES256"},
        "nul": "ES256\0",
        "es384": "ES384",
        "es512": "ES512",
        "es256k": "ES256K",
        "rs256": "RS256",
        "ps256": "PS256",
        "eddsa": "EdDSA",
        "fullwidth": "\uff25\uff33256",
        "dir": "dir",
    }.items():
        yield Case(f"hdr-alg-{name}-on-es256-sig", "A3", SIGNER.token(claims(), alg=alg), needs_key=False)
    yield from _really_other_algorithms(body)


def _really_other_algorithms(body: bytes) -> Iterator[Case]:
    """Yield tokens signed with other algorithms, under their own name and under ours."""
    p384, ed = ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()
    rsa_key = rsa.generate_private_key(65537, 2048)
    from cryptography.hazmat.primitives.asymmetric import padding

    def es384(message: bytes) -> bytes:
        r, s = decode_dss_signature(p384.sign(message, ec.ECDSA(hashes.SHA384())))
        return r.to_bytes(48, "big") + s.to_bytes(48, "big")

    makers = {
        "ES384": es384,
        "EdDSA": ed.sign,
        "RS256": lambda message: rsa_key.sign(message, padding.PKCS1v15(), hashes.SHA256()),
    }
    for name, sign in makers.items():
        for alg in (name, "ES256"):
            header = json.dumps({"alg": alg, "kid": SIGNER.kid}).encode()
            message = f"{b64url(header)}.{b64url(body)}"
            token = f"{message}.{b64url(sign(message.encode()))}"
            fits = alg == "ES256" and name == "EdDSA"  # 64 bytes too: only the key differs
            yield Case(f"hdr-signed-{name}-as-{alg}", "A3", token, needs_key=fits)


def _header_keys() -> Iterator[Case]:
    attacker = Signer(987_654_321, "attacker")
    stolen = {
        "jwk": attacker.jwk(),
        "x5c": [base64.b64encode(b"certificate").decode()],
        "jku": "https://attacker.example/jwks.json",
        "jku-file": "file:///etc/passwd",
        "jku-metadata": "http://169.254.169.254/latest/meta-data/",
        "jku-userinfo": "https://api.stack-auth.com@attacker.example/",
        "x5u": "https://attacker.example/cert.pem",
    }
    for name, value in stolen.items():
        parameter = name.partition("-")[0]
        for kid in (SIGNER.kid, "attacker"):
            token = attacker.token(claims(), kid=kid, **{parameter: value})
            suffix = "our-kid" if kid == SIGNER.kid else "own-kid"
            yield Case(f"hdr-attacker-key-{name}-{suffix}", "A4", token, needs_key=False)
        yield Case(f"hdr-honest-with-{name}", "A4", SIGNER.token(claims(), **{parameter: value}), needs_key=False)


def _header_parameters() -> Iterator[Case]:
    for name, parameters in {
        "crit-unknown": {"crit": ["unknown"], "unknown": 1},
        "crit-empty": {"crit": []},
        "crit-registered": {"crit": ["alg"]},
        "crit-string": {"crit": "exp"},
        "crit-null": {"crit": None},
        "crit-absent-name": {"crit": ["exp"]},
        "crit-number": {"crit": 1},
        "crit-b64": {"crit": ["b64"], "b64": True},
        "enc": {"enc": "A256GCM"},
        "zip": {"zip": "DEF"},
        "b64-false": {"b64": False},
        "b64-true": {"b64": True},
        "b64-crit": {"b64": False, "crit": ["b64"]},
    }.items():
        threat = "A6" if name.startswith(("b64", "zip")) else "A12" if name == "enc" else "A5"
        yield Case(f"hdr-{name}", threat, SIGNER.token(claims(), **parameters), needs_key=False)
    b64_false = json.dumps({"alg": "ES256", "kid": SIGNER.kid, "b64": False, "crit": ["b64"]}).encode()
    unencoded = b64url(SIGNER.sign(f"{b64url(b64_false)}.".encode() + payload()))
    yield Case("hdr-b64-detached", "A6", f"{b64url(b64_false)}..{unencoded}", needs_key=False)
    yield Case("hdr-b64-attached", "A6", f"{b64url(b64_false)}.{payload().decode()}.{unencoded}", needs_key=False)
    yield Case("hdr-b64-unsigned", "A6", f"{b64url(b64_false)}.{b64url(payload())}.", needs_key=False)
    header = json.dumps({"alg": "ES256", "kid": SIGNER.kid, "zip": "DEF"}).encode()
    yield Case("hdr-zip-bomb", "A6", raw(header, gzip.compress(bytes(1 << 20))), needs_key=False)
    for name, typ in {
        "dpop": "dpop+jwt",
        "logout": "logout+jwt",
        "at": "at+jwt",
        "secevent": "secevent+jwt",
        "jose": "JOSE",
        "empty": "",
        "null": None,
        "number": 1,
        "list": ["JWT"],
    }.items():
        yield Case(f"hdr-typ-{name}", "A12", SIGNER.token(claims(), typ=typ), needs_key=False)
    yield Case("hdr-cty-jwt", "A12", SIGNER.token(claims(), cty="JWT"), needs_key=False)


def _header_kids() -> Iterator[Case]:
    for name, kid in {
        "unknown": "unknown-kid1",
        "upper": SIGNER.kid.upper(),
        "blank-after": SIGNER.kid + " ",
        "nul": SIGNER.kid + "\0",
        "newline": SIGNER.kid + "\n",
        "prefix": SIGNER.kid[:-1],
        "path": "../../etc/passwd",
        "sql": "' or 1=1 --",
        "template": "{{7*7}}",
        "log": "a\r\nforged log line",
        "emoji": "\U0001f511",
        "surrogate": "\ud800",
        "128": "k" * 128,
    }.items():
        yield Case(f"hdr-kid-{name}", "A7", SIGNER.token(claims(), kid=kid))
    for name, kid in {
        "empty": "",
        "null": None,
        "number": 1,
        "float": 1.5,
        "true": True,
        "list": [SIGNER.kid],
        "object": {"kid": SIGNER.kid},
        "129": "k" * 129,
        "6kb": "k" * 6000,
        "missing": LEFT_OUT,
    }.items():
        threat = "A9" if name == "missing" else "A7" if name in ("empty", "129", "6kb") else "A8"
        yield Case(f"hdr-kid-{name}", threat, SIGNER.token(claims(), kid=kid), needs_key=False)
    yield Case("hdr-kid-of-other-key", "A9", SIGNER.token(claims(), kid=SIGNERS[NORMAL][1].kid))
    yield Case("hdr-kid-of-anonymous-key", "A9", SIGNER.token(claims(), kid=SIGNERS[ANONYMOUS][0].kid))


def _header_text() -> Iterator[Case]:
    kid = SIGNER.kid
    texts = {
        "array": b'["ES256"]',
        "string": b'"ES256"',
        "null": b"null",
        "number": b"1",
        "true": b"true",
        "empty": b"{}",
        "bad-utf8": b'{"alg":"ES256","kid":"\xff"}',
        "utf16": HEADER.decode().encode("utf-16"),
        "utf32": HEADER.decode().encode("utf-32"),
        "bom": b"\xef\xbb\xbf" + HEADER,
        "nan": HEADER[:-1] + b',"x":NaN}',
        "infinity": HEADER[:-1] + b',"x":Infinity}',
        "trailing": HEADER + b"{}",
        "trailing-comma": HEADER[:-1] + b",}",
        "truncated": HEADER[:-1],
        "single-quotes": HEADER.replace(b'"', b"'"),
        "comment": b"/**/" + HEADER,
        "control": b'{"alg":"ES256","kid":"a\x01b"}',
        "deep": b'{"x":' + b"[" * 3000 + b"]" * 3000 + b"}",
        "deep-open": b"[" * 5000,
        "deep-100000": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "bigint": b'{"x":' + b"9" * 5000 + b"}",
        "huge-300kb": HEADER[:-1] + b',"x":"' + b"x" * 300_000 + b'"}',
        "dup-alg": b'{"alg":"none","alg":"ES256","kid":"%s"}' % kid.encode(),
        "dup-alg-last": b'{"alg":"ES256","alg":"none","kid":"%s"}' % kid.encode(),
        "dup-kid": b'{"alg":"ES256","kid":"x","kid":"%s"}' % kid.encode(),
        "dup-escaped": b'{"alg":"ES256","kid":"%s","k\\u0069d":"%s"}' % (kid.encode(), kid.encode()),
    }
    for name, text in texts.items():
        threat = "A11" if name.startswith(("deep", "bigint", "huge")) else "A10"
        yield Case(f"hdr-json-{name}", threat, raw(text, payload()), needs_key=False)


def _signatures() -> Iterator[Case]:
    bounds = {"0": 0, "1": 1, "n": ORDER, "n-1": ORDER - 1, "p": FIELD, "ff": 2**256 - 1}
    for first, r in bounds.items():
        for second, s in bounds.items():
            yield Case(f"sig-{first}-{second}", "B1", with_signature(scalar(r) + scalar(s)))
    token = signed()
    message = token.rpartition(".")[0].encode()
    honest = unb64url(token.rpartition(".")[2])
    der = SIGNER.private.sign(message, ec.ECDSA(hashes.SHA256()))
    yield Case("sig-der", "B2", with_signature(der, token), needs_key=False)
    yield Case("sig-der-64", "B2", with_signature(der[:64], token))
    for length in (1, 32, 63, 65, 66, 96, 128, 4096):
        data = (honest * 64)[:length]
        yield Case(f"sig-len-{length}", "B3", with_signature(data, token), needs_key=False)
    short_r, short_s = unb64url(_with_short("r").rpartition(".")[2]), unb64url(_with_short("s").rpartition(".")[2])
    yield Case("sig-r-stripped", "B4", with_signature(short_r[1:], token), needs_key=False)
    yield Case("sig-s-stripped", "B4", with_signature(short_s[:32] + short_s[33:], token), needs_key=False)
    yield Case("sig-swapped-halves", "B6", with_signature(honest[32:] + honest[:32], token))
    for name, data in {
        "double-hash": hashlib.sha256(message).digest(),
        "payload-only": message.partition(b".")[2],
        "header-only": message.partition(b".")[0],
        "raw-payload": payload(),
    }.items():
        yield Case(f"sig-over-{name}", "B6", with_signature(SIGNER.sign(data), token))
    r, s = decode_dss_signature(SIGNER.private.sign(message, ec.ECDSA(hashes.SHA512())))
    yield Case("sig-sha512", "B6", with_signature(scalar(r) + scalar(s), token))
    other_curve = ec.derive_private_key(SIGNER.number, ec.SECP256K1())
    r, s = decode_dss_signature(other_curve.sign(message, ec.ECDSA(hashes.SHA256())))
    yield Case("sig-secp256k1", "B6", with_signature(scalar(r) + scalar(s), token))
    tag = hmac.new(SIGNER.kid.encode(), message, hashlib.sha512).digest()
    yield Case("sig-hmac-64", "B6", with_signature(tag, token))
    header_part, payload_part, signature_part = token.split(".")
    other_header, other_payload, other_signature = signed(name="Mallory").split(".")
    yield Case("sig-of-other-payload", "B13", f"{header_part}.{other_payload}.{signature_part}")
    yield Case("sig-of-other-token", "B13", f"{header_part}.{payload_part}.{other_signature}")
    second = SIGNERS[NORMAL][1].token(claims()).partition(".")[0]
    yield Case("sig-of-other-header", "B13", f"{second}.{payload_part}.{signature_part}")
    assert other_header == header_part
    for bit in (0, 7, 255, 256, 511):
        flipped = bytearray(honest)
        flipped[bit // 8] ^= 1 << (bit % 8)
        yield Case(f"sig-bit-{bit}", "B13", with_signature(bytes(flipped), token))
    yield Case("sig-stranger", "B13", STRANGER.token(claims()))
    yield Case("sig-stranger-expired", "C13", STRANGER.token(claims(exp=int(time.time()) - 1000)))


def _framing() -> Iterator[Case]:
    token = signed()
    header, body, signature = token.split(".")

    def no_key(name: str, threat: str, text: str) -> Case:
        return Case(f"enc-{name}", threat, text, needs_key=False)

    for name, parts in {
        "header": (header + "=", body, signature),
        "payload": (header, body + "=", signature),
        "sig": (header, body, signature + "="),
        "sig-two": (header, body, signature + "=="),
        "all": (header + "==", body + "==", signature + "=="),
    }.items():
        yield no_key(f"padding-{name}", "B7", ".".join(parts))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = alphabet.index(signature[-1])
    for bits in range(1, 16):
        yield no_key(f"sig-trailing-bits-{bits}", "B8", f"{header}.{body}.{signature[:-1]}{alphabet[at ^ bits]}")
    yield no_key("sig-plus", "B8", f"{header}.{body}.+{signature[1:]}")
    yield no_key("sig-slash", "B8", f"{header}.{body}./{signature[1:]}")
    standard = base64.b64encode(json.dumps(claims(name="???>>>")).encode()).decode().rstrip("=")
    yield no_key("payload-std-alphabet", "B8", f"{header}.{standard}/.{signature}")
    odd = {
        "blank": " ",
        "tab": "\t",
        "newline": "\n",
        "crlf": "\r\n",
        "nul": "\0",
        "quote": '"',
        "comma": ",",
        "semicolon": ";",
        "zero-width": "\u200b",
        "emoji": "\U0001f600",
        "surrogate": "\ud800",
        "latin1": "\xe9",
        "percent": "%",
        "bom": "\ufeff",
        "dot": ".",
        "tilde": "~",
        "equals": "=",
    }
    for name, text in odd.items():
        yield no_key(f"insert-{name}-sig", "B9", f"{header}.{body}.{signature[:40]}{text}{signature[40:]}")
        yield no_key(f"insert-{name}-payload", "B9", f"{header}.{body[:40]}{text}{body[40:]}.{signature}")
        yield no_key(f"insert-{name}-header", "B9", f"{header[:8]}{text}{header[8:]}.{body}.{signature}")
        yield no_key(f"wrap-{name}-before", "B9", text + token)
        yield no_key(f"wrap-{name}-after", "B9", token + text)
    for name, text in {
        "0": "",
        "1": header,
        "2": f"{header}.{body}",
        "4": f"{token}.{signature}",
        "6": f"{token}.{token}",
        "leading": f".{token}",
        "trailing": f"{token}.",
        "double": f"{header}..{body}.{signature}",
        "empty-header": f".{body}.{signature}",
        "empty-payload": f"{header}..{signature}",
        "empty-signature": f"{header}.{body}.",
        "dots": "...",
        "two-dots": "..",
        "reversed": f"{signature}.{body}.{header}",
    }.items():
        yield no_key(f"parts-{name}", "B10", text)
    yield no_key("huge-dots", "B10", "." * 200_000)
    flattened = {"protected": header, "payload": body, "signature": signature}
    yield no_key("json-flattened", "B10", json.dumps(flattened))
    general = {"payload": body, "signatures": [{"protected": header, "signature": signature}]}
    yield no_key("json-general", "B10", json.dumps(general))
    yield no_key("json-polyglot", "B10", token + json.dumps(flattened))
    for name, parameters in {
        "dir": {"alg": "dir", "enc": "A256GCM"},
        "ecdh": {"alg": "ECDH-ES", "enc": "A256GCM", "kid": SIGNER.kid},
        "pbes2": {"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2**31, "p2s": "AAAA"},
    }.items():
        jwe = b64url(json.dumps(parameters).encode())
        yield no_key(f"jwe-{name}", "B11", f"{jwe}.AAAA.AAAA.AAAA.AAAA")
    for name, text in {
        "header": f"{header}{'A' * 1_000_000}.{body}.{signature}",
        "payload": f"{header}.{'A' * 1_000_000}.{signature}",
        "sig": f"{header}.{body}.{'A' * 1_000_000}",
        "one": "A" * 1_000_000,
    }.items():
        yield no_key(f"huge-{name}", "B12", text)
    yield no_key("just-over-the-cap", "B12", signed(name="x" * 6000))


def _payload_text() -> Iterator[Case]:
    honest = payload()
    aud = json.dumps(PROJECT).encode()
    texts = {
        "array": b"[]",
        "string": b'"x"',
        "null": b"null",
        "number": b"1",
        "trailing": honest + b"x",
        "trailing-object": honest + b"{}",
        "truncated": honest[:-1],
        "nested-jwt": signed().encode(),
        "gzip": gzip.compress(honest),
        "utf16": honest.decode().encode("utf-16"),
        "utf32": honest.decode().encode("utf-32-le"),
        "bom": b"\xef\xbb\xbf" + honest,
        "bad-utf8": honest[:-1] + b',"x":"\xff"}',
        "overlong": honest[:-1] + b',"x":"\xc0\xaf"}',
        "nan": honest[:-1] + b',"x":NaN}',
        "deep": honest[:-1] + b',"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
        "deep-open": b"[" * 5000,
        "deep-100000": honest[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "bigint": honest[:-1] + b',"x":' + b"9" * 5000 + b"}",
        "dup-aud": honest[:-1] + b',"aud":' + aud + b"}",
        "dup-sub": honest[:-1] + b',"sub":"' + helpers.USER_ID.encode() + b'"}',
        "dup-exp": honest[:-1] + b',"exp":9999999999}',
        "dup-flag": honest[:-1] + b',"is_anonymous":false}',
        "dup-unknown": honest[:-1] + b',"z":1,"z":1}',
        "dup-nested": honest[:-1] + b',"z":{"a":1,"a":1}}',
        "control": honest[:-1] + b',"x":"\x00"}',
    }
    for name, text in texts.items():
        threat = "C2" if name.startswith("dup") else "C1"
        yield Case(f"pay-{name}", threat, raw(HEADER, text), needs_key=False)


def _times() -> Iterator[Case]:
    now = int(time.time())
    expired = ErrorCode.EXPIRED_TOKEN
    for name, exp in {
        "1h-ago": now - 3600,
        "1min-ago": now - 60,
        "epoch": 0,
        "negative": -1,
        "fraction": now - 60.5,
    }.items():
        yield Case(f"exp-{name}", "C3", signed(exp=exp), code=expired)
    for name, exp in {"missing": LEFT_OUT, "null": None}.items():
        yield Case(f"exp-{name}", "C3", signed(exp=exp), needs_key=False)
    for name, exp in {
        "string": str(now + 500),
        "underscored": "9_999_999_999",
        "arabic": "\u0669\u0669\u0669\u0669\u0669\u0669\u0669\u0669\u0669\u0669",
        "true": True,
        "list": [now + 500],
        "object": {},
        "empty": "",
    }.items():
        yield Case(f"exp-{name}", "C4", signed(exp=exp), needs_key=False)
    honest = payload(exp=LEFT_OUT)[:-1]
    for name, text in {"nan": b"NaN", "infinity": b"Infinity", "1e999": b"1e999", "hex": b"0x7fffffff"}.items():
        yield Case(f"exp-{name}", "C4", raw(HEADER, honest + b',"exp":' + text + b"}"), needs_key=False)
    for name, text in {
        "1e300": b"1e300",
        "10e30": b"1" + b"0" * 30,
        "4000-digits": b"9" * 4000,
        "year-10000": b"253402300800",
    }.items():
        yield Case(f"exp-{name}", "C5", raw(HEADER, honest + b',"exp":' + text + b"}"), "either")
    yield Case("nbf-future", "C6", signed(nbf=now + 3600))
    for name, value in {"string": str(now), "true": True, "null": None, "list": [now], "huge": 10**30}.items():
        yield Case(f"nbf-{name}", "C6", signed(nbf=value))
        yield Case(f"iat-{name}", "C6", signed(iat=value))


def _audiences() -> Iterator[Case]:
    for name, aud in {
        "missing": LEFT_OUT,
        "null": None,
        "empty": "",
        "number": 1,
        "list": [PROJECT],
        "list-two": [PROJECT, OTHER_PROJECT],
        "list-empty": [],
        "object": {PROJECT: True},
        "prefix": PROJECT[:-1],
        "suffix": PROJECT + "0",
        "upper": PROJECT.upper(),
        "blank": PROJECT + " ",
        "nul": PROJECT + "\0",
        "unknown-kind": PROJECT + ":admin",
        "colon": PROJECT + ":",
        "double": PROJECT + ":anon:anon",
        "anonymous-long": PROJECT + ":anonymous",
        "braced": "{" + PROJECT + "}",
        "undashed": PROJECT.replace("-", ""),
        "true": True,
    }.items():
        yield Case(f"aud-{name}", "C8", signed(aud=aud), needs_key=False)


def _issuers() -> Iterator[Case]:
    iss = f"https://api.stack-auth.com/api/v1/projects/{PROJECT}"
    for name, value in {
        "missing": LEFT_OUT,
        "null": None,
        "empty": "",
        "number": 1,
        "list": [iss],
        "slash": iss + "/",
        "http": iss.replace("https", "http"),
        "host-suffix": iss.replace(".com", ".com.evil.example"),
        "host-prefix": iss.replace("api.", "evil-api."),
        "userinfo": iss.replace("//", "//api.stack-auth.com@evil.example/"),
        "port": iss.replace(".com", ".com:443"),
        "percent": iss.replace("api/v1", "api%2fv1"),
        "traversal": iss.replace("v1/", "v1/../v1/"),
        "homoglyph": iss.replace("a", "\u0430", 1),
        "upper-host": iss.replace("api.s", "API.S"),
        "substring": iss[:-1],
        "trailing-dot": iss.replace(".com", ".com."),
        "query": iss + "?x=1",
        "fragment": iss + "#x",
        "no-scheme": iss.removeprefix("https:"),
        "other-project": iss.replace(PROJECT, OTHER_PROJECT),
        "latest": iss.replace("v1", "latest"),
        "legacy": "https://access-token.jwt-signature.stack-auth.com",
        "dev-host": iss.replace("api.", "api.dev."),
        "newline": iss + "\n",
    }.items():
        yield Case(f"iss-{name}", "C9", signed(iss=value), needs_key=False)


def _subjects() -> Iterator[Case]:
    for name, sub in {
        "missing": LEFT_OUT,
        "null": None,
        "empty": "",
        "number": 1,
        "list": [helpers.USER_ID],
        "true": True,
    }.items():
        yield Case(f"sub-{name}", "C10", signed(sub=sub))
    for name, sub in {
        "me": "me",
        "slash": "../teams",
        "crlf": helpers.USER_ID + "\r\nx: y",
        "nul": helpers.USER_ID + "\0",
        "surrogate": "\ud800",
        "3kb": "x" * 3000,
        "upper": "AAAAAAAA-AAAA-4AAA-8AAA-AAAAAAAAAAAA",
        "blank": helpers.USER_ID + " ",
        "query": helpers.USER_ID + "?x=1",
    }.items():
        yield Case(f"sub-{name}", "C11", signed(sub=sub))


def _stack() -> Iterator[Case]:
    anonymous, restricted = SIGNERS[ANONYMOUS][0], SIGNERS[RESTRICTED][0]
    yield Case("sta-anonymous", "D1", signed(ANONYMOUS, signer=anonymous), code=ErrorCode.ANONYMOUS_NOT_ALLOWED)
    for reason in ("email_not_verified", "restricted_by_administrator"):
        token = signed(RESTRICTED, signer=restricted, restricted_reason={"type": reason})
        yield Case(f"sta-restricted-{reason}", "D2", token, code=ErrorCode.RESTRICTED_NOT_ALLOWED)
    for name, changes in {
        "anonymous": {"is_anonymous": True},
        "restricted": {"is_restricted": True},
        "both": {"is_anonymous": True, "is_restricted": True},
        "reason": {"restricted_reason": {"type": "email_not_verified"}},
        "anonymous-string": {"is_anonymous": "false"},
        "anonymous-number": {"is_anonymous": 0},
        "anonymous-null": {"is_anonymous": None},
        "restricted-string": {"is_restricted": "false"},
        "restricted-number": {"is_restricted": 0},
        "reason-string": {"restricted_reason": "email_not_verified"},
        "reason-empty": {"restricted_reason": {}},
    }.items():
        yield Case(f"sta-flags-{name}", "D3", signed(**changes))
    for name, changes in {
        "no-reason": {"restricted_reason": None},
        "not-restricted": {"is_restricted": False},
        "anonymous": {"is_anonymous": True},
    }.items():
        yield Case(f"sta-restricted-flags-{name}", "D3", signed(RESTRICTED, signer=restricted, **changes))
    for name, changes in {
        "not-anonymous": {"is_anonymous": False},
        "not-restricted": {"is_restricted": False},
        "missing": {"is_anonymous": LEFT_OUT},
    }.items():
        yield Case(f"sta-anonymous-flags-{name}", "D3", signed(ANONYMOUS, signer=anonymous, **changes))
    for kind in (RESTRICTED, ANONYMOUS):
        for at, signer in enumerate(SIGNERS[kind]):
            yield Case(f"sta-key-{kind.value}-{at}-signs-normal", "D4", signed(signer=signer))
    other = {
        "aud": OTHER_PROJECT,
        "iss": f"https://api.stack-auth.com/api/v1/projects/{OTHER_PROJECT}",
        "project_id": OTHER_PROJECT,
    }
    yield Case("sta-other-project", "D5", signed(**other), needs_key=False)
    yield Case("sta-other-project-stranger", "D5", STRANGER.token(claims(**other)), needs_key=False)
    yield Case("sta-other-project-aud", "D5", signed(aud=OTHER_PROJECT), needs_key=False)
    yield Case("sta-other-project-claim", "D5", signed(project_id=OTHER_PROJECT), "either")
    internal = {"aud": "internal", "iss": "https://api.stack-auth.com/api/v1/projects/internal"}
    yield Case("sta-internal-project", "D5", signed(**internal), needs_key=False)
    for name, changes in {
        "other": {"branch_id": "dev"},
        "missing": {"branch_id": LEFT_OUT},
        "null": {"branch_id": None},
        "upper": {"branch_id": "Main"},
        "list": {"branch_id": ["main"]},
        "legacy-other": {"branch_id": LEFT_OUT, "branchId": "dev"},
        "both": {"branch_id": "dev", "branchId": "main"},
        "blank": {"branch_id": "main "},
    }.items():
        yield Case(f"sta-branch-{name}", "D6", signed(**changes))


def _matrix() -> Iterator[Case]:
    """Yield every combination of key, audience, issuer and flags that do not agree: 78 of 81."""
    kinds = (NORMAL, RESTRICTED, ANONYMOUS)
    for key in kinds:
        for aud in kinds:
            for iss in kinds:
                for flags in kinds:
                    if key is aud is iss is flags:
                        continue
                    changes = {"aud": PROJECT + SUFFIXES[aud], "iss": f"{helpers.API}/api/v1/{PATHS[iss]}/{PROJECT}"}
                    token = signed(flags, signer=SIGNERS[key][0], **changes)
                    name = f"mat-key-{key.value}-aud-{aud.value}-iss-{iss.value}-flags-{flags.value}"
                    yield Case(name, "D3", token, needs_key=aud is iss)


def _no_tokens() -> Iterator[Case]:
    for name, text in {
        "undefined": "undefined",
        "null": "null",
        "none": "None",
        "bearer": "Bearer " + signed(),
        "quoted": f'"{signed()}"',
        "refresh": "0123456789abcdefghijklmnopqrstuvwxyz012345678",
        "secret-key": "ssk_0000000000000000000000000000000000000000000",
        "publishable-key": "pck_0000000000000000000000000000000000000000000",
        "cookie": f'["refresh","{signed()}"]',
        "json": json.dumps({"accessToken": signed()}),
        "wrapped": "stackauth_" + base64.b64encode(b'{"accessToken":"x"}').decode(),
        "api-key": f"sk_{SECRET_PART}83a1f0c1e0000400080000123456789abuser0574ck4u7hf2210f81",
        "blank": " ",
        "surrogate": "\ud800",
        "nul": "\0",
        "url": f"https://example.com/?token={signed()}",
    }.items():
        yield Case(f"tok-{name}", "D7", text, needs_key=False)
