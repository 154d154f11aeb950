"""From a refusal to the response: status, headers in their order, body; in every form that can be set."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.records import Response
from stackauth_middleware._core.responses import Responder
from stackauth_middleware.errors import AuthServerError, ErrorCode, RefusalInfo, RefusedError

from .helpers import PROJECT, as_id, bounded

ORIGIN = "https://app.example.com"


def responder(**settings: Any) -> Responder:
    return Responder(StackAuthConfig(project_id=PROJECT, **settings))


def error_of(row: ErrorCode) -> RefusedError | AuthServerError:
    """Return an error of `row` as the flow raises it."""
    if row is ErrorCode.SERVER_ERROR:
        return AuthServerError(row, 7, "detail-canary")
    if row is ErrorCode.MISCONFIGURED:
        return AuthServerError(row, detail="detail-canary")
    reason = "email_not_verified" if row is ErrorCode.RESTRICTED_NOT_ALLOWED else None
    return RefusedError(row, "detail-canary", reason)


def respond(row: ErrorCode, method: str = "GET", origin: str = "", **settings: Any) -> Response:
    return responder(**settings)(error_of(row), method, "/a", origin)


def body(response: Response) -> Any:
    return json.loads(response.body)


CHALLENGES = {
    ErrorCode.MISSING_TOKEN: 'Bearer realm="stack-auth"',
    ErrorCode.INVALID_REQUEST: 'Bearer realm="stack-auth", error="invalid_request"',
    ErrorCode.INVALID_TOKEN: 'Bearer realm="stack-auth", error="invalid_token"',
    ErrorCode.EXPIRED_TOKEN: 'Bearer realm="stack-auth", error="invalid_token"',
    ErrorCode.ANONYMOUS_NOT_ALLOWED: 'Bearer realm="stack-auth", error="invalid_token"',
    ErrorCode.RESTRICTED_NOT_ALLOWED: 'Bearer realm="stack-auth", error="insufficient_scope"',
    ErrorCode.FORBIDDEN: 'Bearer realm="stack-auth", error="insufficient_scope"',
    ErrorCode.SERVER_ERROR: None,
    ErrorCode.MISCONFIGURED: None,
}


@pytest.mark.parametrize("row", ErrorCode, ids=lambda row: row.name)
def test_the_response_of_each_row(row: ErrorCode) -> None:
    """Status, headers and body, whole: nothing more goes out."""
    found = respond(row)
    text: dict[str, Any] = {"error": row.message, "code": row.value}
    if row is ErrorCode.RESTRICTED_NOT_ALLOWED:
        text["restricted_reason"] = "email_not_verified"
    octets = json.dumps(text).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(octets))),
        ("Cache-Control", "no-store"),
    ]
    if CHALLENGES[row] is not None:
        headers.append(("WWW-Authenticate", str(CHALLENGES[row])))
    if row is ErrorCode.SERVER_ERROR:
        headers.append(("Retry-After", "7"))
    assert found == Response.of(row.status, tuple(headers), octets)


@pytest.mark.parametrize("row", ErrorCode, ids=lambda row: row.name)
@pytest.mark.parametrize(
    "settings", [{}, {"error_body": "problem"}, {"error_body": lambda error, info: "x"}], ids=as_id
)
def test_head_gets_the_same_headers_and_no_body(row: ErrorCode, settings: dict[str, Any]) -> None:
    make = responder(**settings)
    for _ in range(2):
        got, head = make(error_of(row), "GET", "/a", ""), make(error_of(row), "HEAD", "/a", "")
        assert head == Response.of(got.status, got.headers, b"")
        assert got.body


@pytest.mark.parametrize("row", ErrorCode, ids=lambda row: row.name)
@pytest.mark.parametrize("settings", [{}, {"error_body": "problem"}], ids=["default", "problem"])
def test_no_reason_in_detail_goes_out(row: ErrorCode, settings: dict[str, Any]) -> None:
    """Why a token was refused is for the log: a forger would be told how far he came."""
    found = respond(row, origin=ORIGIN, cors_origins=["*"], **settings)
    assert "canary" not in repr(found)


def test_a_reason_is_told_of_restricted_accounts_alone() -> None:
    refused = RefusedError(ErrorCode.FORBIDDEN, restricted_reason="email_not_verified")
    assert body(responder()(refused, "GET", "/", "")) == {"error": "Not allowed", "code": "forbidden"}
    without = RefusedError(ErrorCode.RESTRICTED_NOT_ALLOWED)
    assert body(responder()(without, "GET", "/", ""))["restricted_reason"] is None


def test_one_refusal_does_not_colour_the_next() -> None:
    """Responses that are always the same are kept: those with a reason, a pause or an origin are not."""
    make = responder(cors_origins=[ORIGIN])
    row = ErrorCode.RESTRICTED_NOT_ALLOWED
    for reason in ("email_not_verified", None, "restricted_by_administrator", None):
        assert body(make(RefusedError(row, "", reason), "GET", "/", ""))["restricted_reason"] == reason
    for seconds in (5, 9):
        assert ("Retry-After", str(seconds)) in make(
            AuthServerError(ErrorCode.SERVER_ERROR, seconds), "GET", "/", ""
        ).headers
    for origin in ("", ORIGIN, ""):
        headers = dict(make(RefusedError(ErrorCode.MISSING_TOKEN), "GET", "/", origin).headers)
        assert headers.get("Access-Control-Allow-Origin", "") == origin


def test_the_realm_is_the_settings() -> None:
    headers = dict(respond(ErrorCode.MISSING_TOKEN, realm="My app, v2").headers)
    assert headers["WWW-Authenticate"] == 'Bearer realm="My app, v2"'


# -- bodies -------------------------------------------------------------------------------------------


def test_a_problem_has_the_members_of_its_rfc() -> None:
    found = respond(ErrorCode.RESTRICTED_NOT_ALLOWED, error_body="problem")
    assert found.headers[0] == ("Content-Type", "application/problem+json")
    assert body(found) == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "Account is restricted",
        "code": "restricted_not_allowed",
        "restricted_reason": "email_not_verified",
    }


@pytest.mark.parametrize("row", ErrorCode, ids=lambda row: row.name)
def test_every_problem_says_its_status(row: ErrorCode) -> None:
    told = body(respond(row, error_body="problem"))
    assert (told["status"], told["code"], told["type"]) == (row.status, row.value, "about:blank")
    assert told["title"]


@pytest.mark.parametrize(
    ("bodies", "row", "sent"),
    [
        ({ErrorCode.INVALID_TOKEN: {"a": 1}}, ErrorCode.INVALID_TOKEN, {"a": 1}),
        ({401: {"detail": "x"}}, ErrorCode.EXPIRED_TOKEN, {"detail": "x"}),
        ({401: {"detail": "x"}, ErrorCode.EXPIRED_TOKEN: None}, ErrorCode.EXPIRED_TOKEN, None),
        ({401: None}, ErrorCode.MISSING_TOKEN, None),
        ({401: "Unauthorized"}, ErrorCode.MISSING_TOKEN, "Unauthorized"),
        ({401: []}, ErrorCode.FORBIDDEN, {"error": "Not allowed", "code": "forbidden"}),
        ({}, ErrorCode.FORBIDDEN, {"error": "Not allowed", "code": "forbidden"}),
        ({503: {"\u00e9": "\U0001f600"}}, ErrorCode.SERVER_ERROR, {"\u00e9": "\U0001f600"}),
    ],
    ids=str,
)
def test_a_mapping_goes_by_row_then_by_status_then_by_default(bodies: Any, row: ErrorCode, sent: Any) -> None:
    found = respond(row, error_body=bodies)
    assert body(found) == sent
    assert dict(found.headers)["Content-Length"] == str(len(found.body))
    assert found.headers[0] == ("Content-Type", "application/json")


def test_a_callable_is_told_what_it_needs() -> None:
    told: list[tuple[ErrorCode, RefusalInfo]] = []

    def make(error: ErrorCode, info: RefusalInfo) -> dict[str, Any]:
        told.append((error, info))
        return {"made": error.value}

    respond_to = responder(error_body=make)
    assert body(respond_to(error_of(ErrorCode.RESTRICTED_NOT_ALLOWED), "POST", "/b", "")) == {
        "made": "restricted_not_allowed"
    }
    respond_to(error_of(ErrorCode.SERVER_ERROR), "GET", "/c", "")
    assert told == [
        (ErrorCode.RESTRICTED_NOT_ALLOWED, RefusalInfo("POST", "/b", "email_not_verified", None)),
        (ErrorCode.SERVER_ERROR, RefusalInfo("GET", "/c", None, 7)),
    ]


def test_a_callable_is_asked_each_time() -> None:
    """What it says may depend on the path."""
    make = responder(error_body=lambda error, info: info.path)
    assert [body(make(error_of(ErrorCode.MISSING_TOKEN), "GET", path, "")) for path in ("/a", "/b")] == ["/a", "/b"]


def raises(error: ErrorCode, info: RefusalInfo) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "make",
    [raises, lambda error, info: {1, 2}, lambda error, info: float("nan"), lambda error, info: object()],
    ids=["raises", "a set", "nan", "an object"],
)
def test_a_callable_that_fails_is_logged_and_the_default_is_sent(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "stackauth_middleware"):
        found = respond(ErrorCode.RESTRICTED_NOT_ALLOWED, error_body=make)
    assert body(found) == {
        "error": "Account is restricted",
        "code": "restricted_not_allowed",
        "restricted_reason": "email_not_verified",
    }
    (line,) = caplog.records
    assert line.levelno == logging.ERROR
    assert line.getMessage() == "error_body raised, or returned what is not JSON; sending the default body"
    assert line.exc_info


# -- cors ---------------------------------------------------------------------------------------------

LET_IN = ("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After"), ("Vary", "Origin")


@pytest.mark.parametrize(
    ("allowed", "origin", "answer"),
    [
        ([ORIGIN], ORIGIN, ORIGIN),
        ([ORIGIN, "*"], ORIGIN, ORIGIN),
        (["*"], ORIGIN, "*"),
        (["*"], "null", "*"),
        ([ORIGIN], "https://evil.example", None),
        ([ORIGIN], f"{ORIGIN},{ORIGIN}", None),
        ([ORIGIN], ORIGIN + ".evil.example", None),
        ([ORIGIN], ORIGIN.upper(), None),
        ([ORIGIN], "", None),
        (["*"], "", None),
        ([], ORIGIN, None),
    ],
)
@pytest.mark.parametrize("row", [ErrorCode.MISSING_TOKEN, ErrorCode.SERVER_ERROR], ids=lambda row: row.name)
def test_a_browser_of_an_allowed_origin_may_read_the_refusal(
    allowed: list[str], origin: str, answer: str | None, row: ErrorCode
) -> None:
    plain = respond(row)
    found = respond(row, origin=origin, cors_origins=allowed)
    added = (("Access-Control-Allow-Origin", answer), *LET_IN) if answer else ()
    assert found == Response.of(plain.status, plain.headers + added, plain.body)


@bounded
@given(st.text(max_size=30))
def test_an_origin_is_never_echoed_unless_it_was_written_down(origin: str) -> None:
    """A header made of a request's text would be a way to split the response."""
    headers = dict(respond(ErrorCode.MISSING_TOKEN, origin=origin, cors_origins=["*", ORIGIN]).headers)
    assert headers.get("Access-Control-Allow-Origin") == (ORIGIN if origin == ORIGIN else "*" if origin else None)


@pytest.mark.parametrize("row", ErrorCode, ids=lambda row: row.name)
@pytest.mark.parametrize("error_body", [None, "problem", {401: {"\u00e9": 1}}], ids=str)
def test_headers_and_body_are_what_wsgi_and_http_demand(row: ErrorCode, error_body: Any) -> None:
    """Native strings of latin-1 without line breaks, no header twice, a true length (PEP 3333)."""
    found = respond(row, origin=ORIGIN, cors_origins=[ORIGIN], error_body=error_body)
    names = [name.lower() for name, _ in found.headers]
    assert len(names) == len(set(names))
    for name, value in found.headers:
        assert type(name) is type(value) is str
        assert f"{name}{value}".encode("latin-1").decode("ascii").isprintable()
    assert dict(found.headers)["Content-Length"] == str(len(found.body))
    assert found.body.isascii()
