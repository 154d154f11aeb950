"""Form, signature and claims of tokens, compared with PyJWT and joserfc as oracles."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import joserfc.errors
import joserfc.jwk
import joserfc.jwt
import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stackauth_middleware._core import tokens
from stackauth_middleware._core.tokens import ForeignToken, Token, check_signature, parse, parse_jws, user_of
from stackauth_middleware._core.users import User, UserType
from stackauth_middleware.errors import ErrorCode, RefusedError
from tests.data import load_recorded

from .helpers import (
    ANONYMOUS,
    API,
    AUDIENCES,
    HOSTS,
    ISSUERS,
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
    USER_ID,
    WALL,
    Signer,
    b64url,
    bounded,
    claims,
    token,
    unb64url,
)

SIGNER = SIGNERS[NORMAL][0]
LEEWAY = 5.0
INVALID, EXPIRED = ErrorCode.INVALID_TOKEN, ErrorCode.EXPIRED_TOKEN


def keys(kind: UserType) -> dict[str, ec.EllipticCurvePublicKey]:
    return {signer.kid: signer.public for signer in SIGNERS[kind]}


def verify(
    text: str, wall: float = WALL, leeway: float = LEEWAY, issuers: Any = ISSUERS, audiences: Any = AUDIENCES
) -> User:
    """Verify as the flow does, with the key of the token's user type."""
    parsed = parse(text, audiences, issuers)
    key = keys(parsed.user_type).get(parsed.kid)
    if key is None:
        raise RefusedError(INVALID, "unknown key")
    check_signature(parsed, key)
    return user_of(parsed, wall, leeway)


def outcome(text: str, **given_: Any) -> User | ErrorCode:
    try:
        return verify(text, **given_)
    except RefusedError as error:
        return error.code


def detail(text: str, **given_: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        verify(text, **given_)
    assert caught.value.code is INVALID
    return caught.value.detail


def parts(text: str) -> list[str]:
    return text.split(".")


# -- good tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", UserType, ids=str)
@pytest.mark.parametrize("which", [0, 1], ids=["first key", "second key"])
@pytest.mark.parametrize("host", HOSTS)
def test_valid_token_of_each_user_type_is_accepted(kind: UserType, which: int, host: str) -> None:
    iss = f"{host}/api/v1/{PATHS[kind]}/{PROJECT}"
    user = verify(token(kind, signer=SIGNERS[kind][which], iss=iss))
    assert (user.user_id, user.user_type, user.claims) == (USER_ID, kind, claims(kind, iss=iss))


@pytest.mark.parametrize(
    ("changes", "header"),
    [
        ({"name": "x" * 4000}, {}),
        ({"name": "\u00dcn\u00efc\u00f6de \U0001f600 \u202e\r\n\x00"}, {}),
        ({"name": None, "email": None}, {}),
        ({"unknown_claim": {"deep": [1, 2, {"er": None}]}}, {}),
        ({"iat": WALL + 3600}, {}),
        ({"iat": LEFT_OUT}, {}),
        ({"nbf": WALL - 1}, {}),
        ({"exp": WALL + 0.5}, {}),
        ({"exp": 2**53}, {}),
        ({"project_id": OTHER_PROJECT}, {}),
        ({"jti": "1"}, {}),
        ({}, {"typ": "JWT"}),
        ({}, {"x5t": "x", "x5t#S256": "x", "unknown": [1]}),
        ({}, {"kid": SIGNER.kid, "typ": LEFT_OUT}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_valid_token_with_unusual_members_is_accepted(changes: dict[str, Any], header: dict[str, Any]) -> None:
    assert verify(SIGNER.token(claims(**changes), **header)).user_id == USER_ID


REAL = ["tokens-hosted", "tokens-hexclave", "tokens-short-coordinate"]


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("kind", ["normal", "restricted", "anonymous", "expired"])
def test_recorded_token_of_stack_auth_is_accepted(name: str, kind: str) -> None:
    """Signed by Stack Auth. The keys are imported here by a decoder that pads the coordinates."""
    real = load_recorded(name)
    project = real["meta"]["projectId"]
    audiences = {project + suffix: each for each, suffix in SUFFIXES.items()}
    issuers = {f"{host}/api/v1/{path}/{project}": each for host in HOSTS for each, path in PATHS.items()}
    parsed = parse(real["tokens"][kind], audiences, issuers)
    jwk = next(each for each in real["jwks"]["anonymous"]["keys"] if each["kid"] == parsed.kid)
    x, y = (int.from_bytes(unb64url(jwk[name]), "big") for name in "xy")
    check_signature(parsed, ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key())
    if kind == "expired":
        with pytest.raises(RefusedError) as caught:
            user_of(parsed, parsed.claims["exp"] + LEEWAY, LEEWAY)
        assert caught.value.code is EXPIRED
    else:
        user = user_of(parsed, parsed.claims["iat"], 0)
        assert user.user_type.value == kind
        assert user.claims == parsed.claims


# -- the form -----------------------------------------------------------------------------------------

GOOD = token()
HEADER, PAYLOAD, SIGNATURE = parts(GOOD)

FORMS = {
    "empty": "",
    "a dot": ".",
    "two dots": "..",
    "one part": HEADER,
    "two parts": f"{HEADER}.{PAYLOAD}",
    "no signature": f"{HEADER}.{PAYLOAD}.",
    "no payload": f"{HEADER}..{SIGNATURE}",
    "no header": f".{PAYLOAD}.{SIGNATURE}",
    "four parts": f"{GOOD}.{SIGNATURE}",
    "four parts, the first empty": f".{GOOD}",
    "five parts": f"{HEADER}.{PAYLOAD}.{PAYLOAD}.{PAYLOAD}.{SIGNATURE}",
    "a dot at the end": f"{GOOD}.",
    "two dots inside": GOOD.replace(".", "..", 1),
    "padded": GOOD + "==",
    "a padded header": f"{HEADER}=.{PAYLOAD}.{SIGNATURE}",
    "a padded payload": f"{HEADER}.{PAYLOAD}==.{SIGNATURE}",
    "a blank in front": f" {GOOD}",
    "a newline at the end": f"{GOOD}\n",
    "a nul at the end": f"{GOOD}\0",
    "a nul inside": f"{HEADER}.{PAYLOAD[:20]}\0{PAYLOAD[20:]}.{SIGNATURE}",
    "a newline inside": f"{HEADER}.{PAYLOAD[:20]}\n{PAYLOAD[20:]}.{SIGNATURE}",
    "a blank in the header": f"{HEADER[:4]} {HEADER[4:]}.{PAYLOAD}.{SIGNATURE}",
    "a zero-width blank": f"{GOOD[:50]}\u200b{GOOD[50:]}",
    "a full-width letter": "\uff45" + GOOD[1:],
    "a surrogate": f"{GOOD}\ud800",
    "beyond ascii": f"{GOOD}\xe9",
    "quoted": f'"{GOOD}"',
    "with its scheme": f"Bearer {GOOD}",
    "twice": f"{GOOD},{GOOD}",
    "undefined": "undefined",
    "null": "null",
    "a refresh token": "0c4jkx6ktdvtr6vkz8hrsz1tgxkt9rd3jz9nqg5r8n0f0",
    "json serialization": json.dumps({"protected": HEADER, "payload": PAYLOAD, "signature": SIGNATURE}),
    "over the limit": f"{HEADER}.{'A' * 8192}.{SIGNATURE}",
    "over the limit, of dots": "." * 200_000,
    "a short signature": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-2]}",
    "a long signature": f"{HEADER}.{PAYLOAD}.{SIGNATURE}AA",
    "a signature with plus and slash": f"{HEADER}.{PAYLOAD}.{'+/' * 43}",
    "a payload with plus": f"{HEADER}.+{PAYLOAD[1:]}.{SIGNATURE}",
    "a payload of one character": f"{HEADER}.A.{SIGNATURE}",
    "a payload of five characters": f"{HEADER}.AAAAA.{SIGNATURE}",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_token_outside_the_strict_compact_form_is_rejected(text: str) -> None:
    with pytest.raises(RefusedError) as caught:
        parse(text, AUDIENCES, ISSUERS)
    assert caught.value.code is INVALID
    assert not isinstance(caught.value, ForeignToken)


@pytest.mark.parametrize("part", [0, 1, 2], ids=["header", "payload", "signature"])
def test_noncanonical_base64url_is_rejected(part: int) -> None:
    """A token has one encoding, because caches, revocation lists and counters compare its text."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for padding in ("", " ", "  "):
        text = SIGNER.compact(
            json.dumps({"alg": "ES256", "kid": SIGNER.kid, "x": padding}).encode(), claims(name=padding)
        )
        split = parts(text)
        last = split[part][-1]
        if len(split[part]) % 4 and outcome(text) not in (INVALID, EXPIRED):
            for other in alphabet[alphabet.index(last) + 1 : alphabet.index(last) + 4]:
                spelt = [*split]
                spelt[part] = split[part][:-1] + other
                if unb64url(spelt[part]) == unb64url(split[part]):
                    assert outcome(".".join(spelt)) is INVALID
                    return
    raise AssertionError("no spelling with unused bits was found")


def test_token_of_exactly_the_size_limit_is_accepted() -> None:
    room = 8192 - len(SIGNER.token(claims(name="")))
    text = max(
        (SIGNER.token(claims(name="x" * (room * 3 // 4 - less))) for less in range(4)),
        key=lambda t: (len(t) <= 8192, len(t)),
    )
    assert 8188 <= len(text) <= 8192
    assert verify(text).user_id == USER_ID
    assert outcome(SIGNER.token(claims(name="x" * (room * 3 // 4 + 4)))) is INVALID


def test_parse_jws_returns_the_decoded_parts() -> None:
    kid, payload, signing_input, signature = parse_jws(GOOD)
    assert kid == SIGNER.kid
    assert json.loads(payload) == claims()
    assert signing_input.decode() == f"{HEADER}.{PAYLOAD}"
    assert b64url(signature) == SIGNATURE


def test_repr_of_a_token_shows_no_part_of_it() -> None:
    assert repr(parse(GOOD, AUDIENCES, ISSUERS)) == "Token(user_type='normal')"
    assert str(parse(GOOD, AUDIENCES, ISSUERS)) == "Token(user_type='normal')"


# -- the header ---------------------------------------------------------------------------------------

PARAMETERS: dict[str, dict[str, Any]] = {
    **{f"alg {alg!r}": {"alg": alg} for alg in (
        "none", "None", "NONE", "nOnE", "", "es256", "Es256", "ES256 ", " ES256", "ES256\0", "ES384", "ES512",
        "ES256K", "HS256",
        "HS512", "RS256", "PS256", "EdDSA", None, 0, True, ["ES256"], {"ES256": 1},
    )},
    "no alg": {"alg": LEFT_OUT},
    **{f"kid {str(kid)[:9]!r}": {"kid": kid} for kid in (None, 0, 5, 1.5, True, "", [], ["a"], {}, {"a": 1},
    "x" * 129, "x" * 5000)},
    "no kid": {"kid": LEFT_OUT},
    **{f"typ {typ!r}": {"typ": typ} for typ in ("jwt", "at+jwt", "dpop+jwt", "JWE", "", None, 5, ["JWT"])},
    **{f"{name} {str(value)[:20]}": {name: value} for name, value in (
        ("crit", ["exp"]), ("crit", []), ("crit", None), ("crit", "b64"), ("b64", True), ("b64", False), ("b64", None),
        ("zip", "DEF"), ("zip", None), ("enc", "A128GCM"), ("jku", "https://evil.example/jwks"), ("jku", None),
        ("jwk", STRANGER.jwk()), ("jwk", SIGNER.jwk()), ("jwk", None), ("x5u", "file:///etc/passwd"), ("x5c",
        ["MIIB"]), ("x5c", []),
        ("cty", "JWT"), ("cty", "x"), ("cty", None),
    )},
}  # fmt: skip


@pytest.mark.parametrize("header", PARAMETERS.values(), ids=PARAMETERS)
def test_header_unfit_for_es256_is_rejected_despite_a_valid_signature(header: dict[str, Any]) -> None:
    text = SIGNER.token(claims(), **header)
    with pytest.raises(RefusedError) as caught:
        parse(text, AUDIENCES, ISSUERS)
    assert caught.value.code is INVALID


@pytest.mark.parametrize("kid", ["x", "x" * 128, "\u00e9" * 128, "a\0b", "../../etc/passwd", "' OR 1=1", "\ud800"])
def test_kid_may_be_any_string(kid: str) -> None:
    assert parse(SIGNER.token(claims(), kid=kid), AUDIENCES, ISSUERS).kid == kid
    assert detail(SIGNER.token(claims(), kid=kid)) == "unknown key"


TEXTS = {
    "nothing": b"",
    "a blank": b" ",
    "no json": b"ES256",
    "null": b"null",
    "a number": b"5",
    "a text": b'"ES256"',
    "a list": b"[{}]",
    "an empty list": b"[]",
    "half an object": b'{"alg":"ES256"',
    "a blank in front": b" %s",
    "a newline behind": b"%s\n",
    "something behind": b"%s{}",
    "a nul behind": b"%s\0",
    "a byte order mark": b"\xef\xbb\xbf%s",
    "no utf-8": b"%s\xff",
    "an encoded surrogate": b'{"\xed\xa0\x80":1,%s',
    "nan": b'{"a":NaN,%s',
    "infinity": b'{"a":-Infinity,%s',
    "single quotes": b"{'a':1,%s",
    "a comment": b"{/**/%s",
    "a trailing comma": b"%s,}",
    "a control character in a text": b'{"a":"\n",%s',
    "5000 digits": b'{"a":' + b"9" * 5000 + b",%s",
    "a name twice": b'{"kid":"x","aud":"x",%s',
    "a name twice, escaped": b'{"k\\u0069d":"x","\\u0061ud":"x",%s',
    "a name twice, nested": b'{"a":{"b":1,"b":1},%s',
}


def around(template: bytes, good: dict[str, Any]) -> bytes:
    """Insert the valid object, or its members, into the template."""
    inner = json.dumps(good).encode()
    if template.startswith(b"{") and template.endswith(b"%s"):
        return template[:-2] + inner[1:]
    if template.endswith(b",}"):
        return inner[:-1] + b",}"
    return template.replace(b"%s", inner)


HEADER_MEMBERS = {"alg": "ES256", "kid": SIGNER.kid}


@pytest.mark.parametrize("template", TEXTS.values(), ids=TEXTS)
def test_header_that_is_not_one_strict_json_object_is_rejected(template: bytes) -> None:
    """Lenient readers disagree about these, or accept two encodings of one object."""
    text = SIGNER.compact(around(template, HEADER_MEMBERS), claims())
    assert outcome(text) is INVALID


@pytest.mark.parametrize("template", TEXTS.values(), ids=TEXTS)
def test_payload_that_is_not_one_strict_json_object_is_rejected(template: bytes) -> None:
    text = SIGNER.compact(json.dumps(HEADER_MEMBERS).encode(), around(template, claims()))
    assert outcome(text) is INVALID


@pytest.mark.parametrize("brackets", [b"[]", b"[{}]"], ids=["balanced", "broken"])
def test_json_of_any_depth_never_crashes(brackets: bytes) -> None:
    """The depth that Python parses differs between versions; none may crash."""
    for deep in (
        b'{"a":' + brackets[:1] * 2500 + brackets[-1:] * 2500 + b",%s",
        b'{"a":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b",%s",
    ):
        assert isinstance(outcome(SIGNER.compact(around(deep, HEADER_MEMBERS), claims())), User | ErrorCode)
        assert isinstance(
            outcome(SIGNER.compact(json.dumps(HEADER_MEMBERS).encode(), around(deep, claims()))), User | ErrorCode
        )
    assert outcome(SIGNER.compact(b"[" * 3000, claims())) is INVALID


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_json_in_utf_16_or_utf_32_is_rejected(encoding: str) -> None:
    """RFC 8725bis section 3.7; Python's reader guesses."""
    header, payload = json.dumps(HEADER_MEMBERS).encode(), json.dumps(claims()).encode()
    assert outcome(SIGNER.compact(header.decode().encode(encoding), payload)) is INVALID
    assert outcome(SIGNER.compact(header, payload.decode().encode(encoding))) is INVALID


def test_header_cache_is_bounded_and_keeps_results_apart() -> None:
    """Headers are cached by their text: each result is checked twice, alternating."""
    bad = SIGNER.token(claims(), alg="none")
    for _ in range(2):
        assert verify(GOOD).user_id == USER_ID
        assert outcome(bad) is INVALID
    for number in range(200):
        assert parse(SIGNER.token(claims(), kid=f"kid-{number}"), AUDIENCES, ISSUERS).kid == f"kid-{number}"
    assert tokens.key_id_of.cache_info().currsize <= 64


# -- claims that refuse without a key -----------------------------------------------------------------


@pytest.mark.parametrize(
    "aud",
    [
        LEFT_OUT, None, "", 5, True, [PROJECT], [], {}, {PROJECT: 1}, [PROJECT, OTHER_PROJECT], OTHER_PROJECT,
        PROJECT.upper(), PROJECT[:-1],
        PROJECT + " ", PROJECT + ":", PROJECT + ":anon ", PROJECT + ":ANON", PROJECT + ":admin", "internal",
        f"{PROJECT}\0", PROJECT + ":anonymous",
    ],
    ids=str,
)  # fmt: skip
def test_another_audience_is_foreign(aud: Any) -> None:
    """Rejected without a key, as `ForeignToken`, since a wrong `project_id` looks the same."""
    with pytest.raises(ForeignToken) as caught:
        parse(token(aud=aud), AUDIENCES, ISSUERS)
    assert (caught.value.code, caught.value.detail) == (INVALID, "a token for another audience")


ISS = f"{API}/api/v1/projects/{PROJECT}"


@pytest.mark.parametrize(
    "iss",
    [
        LEFT_OUT, None, "", 5, [ISS], {}, {ISS: 1}, ISS + "/", ISS[:-1], ISS.replace("https", "http"),
        ISS.replace(".com", ".com:443"),
        ISS.replace("api.", "evil@api."), ISS.replace(".com", ".com.evil.example"), ISS.upper(),
        ISS.replace("/api/v1", "//api/v1"),
        ISS.replace("api/v1", "api/v1/../v1"), ISS.replace("a", "\u0430", 1), f"{ISS}?", f"{ISS}#", f" {ISS}",
        ISS.replace("projects", "project%73"),
        "https://access-token.jwt-signature.stack-auth.com", f"{API}/api/v1/projects/{OTHER_PROJECT}", API,
    ],
    ids=str,
)  # fmt: skip
def test_another_issuer_is_foreign(iss: Any) -> None:
    with pytest.raises(ForeignToken) as caught:
        parse(token(iss=iss), AUDIENCES, ISSUERS)
    assert (caught.value.code, caught.value.detail) == (INVALID, "a token of another issuer")


@pytest.mark.parametrize(("aud", "iss"), [(a, i) for a, i in product(UserType, UserType) if a is not i], ids=str)
def test_issuer_and_audience_of_different_user_types_are_rejected_but_not_foreign(aud: UserType, iss: UserType) -> None:
    """Both belong to this project, so it is no sign of a wrong setting."""
    text = token(aud, iss=f"{API}/api/v1/{PATHS[iss]}/{PROJECT}")
    with pytest.raises(RefusedError) as caught:
        parse(text, AUDIENCES, ISSUERS)
    assert not isinstance(caught.value, ForeignToken)


NO_TIMES: list[Any] = [
    None,
    "",
    "1800000540",
    "9_999_999_999",
    "\u0661",
    True,
    False,
    [],
    [WALL],
    {},
    2**53 + 1,
    -(2**53) - 1,
    1e300,
    10**30,
]


@pytest.mark.parametrize("exp", [LEFT_OUT, *NO_TIMES], ids=str)
def test_exp_that_is_no_numeric_date_is_rejected_without_a_key(exp: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        parse(token(exp=exp), AUDIENCES, ISSUERS)
    assert caught.value.code is INVALID


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"NaN", b"Infinity"])
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_a_time_must_be_finite(name: str, number: bytes) -> None:
    changes: dict[str, Any] = {name: "@"}
    payload = json.dumps(claims(**changes)).encode().replace(b'"@"', number)
    assert outcome(SIGNER.compact(json.dumps(HEADER_MEMBERS).encode(), payload)) is INVALID


# -- signatures ---------------------------------------------------------------------------------------


def with_signature(data: bytes, text: str = GOOD) -> str:
    return f"{text.rpartition('.')[0]}.{b64url(data)}"


R, S = (int.from_bytes(unb64url(SIGNATURE)[at : at + 32], "big") for at in (0, 32))


def raw(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


SIGNATURES = {
    "zero and zero": raw(0, 0),
    "r zero": raw(0, S),
    "s zero": raw(R, 0),
    "one and one": raw(1, 1),
    "r the order": raw(ORDER, S),
    "s the order": raw(R, ORDER),
    "all ones": b"\xff" * 64,
    "swapped": raw(S, R),
    "r negated": raw(ORDER - R, S),
    "s one off": raw(R, S ^ 1),
    "reversed": unb64url(SIGNATURE)[::-1],
    "a hash": b"\x01" * 64,
}


@pytest.mark.parametrize("data", SIGNATURES.values(), ids=SIGNATURES)
def test_invalid_signature_is_rejected(data: bytes) -> None:
    assert detail(with_signature(data)) == "the signature does not hold"


@pytest.mark.parametrize(
    "data",
    [b"", b"\1", b"\1" * 32, b"\1" * 63, b"\1" * 65, b"\1" * 96, encode_dss_signature(R, S)],
    ids=["0", "1", "32", "63", "65", "96", "der"],
)
def test_signature_of_another_length_is_rejected(data: bytes) -> None:
    """Among them DER, which other libraries accept."""
    assert outcome(with_signature(data)) is INVALID


def test_signature_with_negated_s_is_accepted() -> None:
    """Every ES256 signature has a second valid form (threat B5), so the text of a token identifies nothing."""
    assert verify(with_signature(raw(R, ORDER - S))).user_id == USER_ID


@pytest.mark.parametrize("at", [0, 32], ids=["r", "s"])
def test_signature_number_with_leading_zeros_must_be_padded(at: int) -> None:
    for _ in range(20_000):
        text = token()
        data = unb64url(parts(text)[2])
        if data[at] == 0:
            assert verify(text).user_id == USER_ID
            assert outcome(with_signature(data[:at] + data[at + 1 :], text)) is INVALID
            return
    raise AssertionError("no such signature came up")


@pytest.mark.parametrize(
    "sign",
    [
        SIGNERS[NORMAL][1].sign,
        STRANGER.sign,
        SIGNERS[ANONYMOUS][0].sign,
        lambda data: SIGNER.sign(data.rpartition(b".")[2]),
        lambda data: SIGNER.sign(data + b"."),
        lambda data: _dss(SIGNER, data, hashes.SHA384()),
        lambda data: _dss(SIGNER, data, hashes.SHA512()),
    ],
    ids=[
        "the second key",
        "a stranger's",
        "another type's",
        "the payload alone",
        "one byte more",
        "sha-384",
        "sha-512",
    ],
)
def test_signature_by_another_key_or_over_other_bytes_is_rejected(sign: Callable[[bytes], bytes]) -> None:
    signing_input = GOOD.rpartition(".")[0]
    assert detail(f"{signing_input}.{b64url(sign(signing_input.encode()))}") == "the signature does not hold"


def _dss(signer: Signer, data: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    return raw(*decode_dss_signature(signer.private.sign(data, ec.ECDSA(algorithm))))


def test_parts_of_two_valid_tokens_do_not_combine() -> None:
    one, other = parts(token(name="one")), parts(token(name="other"))
    for mixed in ([one[0], other[1], one[2]], [one[0], one[1], other[2]]):
        assert detail(".".join(mixed)) == "the signature does not hold"


def test_flipped_bits_are_rejected() -> None:
    """Every seventh bit of the text, so each bit of a byte somewhere."""
    data = bytearray(GOOD.encode())
    accepted = []
    for bit in range(0, len(data) * 8, 7):
        data[bit // 8] ^= 1 << bit % 8
        if isinstance(outcome(data.decode("latin-1")), User):
            accepted.append(bit)
        data[bit // 8] ^= 1 << bit % 8
    assert accepted == []
    assert data.decode() == GOOD


# -- claims of a token whose signature held -----------------------------------------------------------


@pytest.mark.parametrize(
    "sub",
    [
        LEFT_OUT, None, "", 5, True, [USER_ID], {}, "me", f"{USER_ID} ", f"{USER_ID}\n", USER_ID.upper().replace("2",
        "A"), USER_ID[:-1],
        f"{USER_ID}0", "../users", "a\r\nb: c", "\0", "\ud800", "x" * 3000, "\uff12" + USER_ID[1:],
        USER_ID.replace("-", ""),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_sub_that_is_not_a_user_id_is_rejected(sub: Any) -> None:
    """It is used in lookups and logs; Stack Auth only sends UUIDs in lower case."""
    assert detail(token(sub=sub)) == "sub is not a user id"


@pytest.mark.parametrize(
    "changes",
    [
        {"branch_id": LEFT_OUT},
        {"branch_id": "dev"},
        {"branch_id": "Main"},
        {"branch_id": "main "},
        {"branch_id": None},
        {"branch_id": ""},
        {"branch_id": ["main"]},
        {"branch_id": None, "branchId": "main"},
        {"branch_id": "dev", "branchId": "main"},
        {"branch_id": LEFT_OUT, "branchId": "dev"},
        {"branch_id": LEFT_OUT, "branchId": None},
    ],
    ids=str,
)
def test_token_of_another_branch_is_rejected(changes: dict[str, Any]) -> None:
    """Branches share audience and keys; only this claim distinguishes them."""
    assert detail(token(**changes)) == "a token of another branch"


LEGACY: list[tuple[UserType, dict[str, Any]]] = [
    (NORMAL, {"is_restricted": LEFT_OUT, "restricted_reason": LEFT_OUT}),
    (NORMAL, {"is_anonymous": LEFT_OUT, "is_restricted": LEFT_OUT, "restricted_reason": LEFT_OUT}),
    (NORMAL, {"is_restricted": None, "restricted_reason": None}),
    (NORMAL, {"branch_id": LEFT_OUT, "branchId": "main"}),
    (NORMAL, {"refresh_token_id": LEFT_OUT, "refreshTokenId": "s"}),
    (NORMAL, {"refresh_token_id": LEFT_OUT}),
    (
        NORMAL,
        {
            "signed_up_at": LEFT_OUT,
            "requires_totp_mfa": LEFT_OUT,
            "iat": LEFT_OUT,
            "project_id": LEFT_OUT,
            "role": LEFT_OUT,
        },
    ),
    (ANONYMOUS, {"is_restricted": LEFT_OUT, "restricted_reason": LEFT_OUT}),
    (ANONYMOUS, {"is_restricted": LEFT_OUT}),
    (ANONYMOUS, {"restricted_reason": LEFT_OUT}),
    (ANONYMOUS, {"restricted_reason": None}),
    (ANONYMOUS, {"is_restricted": None}),
    (RESTRICTED, {"is_anonymous": LEFT_OUT}),
    (RESTRICTED, {"restricted_reason": {"type": "restricted_by_administrator"}}),
    (RESTRICTED, {"restricted_reason": {}}),
]


@pytest.mark.parametrize(("kind", "changes"), LEGACY, ids=str)
def test_claims_of_older_tokens_get_the_defaults_of_the_back_end(kind: UserType, changes: dict[str, Any]) -> None:
    assert verify(token(kind, **changes)).user_type is kind


DISAGREE: list[tuple[UserType, dict[str, Any]]] = [
    (NORMAL, {"is_anonymous": True}),
    (NORMAL, {"is_restricted": True}),
    (NORMAL, {"is_restricted": True, "restricted_reason": {"type": "email_not_verified"}}),
    (NORMAL, {"is_anonymous": True, "is_restricted": True, "restricted_reason": {"type": "anonymous"}}),
    (NORMAL, {"restricted_reason": {"type": "email_not_verified"}}),
    (NORMAL, {"restricted_reason": ""}),
    (NORMAL, {"restricted_reason": False}),
    (NORMAL, {"is_anonymous": None}),
    (NORMAL, {"is_anonymous": 0}),
    (NORMAL, {"is_anonymous": "false"}),
    (NORMAL, {"is_restricted": 0}),
    (NORMAL, {"is_restricted": ""}),
    (RESTRICTED, {"is_restricted": False, "restricted_reason": None}),
    (RESTRICTED, {"is_restricted": False}),
    (RESTRICTED, {"is_restricted": LEFT_OUT}),
    (RESTRICTED, {"is_restricted": 1}),
    (RESTRICTED, {"is_restricted": "true"}),
    (RESTRICTED, {"is_anonymous": True}),
    (RESTRICTED, {"restricted_reason": None}),
    (RESTRICTED, {"restricted_reason": LEFT_OUT}),
    (RESTRICTED, {"restricted_reason": "email_not_verified"}),
    (RESTRICTED, {"restricted_reason": ["email_not_verified"]}),
    (ANONYMOUS, {"is_anonymous": False}),
    (ANONYMOUS, {"is_anonymous": LEFT_OUT}),
    (ANONYMOUS, {"is_anonymous": 1}),
    (ANONYMOUS, {"is_anonymous": "true"}),
    (ANONYMOUS, {"is_restricted": False}),
    (ANONYMOUS, {"is_restricted": False, "restricted_reason": None}),
    (ANONYMOUS, {"restricted_reason": "anonymous"}),
    (ANONYMOUS, {"restricted_reason": []}),
]


@pytest.mark.parametrize(("kind", "changes"), DISAGREE, ids=str)
def test_flags_that_disagree_with_the_audience_are_rejected(kind: UserType, changes: dict[str, Any]) -> None:
    """The back end answers 500 to these; here they are invalid tokens."""
    assert detail(token(kind, **changes)) == "the flags and the audience disagree"


@pytest.mark.parametrize("name", ["iat", "nbf"])
@pytest.mark.parametrize("value", NO_TIMES, ids=str)
def test_iat_and_nbf_must_be_numeric_dates(name: str, value: Any) -> None:
    assert detail(token(**{name: value})) == f"{name} is not a finite number"


@pytest.mark.parametrize("jti", [None, 5, True, [], {}], ids=str)
def test_jti_must_be_a_string(jti: Any) -> None:
    """RFC 7519 section 4.1.7; Stack Auth sends none."""
    assert detail(token(jti=jti)) == "jti is not a string"


@pytest.mark.parametrize(
    ("exp", "wall", "leeway", "passes"),
    [
        (100, 99.999, 0, True),
        (100, 100, 0, False),
        (100, 104.999, 5, True),
        (100, 105, 5, False),
        (100.5, 100.25, 0, True),
        (100.5, 100.5, 0, False),
        (100, 399.999, 300, True),
        (100, 400, 300, False),
        (0, 0, 0, False),
        (-1, -2, 0, True),
        (2**53, WALL, 0, True),
    ],
)
def test_exp_is_exclusive_after_the_leeway(exp: float, wall: float, leeway: float, passes: bool) -> None:
    """RFC 7519 section 4.1.4: "on or after" it the token must not be accepted."""
    found = outcome(token(exp=exp, iat=LEFT_OUT), wall=wall, leeway=leeway)
    assert (isinstance(found, User), found is EXPIRED) == (passes, not passes)


@pytest.mark.parametrize(
    ("nbf", "wall", "leeway", "passes"),
    [
        (100, 100, 0, True),
        (100, 99.999, 0, False),
        (100, 95, 5, True),
        (100, 94.999, 5, False),
        (100.5, 100.25, 0, False),
        (100.5, 100.25, 0.25, True),
        (-(2**53), 0, 0, True),
    ],
)
def test_nbf_is_inclusive_before_the_leeway(nbf: float, wall: float, leeway: float, passes: bool) -> None:
    found = outcome(token(nbf=nbf, exp=1000), wall=wall, leeway=leeway)
    assert isinstance(found, User) is passes
    assert passes or found is INVALID


@pytest.mark.parametrize("ahead", [1, 5, 60, 86_400, 10**9])
def test_iat_in_the_future_is_accepted(ahead: float) -> None:
    """PyJWT would refuse it: a host whose clock lags by a second locks out every fresh login."""
    assert verify(token(iat=WALL + ahead, exp=WALL + ahead + 600)).user_id == USER_ID


@pytest.mark.parametrize(
    ("changes", "signer"),
    [
        ({}, STRANGER),
        ({"sub": "me"}, SIGNER),
        ({"branch_id": "dev"}, SIGNER),
        ({"is_restricted": True}, SIGNER),
        ({"iat": "x"}, SIGNER),
        ({"nbf": WALL + 100}, SIGNER),
        ({"aud": OTHER_PROJECT}, SIGNER),
        ({"iss": "x"}, SIGNER),
    ],
    ids=["forged", "sub", "branch", "flags", "iat", "nbf", "aud", "iss"],
)
def test_expired_token_is_reported_only_if_nothing_else_is_wrong(changes: dict[str, Any], signer: Signer) -> None:
    """A front end refreshes on `expired_token`; an attacker must not learn that the rest was valid."""
    assert outcome(token(signer=signer, exp=WALL - 1000, **changes)) is INVALID
    assert outcome(token(exp=WALL - 1000)) is EXPIRED


@pytest.mark.parametrize("key", UserType, ids=lambda kind: f"key-{kind}")
@pytest.mark.parametrize("aud", UserType, ids=lambda kind: f"aud-{kind}")
def test_key_audience_issuer_and_flags_must_agree(key: UserType, aud: UserType) -> None:
    """Of 81 combinations 3 are accepted."""
    for iss, flags in product(UserType, UserType):
        text = SIGNERS[key][0].token(
            claims(
                flags,
                aud=PROJECT + SUFFIXES[aud],
                iss=f"{API}/api/v1/{PATHS[iss]}/{PROJECT}",
            )
        )
        found = outcome(text)
        if key is aud is iss is flags:
            assert isinstance(found, User)
            assert found.user_type is key
        else:
            assert found is INVALID


def test_same_kid_in_two_key_sets_is_two_keys() -> None:
    """A key verifies tokens of its user type only, even if ids collide."""
    normal, anonymous = Signer(7, "same"), Signer(8, "same")
    parsed = parse(normal.token(claims(ANONYMOUS)), AUDIENCES, ISSUERS)
    assert (parsed.kid, parsed.user_type) == ("same", ANONYMOUS)
    with pytest.raises(RefusedError):
        check_signature(parsed, anonymous.public)


# -- oracles ------------------------------------------------------------------------------------------


class _WithoutIat(joserfc.jwt.JWTClaimsRegistry):
    def validate_iat(self, value: object) -> None:
        """Check the type only, as Stack Auth's back end does."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise joserfc.errors.InvalidClaimError("iat")


def joserfc_accepts(text: str, signer: Signer, kind: UserType, iss: str, wall: float) -> bool:
    found = joserfc.jwt.decode(text, joserfc.jwk.ECKey.import_key(signer.jwk()), algorithms=["ES256"])
    registry = _WithoutIat(
        now=wall,
        leeway=LEEWAY,
        iss={"essential": True, "value": iss},
        aud={"essential": True, "value": PROJECT + SUFFIXES[kind]},
        sub={"essential": True},
        exp={"essential": True},
    )
    registry.validate(found.claims)
    return True


def pyjwt_accepts(text: str, signer: Signer, kind: UserType, iss: str) -> bool:
    """Hardened: issuer, strict audience, required claims. Its clock is the real one."""
    jwt.decode(
        text,
        jwt.PyJWK(signer.jwk()),
        algorithms=["ES256"],
        audience=PROJECT + SUFFIXES[kind],
        issuer=iss,
        leeway=LEEWAY,
        options={"require": ["exp", "sub", "aud", "iss"], "strict_aud": True, "verify_iat": False},
    )
    return True


REAL_NOW = int(time.time())
"""PyJWT reads the real clock; the times below are far from it, so that slow runs do not matter."""
CLAIM_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.sampled_from(
        [LEFT_OUT, "", "main", "normal", PROJECT, USER_ID, ISS, [PROJECT], {"type": "anonymous"}, {}, 1e300]
    ),
)
TIMES = st.sampled_from([-100_000, -1000, 1000, 100_000])


@st.composite
def almost_good(draw: st.DrawFn) -> tuple[str, Signer, UserType, int]:
    """Draw a valid token with a few changes, some of them harmless."""
    now = REAL_NOW
    kind = draw(st.sampled_from(UserType))
    signer = draw(st.sampled_from([*SIGNERS[kind], STRANGER, SIGNERS[NORMAL][0]]))
    changes = {
        "exp": now + 1000,
        "iat": now,
        **draw(st.dictionaries(st.sampled_from([*claims(), "nbf", "branchId"]), CLAIM_VALUES, max_size=2)),
    }
    for name in draw(st.lists(st.sampled_from(["exp", "nbf"]), max_size=2)):
        changes[name] = now + draw(TIMES)
    header = draw(
        st.dictionaries(
            st.sampled_from(["alg", "kid", "typ", "crit", "cty"]),
            st.sampled_from(["ES256", "none", "JWT", "jwt", signer.kid, LEFT_OUT, None]),
            max_size=1,
        )
    )
    text = signer.token(claims(kind, **changes), **header)
    cut = draw(st.integers(0, len(text)))
    text = draw(
        st.sampled_from(
            [
                text,
                text,
                text,
                text + "=",
                text + "==",
                text[:cut] + text[cut + 1 :],
                text[:cut] + "A" + text[cut:],
                " " + text,
            ]
        )
    )
    return text, signer, kind, now


@settings(bounded, max_examples=300)
@given(almost_good())
def test_accepted_token_is_accepted_by_pyjwt_and_joserfc(drawn: tuple[str, Signer, UserType, int]) -> None:
    """We are never more permissive than either, and raise nothing but a `RefusedError`."""
    text, _, _, now = drawn
    found = outcome(text, wall=now)
    if isinstance(found, User):
        parsed = parse(text, AUDIENCES, ISSUERS)
        signer = next(each for each in SIGNERS[found.user_type] if each.kid == parsed.kid)
        assert pyjwt_accepts(text, signer, found.user_type, parsed.claims["iss"])
        assert joserfc_accepts(text, signer, found.user_type, parsed.claims["iss"], now)
        assert found.claims == json.loads(base64.urlsafe_b64decode(parts(text)[1] + "=="))


@pytest.mark.parametrize("offset", [-10, -5.001, -4.999, 0, 4.999, 5, 5.001, 10])  # its releases differ about -5
@pytest.mark.parametrize("name", ["exp", "nbf"])
def test_time_boundaries_are_those_of_joserfc(name: str, offset: float) -> None:
    times: dict[str, Any] = {"exp": WALL + 1000, name: WALL + offset}
    text = token(**times)
    try:
        expected = joserfc_accepts(text, SIGNER, NORMAL, ISS, WALL)
    except joserfc.errors.JoseError:
        expected = False
    assert isinstance(outcome(text), User) is expected


def test_oracles_reject_bad_tokens() -> None:
    now = time.time()
    for text in (token(exp=now - 100), token(exp=now + 100, signer=STRANGER), token(exp=now + 100, aud="x")):
        with pytest.raises(jwt.PyJWTError):
            pyjwt_accepts(text, SIGNER, NORMAL, ISS)
        with pytest.raises(joserfc.errors.JoseError):
            joserfc_accepts(text, SIGNER, NORMAL, ISS, now)
    assert pyjwt_accepts(token(exp=now + 100), SIGNER, NORMAL, ISS)
    assert joserfc_accepts(token(exp=now + 100), SIGNER, NORMAL, ISS, now)


@bounded
@given(
    st.text()
    | st.lists(st.sampled_from([HEADER, PAYLOAD, SIGNATURE, ".", "=", "A", "\x00", "\ud800"]), max_size=8).map("".join)
)
@example(".".join(["e30"] * 3))
@example(f"{HEADER}.bnVsbA.{SIGNATURE}")
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    try:
        found: Token | RefusedError = parse(text, AUDIENCES, ISSUERS)
    except RefusedError as error:
        found = error
    assert isinstance(found, Token) or (found.code is INVALID and found.__cause__ is None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@bounded
@given(
    header=JSON | st.dictionaries(st.sampled_from(["alg", "kid", "typ"]), JSON | st.just("ES256"), max_size=3),
    payload=JSON,
    changes=st.dictionaries(st.sampled_from(list(claims())), JSON, max_size=3),
)
def test_any_signed_json_is_a_user_or_rejected(header: Any, payload: Any, changes: dict[str, Any]) -> None:
    """Whatever the issuer signs, there is no other exception."""
    texts = [
        SIGNER.compact(json.dumps(header).encode(), claims()),
        SIGNER.compact(json.dumps(HEADER_MEMBERS).encode(), json.dumps(payload).encode()),
        SIGNER.token(claims(**changes)),
    ]
    for text in texts:
        found = outcome(text)
        assert found in (INVALID, EXPIRED) or (isinstance(found, User) and hash(found) == hash(verify(text)))


@pytest.mark.parametrize(
    "text",
    [*FORMS.values(), token(signer=STRANGER), token(sub="canary")],
    ids=lambda text: text[:12],
)
def test_rejection_quotes_no_part_of_the_token(text: str) -> None:
    """Neither in the message nor in a chained exception, which loggers print."""
    with pytest.raises(RefusedError) as caught:
        verify(text)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(caught.value.detail) < 80
    assert all(part not in str(caught.value) for part in text.split(".") if len(part) > 8)


def test_python_readers_are_still_lenient() -> None:
    """If Python becomes strict, our checks can go."""
    assert base64.urlsafe_b64decode("QU JD") == b"ABC"
    assert json.loads('{"a":1,"a":2}') == {"a": 2}


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deeply_nested_json_is_rejected_on_every_python(opening: str) -> None:
    """Some releases parse a thousand levels and then cannot freeze the claims."""
    closing = "]" if opening == "[" else "}"
    for depth, accepted in ((120, True), (129, False), (900, False)):
        nested = json.loads(opening * depth + "0" + closing * depth)
        assert isinstance(outcome(token(x=nested)), User) is accepted, depth


def test_brackets_in_strings_do_not_count_as_containers() -> None:
    """Users choose their display names."""
    assert isinstance(outcome(token(name='"[{' * 500, x=[[]] * 100)), User)


@pytest.mark.parametrize("part", ["{}", "[]", "[{}]", '{"a":[]}'])
def test_token_of_many_containers_is_rejected_before_parsing(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each object costs a call of the JSON reader, before the signature is checked."""
    data = json.dumps(claims(name='"[')).encode()[:-1] + b',"x":[%b]}' % b",".join([part.encode()] * 500)
    hostile = SIGNER.compact(json.dumps(HEADER_MEMBERS).encode(), data)
    assert outcome(token()) == outcome(token())  # the header is cached
    monkeypatch.setattr(tokens, "_STRICT_JSON", None)
    assert outcome(hostile) is ErrorCode.INVALID_TOKEN


def test_foreign_token_says_what_came_and_what_was_expected() -> None:
    error = ForeignToken(ErrorCode.INVALID_TOKEN, "a token of another issuer")
    error.advice = "iss is 'a', expected 'b'; is issuer_url right?"
    assert str(error) == "invalid_token: a token of another issuer: iss is 'a', expected 'b'; is issuer_url right?"
