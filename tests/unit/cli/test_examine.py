"""The steps: each tells of one thing alone, and together they say what the verifier says."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackauth_middleware import AuthServerError, RefusedError, StackAuthConfig, UserType, Verifier
from stackauth_middleware._cli._examine import STEPS, examine
from stackauth_middleware._cli._report import Finding
from stackauth_middleware.testing import OMIT, LocalStackAuth
from tests.unit.cli.ask import OTHER_PROJECT, PROJECT

API = "http://127.0.0.1:9"
USER_ID = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(scope="module")
def local() -> Iterator[LocalStackAuth]:
    with LocalStackAuth(PROJECT, api_url=API).in_process() as local:
        yield local


@cache
def config(*, allow_anonymous: bool = False) -> StackAuthConfig:
    """Return the same one for all tests: each loads the certificates anew."""
    return StackAuthConfig(project_id=PROJECT, api_url=API, allow_anonymous=allow_anonymous)


def steps(token: str) -> dict[str, Finding]:
    findings = list(examine(config(), token))
    assert tuple(finding.subject for finding in findings) == STEPS
    return {finding.subject: finding for finding in findings}


def states(token: str) -> dict[str, bool | None]:
    return {subject: finding.holds for subject, finding in steps(token).items()}


def bent(token: str, part: int, text: str) -> str:
    parts = token.split(".")
    parts[part] = text
    return ".".join(parts)


@pytest.mark.parametrize("user_type", [each.value for each in UserType])
def test_good_tokens_hold_at_every_step(local: LocalStackAuth, user_type: str) -> None:
    found = steps(local.token(user_type=user_type))
    assert all(finding.holds is True for finding in found.values())
    assert user_type in found["type"].text
    assert re.fullmatch(r"expires in (10 min|9 min 5\d s), issued \d s ago", found["times"].text)
    assert found["issuer"].text.endswith(f"/{PROJECT}'")


ALL_HOLD: dict[str, bool | None] = dict.fromkeys(STEPS, True)
UNREADABLE = {**dict.fromkeys(STEPS, None), "form": False}
NO_KEY = {"key": None, "signature": None}


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"project_id": OTHER_PROJECT}, {"issuer": False, "audience": False, **NO_KEY}),
        ({"issuer_url": "https://evil.example.com"}, {"issuer": False}),
        ({"iss": OMIT}, {"issuer": False, **NO_KEY}),
        ({"iss": [f"{API}/api/v1/projects/{PROJECT}"]}, {"issuer": False, **NO_KEY}),
        ({"iss": f"{API}/api/v1/projects-anonymous-users/{PROJECT}"}, {"issuer": False}),
        ({"aud": OMIT}, {"type": False, "issuer": False, "audience": False, "flags": None, **NO_KEY}),
        ({"aud": [PROJECT]}, {"type": False, "issuer": False, "audience": False, "flags": None, **NO_KEY}),
        ({"aud": f"{PROJECT}:admin"}, {"type": False, "issuer": False, "audience": False, "flags": None, **NO_KEY}),
        (
            {"aud": f"{PROJECT}:anon"},
            {"issuer": False, "key": False, "signature": None, "flags": False},
        ),
        ({"key": "second"}, {}),
        ({"key": "foreign"}, {"signature": False}),
        ({"kid": "nobodys"}, {"key": False, "signature": None}),
        ({"header": {"alg": "none"}}, {"header": False, **NO_KEY}),
        ({"header": {"kid": OMIT}}, {"header": False, **NO_KEY}),
        ({"header": {"typ": "at+jwt"}}, {"header": False, **NO_KEY}),
        ({"header": {"typ": "JWT"}}, {}),
        ({"expires_in": -60}, {"times": False}),
        ({"expires_in": -2}, {}),
        ({"exp": OMIT}, {"times": False, **NO_KEY}),
        ({"exp": "1900000000"}, {"times": False, **NO_KEY}),
        ({"exp": True}, {"times": False, **NO_KEY}),
        ({"nbf": 4_000_000_000}, {"times": False}),
        ({"nbf": "now"}, {"times": False}),
        ({"iat": 4_000_000_000}, {}),
        ({"iat": OMIT}, {}),
        ({"iat": "now"}, {"times": False}),
        ({"branch_id": "other"}, {"flags": False}),
        ({"sub": ""}, {"flags": False}),
        ({"is_anonymous": True, "user_type": "normal"}, {"flags": False}),
        ({"is_restricted": None}, {}),
        ({"restricted_reason": {"type": "x"}}, {"flags": False}),
    ],
    ids=str,
)
def test_each_step_checks_one_thing(
    local: LocalStackAuth, claims: dict[str, Any], expected: dict[str, bool | None]
) -> None:
    assert states(local.token(**claims)) == {**ALL_HOLD, **expected}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it has 1 parts"),
        ("a.b", "it has 2 parts"),
        ("a.b.c.d", "it has 4 parts"),
        ("é.b.c", "not ASCII"),
        ("a" * 9000, "over 8 KiB"),
        ("e30.e30.?", "base64url"),
        ("e30.W10.AAAA", "not a JSON object"),
        ("W10.e30.AAAA", "not a JSON object"),
        ("e30.e31.AAAA", "canonical"),
    ],
)
def test_input_that_is_no_jwt(local: LocalStackAuth, text: str, says: str) -> None:
    """The other steps are skipped, and Stack Auth is not called."""
    local.requests.clear()
    found = steps(text)
    assert {subject: finding.holds for subject, finding in found.items()} == UNREADABLE
    assert says in found["form"].text
    assert len(local.requests) == 0


def test_a_signature_of_another_algorithm(local: LocalStackAuth) -> None:
    """The claims can still be read, and are."""
    token = bent(local.token(), 2, "AAAA")
    assert states(token) == {**ALL_HOLD, "form": False, **NO_KEY}


def test_advice_where_a_setting_is_wrong(local: LocalStackAuth) -> None:
    """The texts name what is expected."""
    found = steps(local.token(project_id=OTHER_PROJECT, issuer_url="http://stack:8102"))
    assert "'http://stack:8102/api/v1/projects/" in found["issuer"].text
    assert f"{API}/api/v1/projects/{PROJECT}" in found["issuer"].text
    assert "issuer_url" in found["issuer"].text
    assert OTHER_PROJECT in found["audience"].text
    assert PROJECT in found["audience"].text


def test_published_key_ids_are_named(local: LocalStackAuth) -> None:
    found = steps(local.token(kid="nobodys"))
    keys = local.answer("GET", f"/api/v1/projects/{PROJECT}/.well-known/jwks.json").body.decode()
    text = found["key"].text
    assert "key ids for normal users: " in text
    named = text.partition("users: ")[2].split(", ")
    assert len(named) == 2
    assert all(f'"{name}"' in keys for name in named)


def test_unavailable_keys_are_not_reported_as_unknown(local: LocalStackAuth) -> None:
    with local.down(cold=True):
        found = steps(local.token())
    assert found["key"].holds is False
    assert found["key"].text.startswith("not available")
    assert found["signature"].holds is None


def test_terminal_escapes_are_escaped(local: LocalStackAuth) -> None:
    """Claims are printed before they are verified."""
    evil = "\x1b]0;gotcha\x07\n"
    for claims in ({"iss": evil}, {"aud": evil}, {"sub": evil}, {"kid": evil}, {"restricted_reason": {evil: evil}}):
        text = "".join(finding.text for finding in steps(local.token(**claims)).values())
        assert text.isprintable(), claims
        assert "gotcha" in text


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.sampled_from(["type", "x"]), st.text(max_size=5), max_size=2),
    st.sampled_from([PROJECT, f"{PROJECT}:anon", f"{PROJECT}:restricted", "main", USER_ID, OMIT]),
    st.sampled_from(
        [f"{API}/api/v1/projects{kind}/{PROJECT}" for kind in ("", "-restricted-users", "-anonymous-users")]
    ),
    st.sampled_from([{"type": "anonymous"}, {"type": "email_not_verified"}]),
    st.sampled_from([-3600, -20, -3, 3, 20, 3600]).map(lambda seconds: time.time() + seconds),
)
bendable = ["sub", "aud", "iss", "exp", "nbf", "iat", "branch_id", "is_anonymous", "is_restricted", "restricted_reason"]


@given(
    claims=st.dictionaries(st.sampled_from(bendable), values, max_size=3),
    header=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "jku"]), values, max_size=1),
    user_type=st.sampled_from([each.value for each in UserType]),
    key=st.sampled_from(["first", "first", "first", "second", "foreign", "normal", "restricted", "anonymous"]),
    flip=st.one_of(st.none(), st.none(), st.tuples(st.floats(0, 0.999), st.sampled_from("Aa0_-.=+é"))),
)
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
def test_all_steps_pass_if_and_only_if_the_verifier_accepts(
    local: LocalStackAuth,
    claims: dict[str, Any],
    header: dict[str, Any],
    user_type: str,
    key: Any,
    flip: tuple[float, str] | None,
) -> None:
    """The steps are neither stricter nor more lenient than the verifier."""
    token = local.token(user_type=user_type, key=key, header=header, **claims)
    if flip:
        at = int(flip[0] * len(token))
        token = token[:at] + flip[1] + token[at + 1 :]
    settled = config(allow_anonymous=True)
    # Fetches for unknown keys are ten seconds apart; each example starts with empty caches.
    local.reset()
    found = list(examine(settled, token))
    local.reset()
    try:
        Verifier(settled).verify(token)
        accepted = True
    except (RefusedError, AuthServerError):
        accepted = False
    assert all(finding.holds for finding in found) is accepted, (found, claims, header)
