from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import jwt
import pytest

from stackauth_middleware import UserType
from stackauth_middleware.testing._issuer import Issuer, Key, SigningKey, compact, new_key, origin
from tests.unit.testing.helpers import OTHER_PROJECT, PROJECT, claims_of, header_of, unb64url

NORMAL, RESTRICTED, ANONYMOUS = UserType.NORMAL, UserType.RESTRICTED, UserType.ANONYMOUS


def ids(document: dict[str, Any]) -> list[str]:
    return [each["kid"] for each in document["keys"]]


def test_key_repr_shows_only_the_id() -> None:
    key = new_key()
    assert re.fullmatch(r"[A-Za-z0-9_-]{12}", key.kid)
    assert repr(key) == f"Key({key.kid!r})"
    assert new_key().kid != key.kid


def test_a_key_is_published_with_exactly_six_members() -> None:
    key = new_key()
    jwk = key.jwk
    assert list(jwk) == ["kty", "crv", "alg", "kid", "x", "y"]
    assert (jwk["kty"], jwk["crv"], jwk["alg"], jwk["kid"]) == ("EC", "P-256", "ES256", key.kid)
    numbers = key.private.public_key().public_numbers()
    assert int.from_bytes(unb64url(jwk["x"]), "big") == numbers.x
    assert int.from_bytes(unb64url(jwk["y"]), "big") == numbers.y


def test_coordinates_are_full_width_by_default() -> None:
    for _ in range(300):
        jwk = new_key().jwk
        assert (len(unb64url(jwk["x"])), len(unb64url(jwk["y"]))) == (32, 32)


def test_a_short_key_has_a_short_coordinate() -> None:
    jwk = new_key(short=True).jwk
    assert min(len(unb64url(jwk["x"])), len(unb64url(jwk["y"]))) < 32


def test_compact_form_is_verified_by_pyjwt() -> None:
    key = new_key()
    token = compact(key, {"alg": "ES256", "kid": key.kid}, {"name": "Zoë", "n": 1})
    claims = jwt.decode(token, key.private.public_key(), algorithms=["ES256"])
    assert claims == {"name": "Zoë", "n": 1}
    assert header_of(token) == {"alg": "ES256", "kid": key.kid}
    assert len(unb64url(token.split(".")[2])) == 64


def test_bytes_are_signed_unchanged() -> None:
    header, payload = b'{"alg":"ES256","alg":"none"}', b"\xff not JSON"
    token = compact(new_key(), header, payload)
    assert [unb64url(part) for part in token.split(".")[:2]] == [header, payload]


def test_lone_surrogate_can_be_signed() -> None:
    token = compact(new_key(), {"alg": "ES256"}, {"name": "\ud800"})
    assert unb64url(token.split(".")[1]) == b'{"name":"\xed\xa0\x80"}'


def test_each_user_type_of_each_project_has_two_keys_of_its_own() -> None:
    issuer = Issuer()
    found = [issuer.keys(project, kind) for project in (PROJECT, OTHER_PROJECT) for kind in UserType]
    assert [len(each) for each in found] == [2] * 6
    assert len({key.kid for pair in found for key in pair}) == 12
    assert issuer.keys(PROJECT, NORMAL) == issuer.keys(PROJECT, NORMAL)


def test_concurrent_first_use_generates_keys_once() -> None:
    issuer = Issuer()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: issuer.keys(PROJECT, NORMAL), range(64)))
    assert set(found) == {found[0]}


def test_the_documents_hold_two_four_and_six_keys_in_order() -> None:
    issuer = Issuer()
    order = [key.kid for kind in (NORMAL, RESTRICTED, ANONYMOUS) for key in issuer.keys(PROJECT, kind)]
    assert ids(issuer.key_set(PROJECT)) == order[:2]
    assert ids(issuer.key_set(PROJECT, restricted=True)) == order[:4]
    assert ids(issuer.key_set(PROJECT, anonymous=True)) == order
    assert ids(issuer.key_set(PROJECT, restricted=True, anonymous=True)) == order


def test_a_choice_names_a_key() -> None:
    issuer = Issuer()
    first, second = issuer.keys(PROJECT, RESTRICTED)
    assert issuer.key(PROJECT, RESTRICTED, "first") is first
    assert issuer.key(PROJECT, RESTRICTED, "second") is second
    for kind in UserType:
        name: SigningKey = kind.value
        assert issuer.key(PROJECT, RESTRICTED, name) is issuer.keys(PROJECT, kind)[0]
    assert set(get_args(SigningKey)) == {"first", "second", "foreign", *(kind.value for kind in UserType)}


def test_foreign_key_has_the_first_key_id_and_is_not_published() -> None:
    issuer = Issuer()
    first, second = issuer.keys(PROJECT, NORMAL)
    foreign = issuer.key(PROJECT, NORMAL, "foreign")
    assert foreign.kid == first.kid
    published = {each["x"] for each in issuer.key_set(PROJECT, anonymous=True)["keys"]}
    assert foreign.jwk["x"] not in published
    assert {first.jwk["x"], second.jwk["x"]} < published


def test_a_project_may_have_short_coordinates() -> None:
    issuer = Issuer()
    before = issuer.keys(PROJECT, NORMAL)
    issuer.with_short_coordinates(PROJECT)

    def widths(project: str, kind: UserType) -> set[int]:
        return {min(len(unb64url(key.jwk[name])) for name in "xy") for key in issuer.keys(project, kind)}

    assert max(widths(PROJECT, NORMAL)) < 32
    assert not set(before) & set(issuer.keys(PROJECT, NORMAL))
    assert widths(PROJECT, RESTRICTED) == widths(OTHER_PROJECT, NORMAL) == {32}
    issuer.rotate(PROJECT)
    assert max(widths(PROJECT, NORMAL)) < 32


def snapshot(issuer: Issuer, project: str) -> list[tuple[Key, ...]]:
    return [issuer.keys(project, kind) for kind in UserType]


def test_a_rotation_replaces_every_key_of_one_project() -> None:
    issuer = Issuer()
    one, other = snapshot(issuer, PROJECT), snapshot(issuer, OTHER_PROJECT)
    issuer.rotate(PROJECT)
    for before, after in zip(one, snapshot(issuer, PROJECT), strict=True):
        assert not set(before) & set(after)
        assert len(after) == 2
    assert snapshot(issuer, OTHER_PROJECT) == other


def test_a_rotation_without_a_name_replaces_the_keys_of_all() -> None:
    issuer = Issuer()
    one, other = snapshot(issuer, PROJECT), snapshot(issuer, OTHER_PROJECT)
    issuer.rotate()
    assert not {key for pair in one + other for key in pair} & {
        key for project in (PROJECT, OTHER_PROJECT) for pair in snapshot(issuer, project) for key in pair
    }


def test_rotation_with_keep_old_keeps_the_first_key_published() -> None:
    issuer = Issuer()
    first, second = issuer.keys(PROJECT, NORMAL)
    issuer.rotate(PROJECT, keep_old=True)
    signer, waiting, old = issuer.keys(PROJECT, NORMAL)
    assert (signer, old) == (second, first)
    assert waiting not in (first, second)
    issuer.rotate(PROJECT, keep_old=True)
    assert issuer.keys(PROJECT, NORMAL)[0] is waiting
    assert issuer.keys(PROJECT, NORMAL)[2] is second
    assert first.kid not in ids(issuer.key_set(PROJECT))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.stack-auth.com", "https://api.stack-auth.com"),
        ("https://X.Example.com:443/stack/", "https://x.example.com"),
        ("http://localhost:80/", "http://localhost"),
        ("http://localhost:443", "http://localhost:443"),
        ("http://127.0.0.1:8102", "http://127.0.0.1:8102"),
        ("http://[::1]:8102/x", "http://[::1]:8102"),
    ],
)
def test_the_origin_of_an_issuer_is_what_new_url_makes_of_it(url: str, expected: str) -> None:
    assert origin(url) == expected


def test_the_helpers_read_what_was_written() -> None:
    assert claims_of(compact(new_key(), {}, {"a": 1})) == {"a": 1}
