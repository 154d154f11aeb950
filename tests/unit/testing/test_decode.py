"""The backend's reading of a token, beside tokens that PyJWT and the issuer make."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from stackauth_middleware.testing import OMIT, LocalStackAuth
from stackauth_middleware.testing._decode import Seen, decode
from stackauth_middleware.testing._issuer import Issuer, compact, new_key
from stackauth_middleware.testing._responses import KnownError, PlainError
from tests.unit.testing.helpers import PROJECT, USER_ID, claims_of

URL = "https://auth.example.com"
NOW = 1_800_000_000.9
SESSION = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


@pytest.fixture
def local() -> LocalStackAuth:
    return LocalStackAuth(PROJECT, api_url=URL, clock=lambda: NOW)


def read(local: LocalStackAuth, token: str) -> Seen:
    return decode(token, local.issuer, {URL}, NOW)


def refusal(local: LocalStackAuth, token: str) -> str:
    with pytest.raises(KnownError) as caught:
        read(local, token)
    return caught.value.code


@pytest.mark.parametrize(
    ("user_type", "anonymous", "restricted", "reason"),
    [
        ("normal", False, False, None),
        ("restricted", False, True, {"type": "email_not_verified"}),
        ("anonymous", True, True, {"type": "anonymous"}),
    ],
)
@pytest.mark.parametrize("key", ["first", "second"])
def test_valid_token_is_decoded(
    local: LocalStackAuth, user_type: str, key: Any, anonymous: bool, restricted: bool, reason: Any
) -> None:
    token = local.token(user_type=user_type, key=key, sub=USER_ID, session_id=SESSION)
    assert read(local, token) == Seen(PROJECT, USER_ID, SESSION, anonymous, restricted, reason)


def test_a_project_of_any_name_is_read_from_the_audience(local: LocalStackAuth) -> None:
    assert read(local, local.token(project_id="internal")).project_id == "internal"


GARBAGE: dict[str, Callable[[str], str]] = {
    "nothing": lambda _: "",
    "a word": lambda _: "garbage",
    "three words": lambda _: "aaa.bbb.ccc",
    "two parts": lambda token: token.rpartition(".")[0],
    "four parts": lambda token: token + ".x",
    "a scheme": lambda token: "Bearer " + token,
    "not ASCII": lambda token: token + "é",
    "no signature": lambda token: token.rpartition(".")[0] + ".",
    "a wrong signature": lambda token: token.rpartition(".")[0] + "." + "A" * 86,
    "another header": lambda token: "e30." + token.partition(".")[2],
    "a deep payload": lambda token: f"{token.split('.')[0]}.{'W1' * 100_000}.x",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_unparsable(local: LocalStackAuth, name: str) -> None:
    assert refusal(local, GARBAGE[name](local.token())) == "UNPARSABLE_ACCESS_TOKEN"


@pytest.mark.parametrize(
    "bent",
    [
        {"key": "foreign"},
        {"key": "anonymous"},
        {"key": "restricted"},
        {"kid": "AAAAAAAAAAAA"},
        {"header": {"kid": OMIT}},
        {"header": {"kid": 7}},
        {"header": {"alg": "none"}},
        {"header": {"alg": "HS256"}},
        {"header": {"alg": OMIT}},
        {"aud": OMIT},
        {"aud": None},
        {"aud": [PROJECT]},
        {"aud": "other"},
        {"aud": PROJECT + ":restricted"},
        {"aud": PROJECT + ":foo"},
        {"aud": PROJECT + ":anon:x"},
        {"iss": OMIT},
        {"iss": "https://access-token.jwt-signature.stack-auth.com"},
        {"iss": f"https://other.example.com/api/v1/projects/{PROJECT}"},
        {"iss": f"{URL}/api/v1/projects/other"},
        {"iss": [f"{URL}/api/v1/projects/{PROJECT}"]},
        {"iat": "now"},
        {"iat": True},
        {"nbf": "now"},
        {"nbf": 1_800_000_001},
        {"exp": "never"},
        {"exp": None},
    ],
    ids=str,
)
def test_invalid_claims_are_unparsable(local: LocalStackAuth, bent: dict[str, Any]) -> None:
    assert refusal(local, local.token(**bent)) == "UNPARSABLE_ACCESS_TOKEN"


@pytest.mark.parametrize("payload", [b"[]", b"7", b'"x"', b"null", b"{", b"\xff", b'{"aud":{}}'])
def test_a_payload_of_another_form_is_unparsable(local: LocalStackAuth, payload: bytes) -> None:
    key = local.issuer.keys(PROJECT, "normal")[0]
    assert refusal(local, compact(key, {"alg": "ES256", "kid": key.kid}, payload)) == "UNPARSABLE_ACCESS_TOKEN"


@pytest.mark.parametrize(
    "bent", [{"nbf": 1_800_000_000}, {"iat": 9_999_999_999}, {"iat": OMIT}, {"exp": 1_800_000_001}]
)
def test_times_in_range_are_accepted(local: LocalStackAuth, bent: dict[str, Any]) -> None:
    assert read(local, local.token(**bent)).project_id == PROJECT


@pytest.mark.parametrize("exp", [1_800_000_000, 1_799_999_999.5, 0])
def test_expired_token_error_has_details(local: LocalStackAuth, exp: float) -> None:
    with pytest.raises(KnownError) as caught:
        read(local, local.token(exp=exp, sub=USER_ID, session_id=SESSION))
    error = caught.value
    assert (error.status, error.code) == (401, "ACCESS_TOKEN_EXPIRED")
    assert error.details == {
        "expired_at_millis": exp * 1000,
        "project_id": PROJECT,
        "user_id": USER_ID,
        "refresh_token_id": SESSION,
    }
    moments: dict[float, str] = {1_800_000_000: "2027-01-15T08:00:00.000Z", 0: "1970-01-01T00:00:00.000Z"}
    assert f"(The access token expired at {moments.get(exp, '2027-01-15T07:59:59.500Z')}.)" in error.message
    assert f"Project ID: {PROJECT}. User ID: {USER_ID}. Refresh token ID: {SESSION}.\n\nDebug info: " in error.message


def test_expiry_out_of_range_is_a_server_error(local: LocalStackAuth) -> None:
    with pytest.raises(PlainError) as caught:
        read(local, local.token(exp=-1e300))
    assert caught.value.status == 500


def test_signature_then_issuer_then_expiry_are_checked(local: LocalStackAuth) -> None:
    assert refusal(local, local.token(expires_in=-60, key="foreign")) == "UNPARSABLE_ACCESS_TOKEN"
    assert refusal(local, local.token(expires_in=-60, iss="x")) == "UNPARSABLE_ACCESS_TOKEN"
    assert refusal(local, local.token(expires_in=-60, branch_id="dev")) == "ACCESS_TOKEN_EXPIRED"


def test_issuer_of_another_user_type_passes_until_the_flags(local: LocalStackAuth) -> None:
    token = local.token(iss=f"{URL}/api/v1/projects-anonymous-users/{PROJECT}")
    assert read(local, token).is_anonymous is False


@pytest.mark.parametrize(
    "bent",
    [
        {"branch_id": "dev"},
        {"branch_id": OMIT},
        {"sub": OMIT},
        {"sub": 7},
        {"exp": OMIT},
        {"refresh_token_id": 7},
        {"is_anonymous": OMIT},
        {"is_anonymous": "no"},
        {"is_restricted": "no"},
        {"is_anonymous": True, "user_type": "normal"},
        {"is_restricted": True, "user_type": "normal"},
        {"restricted_reason": {"type": "email_not_verified"}},
        {"user_type": "restricted", "restricted_reason": None},
        {"user_type": "restricted", "restricted_reason": "email_not_verified"},
        {"user_type": "restricted", "restricted_reason": {}},
        {"user_type": "restricted", "is_restricted": False, "restricted_reason": None},
        {"user_type": "restricted", "is_anonymous": True},
        {"user_type": "anonymous", "is_anonymous": False},
        {
            "user_type": "normal",
            "is_anonymous": True,
            "is_restricted": True,
            "restricted_reason": {"type": "anonymous"},
        },
        {"user_type": "restricted", "is_anonymous": True, "restricted_reason": {"type": "anonymous"}},
        {"user_type": "normal", "is_restricted": True, "restricted_reason": {"type": "email_not_verified"}},
        {"user_type": "anonymous", "is_restricted": False, "restricted_reason": None},
    ],
    ids=str,
)
def test_contradicting_claims_are_a_server_error(local: LocalStackAuth, bent: dict[str, Any]) -> None:
    with pytest.raises(PlainError) as caught:
        read(local, local.token(**bent))
    assert caught.value.status == 500


def older(local: LocalStackAuth, user_type: str, **changes: Any) -> str:
    claims = claims_of(local.token(user_type=user_type, sub=USER_ID, session_id=SESSION))
    for name in ("is_restricted", "restricted_reason", "requires_totp_mfa", "signed_up_at"):
        del claims[name]
    key = local.issuer.keys(PROJECT, user_type)[0]
    claims["branchId"], claims["refreshTokenId"] = claims.pop("branch_id"), claims.pop("refresh_token_id")
    return compact(key, {"alg": "ES256", "kid": key.kid}, {**claims, **changes})


def test_claims_of_older_tokens_are_decoded(local: LocalStackAuth) -> None:
    assert read(local, older(local, "normal")) == Seen(PROJECT, USER_ID, SESSION, False, False, None)
    anonymous = read(local, older(local, "anonymous"))
    assert anonymous == Seen(PROJECT, USER_ID, SESSION, True, True, {"type": "anonymous"})


def test_an_older_token_expires_too(local: LocalStackAuth) -> None:
    with pytest.raises(KnownError) as caught:
        read(local, older(local, "normal", exp=1))
    assert caught.value.details is not None
    assert caught.value.details["refresh_token_id"] == SESSION


def test_a_token_without_a_session_is_read(local: LocalStackAuth) -> None:
    assert read(local, local.token(refresh_token_id=OMIT)).session_id is None


def test_any_of_several_issuer_urls_passes(local: LocalStackAuth) -> None:
    token = local.token(issuer_url="https://two.example.com")
    assert decode(token, local.issuer, {URL, "https://two.example.com"}, NOW).project_id == PROJECT
    assert refusal(local, token) == "UNPARSABLE_ACCESS_TOKEN"


def test_token_signed_by_another_issuer_is_refused(local: LocalStackAuth) -> None:
    with pytest.raises(KnownError):
        decode(local.token(), Issuer(), {URL}, NOW)
    key = new_key()
    assert refusal(
        local, compact(key, {"alg": "ES256", "kid": key.kid}, json.dumps(claims_of(local.token())).encode())
    ) == ("UNPARSABLE_ACCESS_TOKEN")
