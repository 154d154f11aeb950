"""Threats D1 to D11, specific to Stack Auth: user types, their keys, and secrets that look like tokens."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from dataclasses import replace
from typing import Any

import pytest

from stackauth_middleware import (
    AsyncVerifier,
    ConfigError,
    RefusedError,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    Verifier,
)
from tests.unit.core.helpers import ANONYMOUS, LEFT_OUT, NORMAL, PROJECT, RESTRICTED, SIGNERS, Signer, b64url, reply
from tests.unit.drive import Seen, asgi, environ_of, http_scope, wsgi

from .corpus import cases, claims, signed
from .issuer import CountingIssuer
from .test_corpus import by_asgi, by_async_verifier, by_verifier, by_wsgi

CASES = {case.name: case for case in cases()}


def by_new_loop(config: StackAuthConfig, token: str) -> str:
    return asyncio.run(by_async_verifier(config, token))


WAYS: dict[str, Any] = {"verifier": by_verifier, "async": by_new_loop, "wsgi": by_wsgi, "asgi": by_asgi}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("anonymous", [False, True], ids=["", "allow_anonymous"])
@pytest.mark.parametrize("restricted", [False, True], ids=["", "allow_restricted"])
def test_d1_and_d2_user_types_are_let_in_as_the_settings_allow(
    restricted: bool, anonymous: bool, way: str, issuer: CountingIssuer
) -> None:
    """Allowing anonymous users also allows restricted ones, but not the reverse."""
    config = StackAuthConfig(project_id=PROJECT, allow_restricted=restricted, allow_anonymous=anonymous)
    said = [WAYS[way](config, signed(kind, signer=SIGNERS[kind][0])) for kind in (NORMAL, RESTRICTED, ANONYMOUS)]
    assert said == [
        "accept",
        "accept" if restricted or anonymous else "restricted_not_allowed",
        "accept" if anonymous else "anonymous_not_allowed",
    ]


def test_d3_to_d6_allowing_all_user_types_accepts_no_mixed_token(issuer: CountingIssuer) -> None:
    """PyJWT with all three audiences and issuers accepts all 78."""
    config = StackAuthConfig(project_id=PROJECT, allow_restricted=True, allow_anonymous=True)
    false = [case for case in CASES.values() if case.threat in ("D3", "D4", "D5", "D6") and case.expected == "reject"]
    assert sum(case.name.startswith("mat-") for case in false) == 78
    assert [case.name for case in false if by_verifier(config, case.token) != "invalid_token"] == []


SECRETS = {
    "refresh token": "0123456789abcdefghijklmnopqrstuvwxyz012345678",
    "server key": "ssk_0000000000000000000000000000000000000000000",
    "publishable key": "pck_1111111111111111111111111111111111111111111",
    "cookie": '["0123456789abcdefghijklmnopqrstuvwxyz012345678","a.b.c"]',
    "api key": "stack_user_22222222222222222222222222222222222222",
    "three parts": "ssk_3333333333.33333333333333333333.3333333333333",
}
TOKEN_SOURCES: dict[str, Any] = {
    "x-stack-access-token": lambda secret: [("x-stack-access-token", secret)],
    "x-hexclave-access-token": lambda secret: [("x-hexclave-access-token", secret)],
    "bearer": lambda secret: [("authorization", f"Bearer {secret}")],
    "x-stack-auth": lambda secret: [("x-stack-auth", json.dumps({"accessToken": secret, "refreshToken": secret}))],
    "x-stack-auth, no JSON": lambda secret: [("x-stack-auth", secret)],
    "wrapped": lambda secret: [
        (
            "authorization",
            "Bearer stackauth_" + base64.b64encode(json.dumps({"accessToken": secret}).encode()).decode(),
        )
    ],
    "beside a token": lambda secret: [
        ("x-stack-auth", json.dumps({"accessToken": signed(name="x"), "refreshToken": secret}))
    ],
}


@pytest.mark.parametrize("name", SECRETS)
def test_d7_secret_in_place_of_a_token_is_never_logged_or_returned(
    name: str, config: StackAuthConfig, issuer: CountingIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be valid: it is refused everywhere, and is in no log line, response, scope or exception."""
    secret = SECRETS[name]
    core = max(secret.replace('"', ",").split(","), key=len)
    written: list[str] = []
    with caplog.at_level(logging.DEBUG):
        for token_source, headers_of in TOKEN_SOURCES.items():
            headers = headers_of(secret)
            data = [(key.encode(), value.encode()) for key, value in headers]
            answers: list[Seen] = [asgi(http_scope(headers=data), config=config)]
            answers.append(wsgi(environ_of("/", dict(headers)), config=config))
            assert answers[0].same() == answers[1].same()
            let_in = token_source == "beside a token"
            assert [answer.status == 200 for answer in answers] == [let_in] * 2, token_source
            written += [str(answer.headers) + answer.body.decode() for answer in answers]
            for answer in answers:
                for scope in answer.reached:
                    written += [repr(value) for key, value in scope.items() if str(key).startswith("stackauth")]
        with pytest.raises(RefusedError) as caught:
            Verifier(config).verify(secret)
        written += [repr(caught.value), str(caught.value), str(caught.value.__cause__), str(caught.value.__context__)]
    assert not [text for text in [*written, caplog.text] if core in text or core[4:] in text]
    assert len(issuer.calls) <= 1, "the honest token needs its key, and nothing else was asked for"


def test_d8_key_rotation_needs_no_restart(
    config: StackAuthConfig, issuer: CountingIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both published keys verify; a token of a third one causes a fetch after the cool-down, and verifies."""
    verifier = Verifier(config)
    for signer in SIGNERS[NORMAL]:
        verifier.verify(signed(signer=signer))
    assert len(issuer.calls) == 1
    third = Signer(31_337, "normal-newest")
    issuer.signers[NORMAL] = (third, SIGNERS[NORMAL][1])
    monotonic = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 11)
    verifier.verify(signed(signer=third))
    assert len(issuer.calls) == 2
    with pytest.raises(RefusedError):
        verifier.verify(signed(signer=SIGNERS[NORMAL][0]))
    assert len(issuer.calls) == 2


@pytest.mark.parametrize(("number", "axis"), [(379, "x"), (43, "y")])
def test_d9_key_with_a_short_coordinate_verifies_tokens(
    number: int, axis: str, config: StackAuthConfig, issuer: CountingIssuer
) -> None:
    """Stack Auth drops leading zero bytes, so one key in 128 has a short coordinate."""
    signer = Signer(number, "short")
    data = dict(zip("xy", signer.point, strict=True))[axis]
    assert data[0] == 0
    issuer.answers[""] = reply({"keys": [signer.jwk(**{axis: b64url(data.lstrip(b"\0"))})]})
    assert by_verifier(config, signed(signer=signer)) == "accept"
    assert by_verifier(config, replace(signer, number=number + 1).token(claims())) == "invalid_token"


def _asgi_app(scope: Any, receive: Any, send: Any) -> Any:
    raise AssertionError


def _wsgi_app(environ: Any, start_response: Any) -> Any:
    raise AssertionError


MAKERS: dict[str, Any] = {
    "config": StackAuthConfig,
    "asgi": lambda **settings: StackAuthASGIMiddleware(_asgi_app, **settings),
    "wsgi": lambda **settings: StackAuthWSGIMiddleware(_wsgi_app, **settings),
    "verifier": Verifier,
    "async": AsyncVerifier,
}
WRONG: list[dict[str, Any]] = [
    {"project_id": LEFT_OUT},
    {"project_id": ""},
    {"project_id": "your-project-id"},
    {"project_id": PROJECT.upper()},
    {"project_id": f"{PROJECT} "},
    {"project_id": f"{PROJECT}/"},
    {"api_url": "https://api.stack-auth.com/api/v1"},
    {"api_url": " https://api.stack-auth.com"},
    {"api_url": "api.stack-auth.com"},
    {"api_url": "http://stack.example"},
    {"api_url": "https://user:secret@api.stack-auth.com"},
    {"secret_server_key": "your-secret-server-key"},
    {"mode": "rest"},
]


@pytest.mark.parametrize("settings", WRONG, ids=str)
@pytest.mark.parametrize("made", MAKERS)
def test_d11_wrong_setting_raises_at_construction(
    made: str, settings: dict[str, Any], issuer: CountingIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the first request, and without a call."""
    for brand in ("STACK", "HEXCLAVE", "NEXT_PUBLIC_STACK", "NEXT_PUBLIC_HEXCLAVE"):
        for name in ("PROJECT_ID", "API_URL", "SECRET_SERVER_KEY", "PUBLISHABLE_CLIENT_KEY"):
            monkeypatch.delenv(f"{brand}_{name}", raising=False)
    given = {name: value for name, value in {"project_id": PROJECT, **settings}.items() if value is not LEFT_OUT}
    with pytest.raises(ConfigError):
        MAKERS[made](**given)
    assert issuer.calls == []


def test_d11_a_slash_at_the_end_of_the_api_url_is_no_other_issuer(issuer: CountingIssuer) -> None:
    config = StackAuthConfig(project_id=PROJECT, api_url="https://api.stack-auth.com/")
    assert by_verifier(config, signed()) == "accept"
