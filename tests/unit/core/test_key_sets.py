"""JWK Sets: which keys a document holds, how old a key set is, and which action follows."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core import key_sets
from stackauth_middleware._core.clocks import elapsed
from stackauth_middleware._core.key_sets import (
    ACTIONS,
    FRESH_FOR,
    MAX_BYTES,
    MIN_FETCH_INTERVAL,
    MIN_FRESH_FOR,
    STALE_IF_ERROR,
    Action,
    Age,
    Document,
    Key,
    KeySet,
    call,
    is_unsupported,
    read,
)
from stackauth_middleware._core.records import Clocks
from stackauth_middleware._core.tokens import ES256
from stackauth_middleware._core.upstream import Failure, ShareEnd
from stackauth_middleware._core.users import UserType
from stackauth_middleware.errors import ErrorCode
from tests.data import load_recorded

from .helpers import (
    ANONYMOUS,
    BROKEN,
    DOCUMENTS,
    LEFT_OUT,
    NO_REPLIES,
    NORMAL,
    NOW,
    RESTRICTED,
    SIGNERS,
    Signer,
    b64url,
    bounded,
    document,
    reply,
    unb64url,
)

ONE, TWO = SIGNERS[NORMAL]
FIELD = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF


def short(coordinate: str) -> Signer:
    """Return a key whose `coordinate` begins with a zero byte."""
    at = "xy".index(coordinate)
    return next(signer for signer in (Signer(n, "short") for n in range(2, 5000)) if signer.point[at][0] == 0)


def points(*published: Any) -> dict[str, tuple[bytes, bytes]]:
    found = read(reply({"keys": list(published)}), NOW)
    assert isinstance(found, Document), found
    return dict(found.points)


def failure(answer: Any) -> Failure:
    found = read(answer, NOW)
    assert isinstance(found, Failure), found
    return found


# -- usable keys --------------------------------------------------------------------------------------


def test_document_is_read_as_keys_by_id() -> None:
    assert points(ONE.jwk(), TWO.jwk()) == {ONE.kid: ONE.point, TWO.kid: TWO.point}


@pytest.mark.parametrize("name", ["tokens-hosted", "tokens-hexclave", "tokens-short-coordinate"])
def test_real_documents_hold_two_keys_for_each_user_type(name: str) -> None:
    """One of the projects has a coordinate of 31 bytes; its key must be usable too."""
    real = load_recorded(name)["jwks"]
    found = {kind: read(reply(real[kind.value]), NOW) for kind in UserType}
    for kind, below in ((NORMAL, None), (RESTRICTED, NORMAL), (ANONYMOUS, RESTRICTED)):
        whole = found[kind]
        assert isinstance(whole, Document)
        smaller = found[below] if below else Document({})
        assert isinstance(smaller, Document)
        own = whole.less(smaller)
        assert isinstance(own, Document)
        keys = own.keys({})
        expected = [jwk["kid"] for jwk in real[kind.value]["keys"]][-2:]
        assert list(keys) == expected
        for jwk in real[kind.value]["keys"][-2:]:
            numbers = keys[jwk["kid"]].public.public_numbers()
            assert (numbers.x, numbers.y) == tuple(int.from_bytes(unb64url(jwk[each]), "big") for each in "xy")


def test_recorded_project_has_a_short_coordinate() -> None:
    """Precondition of the test above."""
    real = load_recorded("tokens-short-coordinate")["jwks"]["normal"]
    assert min(len(unb64url(jwk[each])) for jwk in real["keys"] for each in "xy") == 31


@pytest.mark.parametrize("coordinate", ["x", "y"])
def test_coordinate_without_leading_zeros_is_padded(coordinate: str) -> None:
    """Stack Auth publishes about one key in 128 like this, and PyJWT rejects it (threat D9)."""
    signer = short(coordinate)
    stripped = b64url(unb64url(signer.jwk()[coordinate]).lstrip(b"\0"))
    found = points(signer.jwk(**{coordinate: stripped}))
    assert found == {"short": signer.point}
    (key,) = Document(found).keys({}).values()
    assert key.public.public_numbers() == signer.public.public_numbers()


UNUSABLE: dict[str, Any] = {
    "null": None,
    "a text": "key",
    "a list": [],
    "empty": {},
    "another kty": ONE.jwk(kty="RSA"),
    "kty oct": {"kty": "oct", "kid": ONE.kid, "k": "AAAA", "alg": "HS256"},
    "kty okp": {"kty": "OKP", "crv": "Ed25519", "kid": ONE.kid, "x": ONE.jwk()["x"]},
    "kty rsa": {"kty": "RSA", "kid": ONE.kid, "n": "AQAB", "e": "AQAB"},
    "kty in another case": ONE.jwk(kty="ec"),
    "no kty": ONE.jwk(kty=LEFT_OUT),
    "another crv": ONE.jwk(crv="P-384"),
    "crv secp256k1": ONE.jwk(crv="secp256k1"),
    "no crv": ONE.jwk(crv=LEFT_OUT),
    "crv as a list": ONE.jwk(crv=["P-256"]),
    "alg es384": ONE.jwk(alg="ES384"),
    "alg none": ONE.jwk(alg="none"),
    "alg null": ONE.jwk(alg=None),
    "alg hs256": ONE.jwk(alg="HS256"),
    "use enc": ONE.jwk(use="enc"),
    "use null": ONE.jwk(use=None),
    "key_ops encrypt": ONE.jwk(key_ops=["encrypt"]),
    "key_ops sign": ONE.jwk(key_ops=["sign"]),
    "key_ops empty": ONE.jwk(key_ops=[]),
    "key_ops text": ONE.jwk(key_ops="verify"),
    "key_ops null": ONE.jwk(key_ops=None),
    "private": ONE.jwk(d=b64url(b"\1" * 32)),
    "private, empty": ONE.jwk(d=""),
    "private, null": ONE.jwk(d=None),
    "no kid": ONE.jwk(kid=LEFT_OUT),
    "kid null": ONE.jwk(kid=None),
    "kid a number": ONE.jwk(kid=5),
    "kid a list": ONE.jwk(kid=["a"]),
    "kid empty": ONE.jwk(kid=""),
    "kid too long": ONE.jwk(kid="x" * 129),
    "no x": ONE.jwk(x=LEFT_OUT),
    "x null": ONE.jwk(x=None),
    "x a number": ONE.jwk(x=5),
    "x empty": ONE.jwk(x=""),
    "x of 33 bytes": ONE.jwk(x=b64url(b"\0" + ONE.point[0])),
    "x of 48 bytes": ONE.jwk(x=b64url(b"\1" * 48)),
    "x of 5000 bytes": ONE.jwk(x="A" * 5000),
    "x padded": ONE.jwk(x=ONE.jwk()["x"] + "="),
    "x in the other alphabet": ONE.jwk(x="+/" * 21 + "A"),
    "x of five characters": ONE.jwk(x="AAAAA"),
    "x with a blank": ONE.jwk(x=" " + ONE.jwk()["x"]),
    "x beyond ascii": ONE.jwk(x="\u0391" * 43),
    "no y": ONE.jwk(y=LEFT_OUT),
    "y empty": ONE.jwk(y=""),
}


@pytest.mark.parametrize("jwk", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_key_is_skipped(jwk: Any) -> None:
    """RFC 7517 section 5. One odd key must not lock out a project."""
    assert points(jwk, TWO.jwk()) == points(TWO.jwk(), jwk) == {TWO.kid: TWO.point}


@pytest.mark.parametrize("jwk", UNUSABLE.values(), ids=UNUSABLE)
def test_document_without_usable_key_is_a_failure(jwk: Any) -> None:
    assert failure(reply({"keys": [jwk]})) == Failure(ErrorCode.SERVER_ERROR, "a JWK Set without a usable key")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"alg": LEFT_OUT},
        {"use": "sig"},
        {"key_ops": ["verify"]},
        {"key_ops": ["sign", "verify"]},
        {"key_ops": [[], {}, None, "verify"]},
        {"kid": "x" * 128},
        {"kid": "\u00e9 \0"},
        {"x5c": ["MIIB"], "x5t": "x", "unknown": {}},
    ],
    ids=str,
)
def test_key_with_allowed_members_is_usable(changes: dict[str, Any]) -> None:
    assert list(points(ONE.jwk(**changes)).values()) == [ONE.point]


OFF = {
    "y one off": ONE.jwk(y=b64url((int.from_bytes(ONE.point[1], "big") ^ 1).to_bytes(32, "big"))),
    "the origin": ONE.jwk(x="AA", y="AA"),
    "x the prime": ONE.jwk(x=b64url(FIELD.to_bytes(32, "big"))),
    "all ones": ONE.jwk(x=b64url(b"\xff" * 32), y=b64url(b"\xff" * 32)),
    "swapped": ONE.jwk(x=b64url(ONE.point[1]), y=b64url(ONE.point[0])),
}


@pytest.mark.parametrize("jwk", OFF.values(), ids=OFF)
def test_point_off_the_curve_is_skipped(jwk: dict[str, Any]) -> None:
    assert list(Document(points(jwk, TWO.jwk())).keys({})) == [TWO.kid]
    assert Document(points(jwk)).keys({}) == {}


def test_imported_key_is_on_p256() -> None:
    (key,) = Document(points(ONE.jwk())).keys({}).values()
    assert isinstance(key.public, ec.EllipticCurvePublicKey)
    assert isinstance(key.public.curve, ec.SECP256R1)
    assert key.point == ONE.point


@pytest.mark.parametrize(
    "made", [ONE.private, ec.derive_private_key(5, ec.SECP384R1()).public_key()], ids=["private", "p-384"]
)
def test_imported_object_is_checked_again(monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    """A PyJWT that took another curve or a private key would be caught."""
    monkeypatch.setattr(ES256, "from_jwk", lambda _: made)
    assert Document({"k": ONE.point}).keys({}) == {}


def test_the_same_key_twice_is_one_key() -> None:
    signer = short("x")
    stripped = signer.jwk(x=b64url(signer.point[0].lstrip(b"\0")))
    assert points(signer.jwk(), signer.jwk(), stripped) == {"short": signer.point}


def test_id_of_two_conflicting_keys_is_dropped() -> None:
    """Otherwise the order of the document would decide which key verifies (threat F9)."""
    assert points(ONE.jwk(), TWO.jwk(kid=ONE.kid), TWO.jwk()) == {TWO.kid: TWO.point}
    assert failure(reply({"keys": [ONE.jwk(), TWO.jwk(kid=ONE.kid)]})).detail == "a JWK Set without a usable key"


def test_id_of_a_usable_and_an_unusable_key_is_kept() -> None:
    assert points(ONE.jwk(), TWO.jwk(kid=ONE.kid, use="enc")) == {ONE.kid: ONE.point}


def test_document_of_exactly_the_size_limit_is_read() -> None:
    signers = [Signer(5000 + number, f"kid-{number}") for number in range(300)]
    text = json.dumps({"keys": [signer.jwk() for signer in signers]})
    assert len(text) < MAX_BYTES == 65_536
    found = read(reply(text.ljust(MAX_BYTES).encode()), NOW)
    assert isinstance(found, Document)
    assert len(found.points) == 300


# -- failures ------------------------------------------------------------------------------------------

BODIES = {
    "empty": b"",
    "html": b"<!doctype html><title>502</title>",
    "truncated": json.dumps(document(NORMAL)).encode()[:-5],
    "null": b"null",
    "a number": b"5",
    "a text": b'"keys"',
    "a list": b"[]",
    "a list of keys": json.dumps(document(NORMAL)["keys"]).encode(),
    "no keys": b"{}",
    "keys null": b'{"keys":null}',
    "keys an object": b'{"keys":{}}',
    "keys an object of keys": json.dumps({"keys": {"a": ONE.jwk()}}).encode(),
    "keys a text": b'{"keys":"abc"}',
    "keys a number": b'{"keys":5}',
    "keys empty": b'{"keys":[]}',
    "an error": b'{"code":"SCHEMA_ERROR","error":"x"}',
    "no utf-8": b'{"keys":["\xff"]}',
    "utf-16": json.dumps(document(NORMAL)).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(document(NORMAL)).encode(),
    "deep": b"[" * 30_000,
    "deep keys": b'{"keys":' + b"[" * 30_000,
    "5000 digits": b'{"keys":[' + b"9" * 5000 + b"]}",
    "two documents": json.dumps(document(NORMAL)).encode() * 2,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_body_that_is_not_a_jwk_set_is_a_failure(body: bytes) -> None:
    """Threat F5: no exception, and no part of the body in the log."""
    found = failure(reply(body))
    assert found.code is ErrorCode.SERVER_ERROR
    assert found.detail in ("an answer that is no JWK Set", "a JWK Set without a usable key")


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (201, {}, ErrorCode.SERVER_ERROR),
        (204, {}, ErrorCode.SERVER_ERROR),
        (206, {}, ErrorCode.SERVER_ERROR),
        (301, {"location": "http://169.254.169.254/"}, ErrorCode.SERVER_ERROR),
        (304, {}, ErrorCode.SERVER_ERROR),
        (400, {}, ErrorCode.SERVER_ERROR),
        (401, {}, ErrorCode.MISCONFIGURED),
        (403, {}, ErrorCode.SERVER_ERROR),
        (404, {}, ErrorCode.MISCONFIGURED),
        (429, {}, ErrorCode.SERVER_ERROR),
        (500, {}, ErrorCode.SERVER_ERROR),
        (503, {}, ErrorCode.SERVER_ERROR),
        (200, {"x_stack_actual_status": "404"}, ErrorCode.MISCONFIGURED),
        (200, {"x_hexclave_actual_status": "500"}, ErrorCode.SERVER_ERROR),
    ],
    ids=str,
)
def test_status_other_than_200_is_a_failure_despite_a_valid_body(
    status: int, headers: dict[str, str], code: ErrorCode
) -> None:
    """Threat F6. 401 and 404 mean that the configured project is wrong."""
    found = failure(reply(document(NORMAL), status, **headers))
    assert found.code is code
    hint = " (check project_id and api_url)" if code is ErrorCode.MISCONFIGURED else ""
    assert found.detail == f"status {reply(b'', status, **headers).meant_status}{hint}"


def test_failure_keeps_retry_after() -> None:
    assert failure(reply(b"", 429, retry_after="30")).retry_after == 30
    assert failure(reply(b"", 429, retry_after="86400")).retry_after == 60
    assert failure(reply(b"", 503)).retry_after is None


@pytest.mark.parametrize("answer", [*NO_REPLIES, ShareEnd.FULL], ids=str)
def test_missing_reply_is_a_failure_with_its_reason(answer: Any) -> None:
    assert failure(answer) == Failure(ErrorCode.SERVER_ERROR, str(answer))


@pytest.mark.parametrize(
    ("answer", "unsupported"),
    [
        (reply(b"", 400), True),
        (reply(b"", 200, x_stack_actual_status="400"), True),
        (reply(b"", 404), False),
        (reply(document(NORMAL)), False),
        (BROKEN, False),
    ],
    ids=["400", "hidden 400", "404", "200", "none"],
)
def test_status_400_means_an_unsupported_parameter(answer: Any, unsupported: bool) -> None:
    assert is_unsupported(answer) is unsupported


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["EC", "P-256", "sig", "verify", "ES256"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["keys", *ONE.jwk(), "use", "key_ops", "d"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@bounded
@given(
    JSON
    | st.builds(
        lambda keys: {"keys": keys},
        st.lists(
            st.builds(
                lambda changes: {**ONE.jwk(), **changes},
                st.dictionaries(st.sampled_from([*ONE.jwk(), "use", "key_ops", "d"]), JSON, max_size=2),
            ),
            max_size=3,
        ),
    )
)
def test_any_json_is_read_as_a_document_or_failure(body: Any) -> None:
    """Every point that is read is imported or skipped."""
    found = read(reply(body), NOW)
    if isinstance(found, Document):
        assert found.points
        for kid, key in found.keys({}).items():
            assert key.point == found.points[kid]
    else:
        assert found.code is ErrorCode.SERVER_ERROR


@bounded
@given(st.binary(max_size=60))
def test_any_bytes_are_a_failure(body: bytes) -> None:
    assert isinstance(read(reply(body), NOW), Failure)


# -- freshness -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        ("", FRESH_FOR),
        ("public, max-age=3600", FRESH_FOR),
        ("public, max-age=600", 600),
        ("max-age=599", 599),
        ("max-age=120", 120),
        ("max-age=60", 60),
        ("max-age=59", MIN_FRESH_FOR),
        ("max-age=0", MIN_FRESH_FOR),
        ("MAX-AGE=120", 120),
        ("max-age=120, must-revalidate", 120),
        ("max-age=999999999", FRESH_FOR),
        ("max-age=99999999999999999999", FRESH_FOR),
        ("max-age=-5", FRESH_FOR),
        ("max-age=soon", FRESH_FOR),
        ("max-age", FRESH_FOR),
        ("s-maxage=90", FRESH_FOR),
        ("no-store, max-age=0", MIN_FRESH_FOR),
        ("no-cache", MIN_FRESH_FOR),
        ("No-Store", MIN_FRESH_FOR),
        ('private="no-storage"', FRESH_FOR),
        ("immutable", FRESH_FOR),
        ("\xff=;;,,", FRESH_FOR),
    ],
)
def test_cache_control_shortens_freshness_but_never_lengthens_it(cache_control: str, seconds: float) -> None:
    found = read(reply(document(NORMAL), cache_control=cache_control), NOW)
    assert isinstance(found, Document)
    assert found.fresh_for == seconds


@bounded
@given(st.text(st.characters(max_codepoint=0xFF)) | st.from_regex(r"max-age ?= ?\"?\d{1,30}", fullmatch=True))
def test_freshness_is_between_its_bounds_for_any_cache_control(cache_control: str) -> None:
    found = read(reply(document(NORMAL), cache_control=cache_control), NOW)
    assert isinstance(found, Document)
    assert MIN_FRESH_FOR <= found.fresh_for <= FRESH_FOR


# -- differences of documents --------------------------------------------------------------------------


def whole(kind: UserType, **signers: Any) -> Document:
    found = read(reply(document(*DOCUMENTS[kind], **signers)), NOW)
    assert isinstance(found, Document)
    return found


@pytest.mark.parametrize(("kind", "below"), [(RESTRICTED, NORMAL), (ANONYMOUS, RESTRICTED)], ids=str)
def test_keys_of_a_type_are_its_document_without_the_next_smaller_one(kind: UserType, below: UserType) -> None:
    own = whole(kind).less(whole(below))
    assert isinstance(own, Document)
    assert set(own.points) == {signer.kid for signer in SIGNERS[kind]}


@pytest.mark.parametrize(
    "larger",
    [
        {},
        {TWO.kid: TWO.point},
        {ONE.kid: TWO.point, TWO.kid: TWO.point},
        {ONE.kid: ONE.point, "other": TWO.point},
    ],
    ids=["empty", "one missing", "one changed", "one renamed"],
)
def test_conflicting_documents_are_a_failure(larger: dict[str, Any]) -> None:
    """They were fetched across a rotation: a normal key would be taken for a restricted one."""
    smaller = Document({ONE.kid: ONE.point, TWO.kid: TWO.point})
    found = Document(larger).less(smaller)
    assert found == Failure(ErrorCode.SERVER_ERROR, "two key sets that do not fit each other")


def test_document_equal_to_the_smaller_one_has_no_keys() -> None:
    """An older server ignores the parameter and has no such users."""
    smaller = Document({ONE.kid: ONE.point})
    assert smaller.less(smaller) == Document({}, FRESH_FOR)


def test_shorter_freshness_of_two_documents_counts() -> None:
    assert Document({}, 100).less(Document({}, 200)) == Document({}, 100)
    assert Document({}, 200).less(Document({}, 100)) == Document({}, 100)


# -- identity of keys ----------------------------------------------------------------------------------


def test_key_that_is_still_published_stays_the_same_object() -> None:
    """Cached tokens refer to it: a new object would invalidate all of them at each refresh."""
    held = Document(points(ONE.jwk(), TWO.jwk())).keys({})
    again = Document(points(ONE.jwk())).keys(held)
    assert again == {ONE.kid: held[ONE.kid]}
    assert again[ONE.kid] is held[ONE.kid]


def test_replaced_key_under_the_same_id_is_a_new_object() -> None:
    held = Document({"k": ONE.point}).keys({})
    changed = Document({"k": TWO.point}).keys(held)
    assert changed["k"] is not held["k"]
    assert changed["k"].public.public_numbers() == TWO.public.public_numbers()


# -- calls --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "query"),
    [(NORMAL, ""), (RESTRICTED, "?include_restricted=true"), (ANONYMOUS, "?include_anonymous=true")],
    ids=str,
)
@pytest.mark.parametrize("past_caches", [False, True])
def test_call_for_each_document(kind: UserType, query: str, past_caches: bool) -> None:
    """Any other query parameter is answered with 400."""
    made = call("https://api.example/jwks", kind, past_caches=past_caches)
    assert made.url == f"https://api.example/jwks{query}"
    assert made.max_bytes == MAX_BYTES
    expected = {"accept": "application/json"} | ({"cache-control": "no-cache"} if past_caches else {})
    assert made.headers == expected


# -- ages ---------------------------------------------------------------------------------------------

KEYS = {ONE.kid: Key(ONE.point, ONE.public)}


def at(seconds: float) -> Clocks:
    """Return the time `seconds` after `NOW` on both clocks."""
    return Clocks(NOW.wall + seconds, NOW.mono + seconds)


FILLED = KeySet().filled(KEYS, FRESH_FOR, NOW, NOW)


@pytest.mark.parametrize(
    ("since", "fresh_for", "age"),
    [
        (0, FRESH_FOR, Age.FRESH),
        (FRESH_FOR - 0.001, FRESH_FOR, Age.FRESH),
        (FRESH_FOR, FRESH_FOR, Age.STALE),
        (59.999, 60, Age.FRESH),
        (60, 60, Age.STALE),
        (STALE_IF_ERROR - 0.001, FRESH_FOR, Age.STALE),
        (STALE_IF_ERROR, FRESH_FOR, Age.NONE),
        (STALE_IF_ERROR * 10, FRESH_FOR, Age.NONE),
    ],
)
def test_the_age_of_a_set(since: float, fresh_for: float, age: Age) -> None:
    record = KeySet().filled(KEYS, fresh_for, NOW, NOW)
    assert record.age(at(since)) is age
    assert record.is_fresh(at(since)) is (age is Age.FRESH)


@pytest.mark.parametrize(
    ("since", "may"), [(0, False), (MIN_FETCH_INTERVAL - 0.001, False), (MIN_FETCH_INTERVAL, True), (FRESH_FOR, True)]
)
def test_fetches_start_min_fetch_interval_apart(since: float, may: bool) -> None:
    assert FILLED.may_refresh(at(since)) is may
    assert FILLED.failed(Failure(ErrorCode.SERVER_ERROR, "x"), NOW, NOW).may_refresh(at(since)) is may


def test_first_fetch_may_start_at_once() -> None:
    record = KeySet()
    assert record.age(NOW) is Age.NONE
    assert record.may_refresh(NOW)
    assert record.retry_after(NOW) == 1
    assert record.action("x", NOW) is Action.REFRESH


@pytest.mark.parametrize(
    ("asked", "fetch_interval"),
    [(None, MIN_FETCH_INTERVAL), (1, MIN_FETCH_INTERVAL), (10, MIN_FETCH_INTERVAL), (11, 11), (30, 30), (60, 60)],
    ids=str,
)
def test_failed_fetch_honours_a_longer_retry_after(asked: int | None, fetch_interval: float) -> None:
    """`Retry-After` may lengthen the interval but never shorten it."""
    record = FILLED.failed(Failure(ErrorCode.SERVER_ERROR, "x", asked), at(1), at(1))
    assert record.fetch_interval == fetch_interval
    assert not record.may_refresh(at(1 + fetch_interval - 0.001))
    assert record.may_refresh(at(1 + fetch_interval))
    assert record.retry_after(at(1)) == fetch_interval
    assert record.retry_after(at(1 + fetch_interval - 0.5)) == 1
    assert record.retry_after(at(1 + fetch_interval + 100)) == 1


def test_failed_fetch_changes_neither_keys_nor_age() -> None:
    """Threats F4 and F5: cached keys stay usable, and keep their age."""
    record = FILLED.failed(Failure(ErrorCode.MISCONFIGURED, "status 404"), at(700), at(700))
    assert (record.keys, record.fetched_at, record.fresh_for) == (FILLED.keys, NOW, FRESH_FOR)
    assert (record.asked_at, record.failure) == (at(700), ErrorCode.MISCONFIGURED)
    assert record.age(at(700)) is Age.STALE
    assert record.age(at(STALE_IF_ERROR)) is Age.NONE


def test_fetch_that_started_earlier_changes_nothing() -> None:
    """Its result may be older than the keys, and its failure says nothing about the newer fetch."""
    record = FILLED.filled(KEYS, 60, at(1), at(2))
    assert record.filled({}, 60, at(0.9), at(3)) is record
    assert record.failed(Failure(ErrorCode.SERVER_ERROR, "x"), at(0.9), at(3)) is record
    assert record.filled({}, 60, at(1), at(3)).keys == {}
    assert record.failed(Failure(ErrorCode.SERVER_ERROR, "x"), at(1), at(3)).failure is ErrorCode.SERVER_ERROR


@pytest.mark.parametrize("action", Action)
def test_stale_key_is_ready_only_if_the_refresh_can_be_deferred(action: Action) -> None:
    assert action.is_ready(defer_refresh=False) is (action is Action.USE)
    assert action.is_ready(defer_refresh=True) is (action in (Action.USE, Action.USE_AND_REFRESH))


def test_successful_fetch_clears_the_failure() -> None:
    assert KeySet().failed(Failure(ErrorCode.SERVER_ERROR, "x"), NOW, NOW).failure is ErrorCode.SERVER_ERROR
    assert KeySet().filled(KEYS, 60, at(-1), NOW) == KeySet(KEYS, NOW, 60, NOW, MIN_FETCH_INTERVAL, None, at(-1))


def test_key_set_is_immutable() -> None:
    """It is read without a lock."""
    mine = dict(KEYS)
    record = KeySet().filled(mine, FRESH_FOR, NOW, NOW)
    mine.clear()
    assert set(record.keys) == {ONE.kid}
    with pytest.raises(TypeError):
        record.keys["x"] = KEYS[ONE.kid]
    with pytest.raises(AttributeError):
        record.fetched_at = 0


@pytest.mark.parametrize(("wall", "mono"), [(1.0, 0.0), (0.0, 1.0), (-3600.0, 1.0)], ids=str)
def test_periods_end_on_the_clock_that_advanced_further(wall: float, mono: float) -> None:
    """A suspended host stops the monotonic clock, and the wall clock can be set back (B4)."""

    def after(seconds: float) -> Clocks:
        return Clocks(NOW.wall + wall * seconds, NOW.mono + mono * seconds)

    ages = [(599, Age.FRESH), (600, Age.STALE), (STALE_IF_ERROR - 1, Age.STALE), (STALE_IF_ERROR, Age.NONE)]
    for seconds, age in ages:
        assert FILLED.age(after(seconds)) is age
    assert not FILLED.may_refresh(after(MIN_FETCH_INTERVAL - 1))
    assert FILLED.may_refresh(after(MIN_FETCH_INTERVAL))
    assert FILLED.retry_after(after(MIN_FETCH_INTERVAL - 1)) == 1


# -- actions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "action"), ACTIONS.items(), ids=str)
def test_actions_never_break_a_rule_of_freshness(case: tuple[Age, bool, bool], action: Action) -> None:
    """Requests with a usable key never wait, and fetches never start too early."""
    age, known, may = case
    if age is Age.FRESH and known:
        assert action is Action.USE
    if age is Age.STALE and known:
        assert action is (Action.USE_AND_REFRESH if may else Action.USE)
    if not may:
        assert action not in (Action.REFRESH, Action.USE_AND_REFRESH)
    if not known:
        assert action not in (Action.USE, Action.USE_AND_REFRESH)
        assert may == (action is Action.REFRESH)
    if age is Age.NONE:
        assert action in (Action.REFRESH, Action.UNAVAILABLE)
    assert (action is Action.UNKNOWN) == (age is not Age.NONE and not known and not may)


@pytest.mark.parametrize(
    ("kid", "since", "action"),
    [
        (ONE.kid, 0, Action.USE),
        (ONE.kid, FRESH_FOR - 1, Action.USE),
        (ONE.kid, FRESH_FOR, Action.USE_AND_REFRESH),
        (ONE.kid, STALE_IF_ERROR - 1, Action.USE_AND_REFRESH),
        (ONE.kid, STALE_IF_ERROR, Action.REFRESH),
        ("junk", 0, Action.UNKNOWN),
        ("junk", MIN_FETCH_INTERVAL - 1, Action.UNKNOWN),
        ("junk", MIN_FETCH_INTERVAL, Action.REFRESH),
        ("junk", FRESH_FOR, Action.REFRESH),
        ("junk", STALE_IF_ERROR, Action.REFRESH),
    ],
)
def test_action_for_a_key_id_by_age(kid: str, since: float, action: Action) -> None:
    assert FILLED.action(kid, at(since)) is action


def test_action_after_a_failed_fetch() -> None:
    failed = FILLED.failed(Failure(ErrorCode.SERVER_ERROR, "x"), at(STALE_IF_ERROR), at(STALE_IF_ERROR))
    assert failed.action(ONE.kid, at(STALE_IF_ERROR - 1)) is Action.USE
    assert failed.action(ONE.kid, at(STALE_IF_ERROR + 1)) is Action.UNAVAILABLE
    assert failed.action("junk", at(STALE_IF_ERROR + 1)) is Action.UNAVAILABLE
    assert failed.action(ONE.kid, at(STALE_IF_ERROR + MIN_FETCH_INTERVAL)) is Action.REFRESH


@bounded
@given(
    kid=st.sampled_from([ONE.kid, "junk"]),
    fetched=st.floats(0, 1e6),
    asked=st.floats(0, 1e6),
    later=st.floats(0, 1e6),
    fresh_for=st.floats(60, 600),
)
def test_cached_key_is_used_for_a_day_despite_failures(
    kid: str, fetched: float, asked: float, later: float, fresh_for: float
) -> None:
    record = (
        KeySet()
        .filled(KEYS, fresh_for, at(fetched), at(fetched))
        .failed(Failure(ErrorCode.SERVER_ERROR, "x"), at(fetched + asked), at(fetched + asked))
    )
    now = at(fetched + later)
    serves = record.action(kid, now) in (Action.USE, Action.USE_AND_REFRESH)
    assert serves is (kid == ONE.kid and elapsed(at(fetched), now) < STALE_IF_ERROR)
    assert 1 <= record.retry_after(now) <= math.ceil(max(MIN_FETCH_INTERVAL, asked + MIN_FETCH_INTERVAL)) + 1


def test_constants_have_their_documented_values() -> None:
    assert (FRESH_FOR, MIN_FRESH_FOR, STALE_IF_ERROR, MIN_FETCH_INTERVAL, MAX_BYTES) == (600, 60, 86_400, 10, 65_536)


def test_cached_key_is_not_imported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even to throw the import away: the held object is all that is looked at."""
    found = key_sets.Document({"a": SIGNERS[NORMAL][0].point})
    held = found.keys({})
    monkeypatch.setattr(key_sets, "_import", lambda point: pytest.fail("imported again"))
    assert found.keys(held)["a"] is held["a"]


@pytest.mark.parametrize("as_of", [Clocks(2.0, 20.0), Clocks(2.0, 2e9)])
def test_keys_are_replaced_unless_a_later_fetch_brought_them(as_of: Clocks) -> None:
    """A frozen time that ends sets the monotonic clock back: then nothing tells which fetch was later."""
    held = KeySet({}, asked_at=as_of, as_of=as_of)
    earlier, now = Clocks(3.0, 10.0), Clocks(3.0, 30.0)
    failure = Failure(ErrorCode.SERVER_ERROR, "down")
    set_back = as_of.mono > now.mono
    assert (held.filled({}, 60.0, earlier, now) is not held) is set_back
    assert (held.failed(failure, earlier, now) is not held) is set_back
