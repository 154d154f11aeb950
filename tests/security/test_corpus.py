"""Every hostile token through `Verifier`; a fixed sample, or all where asked for, through the rest."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from collections import Counter
from typing import Any

import pytest

from stackauth_middleware import (
    AsyncVerifier,
    AuthServerError,
    ErrorCode,
    RefusedError,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    Verifier,
)
from stackauth_middleware._core.cache import reset_all
from tests.security.corpus import Case, cases
from tests.security.issuer import CountingIssuer, issuer_in_place
from tests.unit.core.helpers import PROJECT

CASES = list(cases())
SAMPLE = CASES if os.environ.get("TESTS_ALL_CASES") else CASES[:: max(1, len(CASES) // 100)][:100]

COUNTS = {"A": 173, "B": 203, "C": 140, "D": 135}
EXPECTED = {"accept": 28, "reject": 618, "either": 5}
WITHOUT_A_KEY = 460
"""Cases that are refused without a fetch."""


def name_of(case: Case) -> str:
    return f"{case.threat}-{case.name}"


@pytest.fixture(scope="module")
def config() -> StackAuthConfig:
    return StackAuthConfig(project_id=PROJECT)


@pytest.fixture
def issuer() -> Any:
    with issuer_in_place() as issuer:
        yield issuer


def check_outcome(case: Case, outcome: str, issuer: CountingIssuer) -> None:
    """Check `outcome`, "accept" or an error code, against the expected one."""
    if case.expected == "accept":
        assert outcome == "accept"
    elif case.expected == "reject":
        assert outcome == case.code.value
    else:
        assert outcome in ("accept", ErrorCode.INVALID_TOKEN.value)
    if not case.needs_key:
        assert issuer.calls == [], "a key was asked for where none was needed"
    assert len(issuer.calls) <= 2


def by_verifier(config: StackAuthConfig, token: str) -> str:
    try:
        Verifier(config).verify(token)
    except (RefusedError, AuthServerError) as error:
        return error.code.value
    return "accept"


async def by_async_verifier(config: StackAuthConfig, token: str) -> str:
    try:
        await AsyncVerifier(config).verify(token)
    except (RefusedError, AuthServerError) as error:
        return error.code.value
    return "accept"


def by_wsgi(config: StackAuthConfig, token: str) -> str:
    called: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        called.append(environ["stackauth.user"])
        start_response("200 OK", [])
        return [b""]

    seen: list[Any] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "HTTP_X_STACK_ACCESS_TOKEN": token,
        "wsgi.input": io.BytesIO(),
    }
    middleware = StackAuthWSGIMiddleware(app, config)
    body = b"".join(middleware(environ, lambda status, headers, *_: seen.append((status, dict(headers)))))
    return outcome_of(int(seen[0][0][:3]), seen[0][1], body, called)


def by_asgi(config: StackAuthConfig, token: str) -> str:
    called: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope["stackauth.user"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    header = (b"x-stack-access-token", token.encode("latin-1"))
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [header]}
    asyncio.run(StackAuthASGIMiddleware(app, config)(scope, None, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return outcome_of(
        sent[0]["status"], {name.title(): value for name, value in headers.items()}, sent[1]["body"], called
    )


def outcome_of(status: int, headers: dict[str, str], body: bytes, called: list[Any]) -> str:
    """Return the outcome in a response of a middleware; a refusal must be exactly the documented response."""
    if status == 200:
        assert len(called) == 1
        assert called[0] is not None
        return "accept"
    assert called == []
    code: str = json.loads(body)["code"]
    error = ErrorCode(code)
    assert status == error.status
    assert headers["Content-Length"] == str(len(body))
    assert headers["Cache-Control"] == "no-store"
    names = {name.lower(): value for name, value in headers.items()}
    attribute = f', error="{error.challenge}"' if error.challenge else ""
    challenge = None if error.challenge is None else f'Bearer realm="stack-auth"{attribute}'
    assert names.get("www-authenticate") == challenge
    return code


def test_names_are_unique() -> None:
    names = Counter(case.name for case in CASES)
    assert [name for name, count in names.items() if count > 1] == []


def test_the_counts_of_cases_by_group() -> None:
    """The README quotes these."""
    assert Counter(case.threat[0] for case in CASES) == COUNTS
    assert Counter(case.expected for case in CASES) == EXPECTED
    assert sum(not case.needs_key for case in CASES) == WITHOUT_A_KEY


def test_the_matrix_is_whole() -> None:
    """D3: key, audience, issuer and flags of three user types each; only the three that agree are accepted."""
    matrix = [case for case in CASES if case.name.startswith("mat-")]
    assert len(matrix) == 3**4 - 3 == 78
    assert {case.expected for case in matrix} == {"reject"}


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_verifier(
    case: Case, config: StackAuthConfig, issuer: CountingIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    """The outcome is the expected one, no fetch is wasted, and no part of the token is logged."""
    with caplog.at_level(logging.DEBUG):
        check_outcome(case, by_verifier(config, case.token), issuer)
    if len(case.token) > 40:
        assert case.token not in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("case", SAMPLE, ids=name_of)
def test_async_verifier(case: Case, config: StackAuthConfig, issuer: CountingIssuer) -> None:
    check_outcome(case, asyncio.run(by_async_verifier(config, case.token)), issuer)


def fits_in_header(case: Case) -> bool:
    """Return whether a server could pass this in a header: latin-1, no space at an end, no line break."""
    return case.token.isascii() and case.token.isprintable() and case.token == case.token.strip() and bool(case.token)


def expected_in_header(case: Case) -> Case:
    """Return the case as expected from a header: a comma, or more than 8 KiB, is a malformed header."""
    if "," in case.token or len(case.token) > 8192:
        return Case(case.name, case.threat, case.token, code=ErrorCode.INVALID_REQUEST, needs_key=False)
    return case


@pytest.mark.parametrize("case", [case for case in SAMPLE if fits_in_header(case)], ids=name_of)
@pytest.mark.parametrize("middleware", [by_wsgi, by_asgi], ids=["wsgi", "asgi"])
def test_middlewares(case: Case, middleware: Any, config: StackAuthConfig, issuer: CountingIssuer) -> None:
    check_outcome(expected_in_header(case), middleware(config, case.token), issuer)


@pytest.mark.parametrize("middleware", [by_wsgi, by_asgi], ids=["wsgi", "asgi"])
def test_refusals_of_bad_tokens_are_identical(middleware: Any, config: StackAuthConfig, issuer: CountingIssuer) -> None:
    """H9: an unknown key id, a bad signature and bad claims get the same error code."""
    chosen = {"hdr-kid-unknown", "sig-stranger", "sub-missing", "sta-branch-other"}
    outcomes = {middleware(config, case.token) for case in CASES if case.name in chosen}
    reset_all()
    assert outcomes == {"invalid_token"}
