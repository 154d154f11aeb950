"""Threats C11 to C13: claims that aim at logs, URLs and headers, or at differences between refusals."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from stackauth_middleware import RefusedError, StackAuthConfig, Verifier
from tests.unit.core.helpers import (
    ANONYMOUS,
    NORMAL,
    PATHS,
    PROJECT,
    RESTRICTED,
    SIGNERS,
    STRANGER,
    SUFFIXES,
    USER_ID,
    reply,
)
from tests.unit.core.helpers import API as HOSTED
from tests.unit.drive import asgi, environ_of, http_scope, wsgi

from .corpus import cases, claims, signed
from .issuer import CountingIssuer
from .test_corpus import by_async_verifier, by_verifier

CASES = list(cases())
KINDS = (NORMAL, RESTRICTED, ANONYMOUS)
FORGED = "forged: 1"
HOSTILE = f"\r\n{FORGED}\r\n\0\x1b[2J\u2028\x85"


@pytest.mark.parametrize("middleware", ["asgi", "wsgi"])
def test_c12_logs_and_headers_stay_one_line(
    middleware: str, issuer: CountingIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the method, the path, the origin, the claims and the header of the token hold."""
    config = StackAuthConfig(project_id=PROJECT, cors_origins=["*"])
    wanted = ("A7", "C9", "C11", "C12")
    tokens = [case.token for case in CASES if case.threat in wanted and len(case.token) < 8192]
    answers = []
    with caplog.at_level(logging.DEBUG):
        for token in [*tokens, "", HOSTILE, "undefined", f"a,b{HOSTILE}"]:
            method, path = f"GET{HOSTILE}", f"/a{HOSTILE}"
            sent = {"x-stack-access-token": token, "origin": f"https://a.example{HOSTILE}"}
            text = {name: value.encode("utf-8", "replace").decode("latin-1") for name, value in sent.items()}
            if middleware == "asgi":
                data = [(name.encode(), value.encode("latin-1")) for name, value in text.items()]
                answers.append(asgi(http_scope(path, data, method=method), config=config))
            else:
                raw = path.encode().decode("latin-1")
                answers.append(wsgi(environ_of(raw, text, REQUEST_METHOD=method), config=config))
    assert {answer.status for answer in answers} == {200, 400, 401}
    for answer in answers:
        assert all(value.isprintable() for item in answer.headers.items() for value in item)
        assert FORGED.encode() not in answer.body
        assert not answer.reached or answer.headers == {}, "nothing is added to the app's own answer"
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("stackauth")]
    assert len(ours) > 20
    assert [message for message in ours if not message.isprintable()] == []


def test_c11_invalid_sub_reaches_no_url_or_header(issuer: CountingIssuer) -> None:
    """In rest mode too: the URL is fixed, and only called for a token whose sub is a user id."""
    config = StackAuthConfig(project_id=PROJECT, mode="rest", secret_server_key="ssk_" + "0" * 43)
    issuer.profile = reply({"id": USER_ID})
    odd = [case for case in CASES if case.threat in ("C10", "C11")]
    assert len(odd) == 15
    for case in odd:
        assert by_verifier(config, case.token) == "invalid_token", case.name
        assert asyncio.run(by_async_verifier(config, case.token)) == "invalid_token", case.name
    assert [call for call in issuer.calls if call.url.endswith("/users/me")] == []
    by_verifier(config, signed())
    asked = issuer.calls[-1]
    assert asked.url == f"{HOSTED}/api/v1/users/me"
    assert all(value.isascii() and value.isprintable() for value in asked.headers.values())


def expired(kind: Any = NORMAL, **changes: Any) -> dict[str, Any]:
    return claims(kind, exp=int(time.time()) - 1000, **changes)


def code_of(verifier: Verifier, token: str) -> str:
    with pytest.raises(RefusedError) as caught:
        verifier.verify(token)
    return caught.value.code.value


def test_c13_expired_token_without_other_fault_is_expired(issuer: CountingIssuer) -> None:
    """Of 81 combinations of key, audience, issuer and flags, only the 3 that agree are reported as expired."""
    verifier = Verifier(StackAuthConfig(project_id=PROJECT, allow_anonymous=True))
    results = []
    for key in KINDS:
        for aud in KINDS:
            for iss in KINDS:
                for flags in KINDS:
                    issuer_url = f"{HOSTED}/api/v1/{PATHS[iss]}/{PROJECT}"
                    made = expired(flags, aud=PROJECT + SUFFIXES[aud], iss=issuer_url)
                    results.append((code_of(verifier, SIGNERS[key][0].token(made)), len({key, aud, iss, flags}) == 1))
    assert results.count(("expired_token", True)) == 3
    assert results.count(("invalid_token", False)) == 78
    assert len(results) == 81


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "me"},
        {"branch_id": "dev"},
        {"is_anonymous": True},
        {"restricted_reason": {"type": "anonymous"}},
        {"iat": "1"},
        {"nbf": 2**40},
        {"iss": "https://evil.example"},
        {"aud": PROJECT + ":admin"},
    ],
    ids=str,
)
def test_c13_expired_token_with_another_fault_is_invalid(changes: dict[str, Any], issuer: CountingIssuer) -> None:
    verifier = Verifier(StackAuthConfig(project_id=PROJECT))
    assert code_of(verifier, SIGNERS[NORMAL][0].token(expired(**changes))) == "invalid_token"


def test_c13_expiry_is_not_revealed_before_the_signature_holds(issuer: CountingIssuer) -> None:
    verifier = Verifier(StackAuthConfig(project_id=PROJECT))
    honest = SIGNERS[NORMAL][0].token(expired())
    assert code_of(verifier, honest) == "expired_token"
    assert code_of(verifier, STRANGER.token(expired())) == "invalid_token"
    message, _, signature = honest.rpartition(".")
    assert code_of(verifier, f"{message}.{signature[::-1]}") == "invalid_token"
    assert code_of(verifier, SIGNERS[NORMAL][0].token(expired(), kid="unknown")) == "invalid_token"
