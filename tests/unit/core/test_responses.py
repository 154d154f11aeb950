"""Responses to refused requests: status, headers in order, and body, for each form of ``error_body``."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.records import Response
from stackauth_middleware._core.responses import Responder, close_code_of
from stackauth_middleware._core.tokens import ForeignToken
from stackauth_middleware.errors import AuthServerError, ErrorCode, RefusalInfo, RefusedError

from .helpers import PROJECT, as_id, bounded

ORIGIN = "https://app.example.com"


def responder(**settings: Any) -> Responder:
    return Responder(StackAuthConfig(project_id=PROJECT, **settings))


def error_of(code: ErrorCode) -> RefusedError | AuthServerError:
    """Return an error with `code`, as the flow raises it."""
    if code is ErrorCode.SERVER_ERROR:
        return AuthServerError(code, 7, "detail-canary")
    if code is ErrorCode.MISCONFIGURED:
        return AuthServerError(code, detail="detail-canary")
    reason = "email_not_verified" if code is ErrorCode.RESTRICTED_NOT_ALLOWED else None
    return RefusedError(code, "detail-canary", reason)


def respond(code: ErrorCode, method: str = "GET", origin: str = "", **settings: Any) -> Response:
    return responder(**settings)(error_of(code), method, "/a", origin)


def body(response: Response) -> Any:
    return json.loads(response.body)


CHALLENGES = {
    ErrorCode.MISSING_TOKEN: 'Bearer realm="stack-auth"',
    ErrorCode.INVALID_REQUEST: 'Bearer realm="stack-auth", error="invalid_request"',
    ErrorCode.INVALID_TOKEN: 'Bearer realm="stack-auth", error="invalid_token"',
    ErrorCode.EXPIRED_TOKEN: 'Bearer realm="stack-auth", error="invalid_token"',
    ErrorCode.INVALID_API_KEY: 'Bearer realm="stack-auth", error="invalid_token"',
    ErrorCode.EXPIRED_API_KEY: 'Bearer realm="stack-auth", error="invalid_token"',
    ErrorCode.ANONYMOUS_NOT_ALLOWED: 'Bearer realm="stack-auth", error="invalid_token"',
    ErrorCode.RESTRICTED_NOT_ALLOWED: 'Bearer realm="stack-auth", error="insufficient_scope"',
    ErrorCode.FORBIDDEN: 'Bearer realm="stack-auth", error="insufficient_scope"',
    ErrorCode.SERVER_ERROR: None,
    ErrorCode.MISCONFIGURED: None,
}


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
def test_response_to_each_error_code(code: ErrorCode) -> None:
    """Compared as a whole, so that nothing else is sent."""
    found = respond(code)
    text: dict[str, Any] = {"error": code.message, "code": code.value}
    if code is ErrorCode.RESTRICTED_NOT_ALLOWED:
        text["restricted_reason"] = "email_not_verified"
    encoded = json.dumps(text).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(encoded))),
        ("Cache-Control", "no-store"),
    ]
    if CHALLENGES[code] is not None:
        headers.append(("WWW-Authenticate", str(CHALLENGES[code])))
    if code is ErrorCode.SERVER_ERROR:
        headers.append(("Retry-After", "7"))
    assert found == Response.of(code.status, tuple(headers), encoded)


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
@pytest.mark.parametrize(
    "settings", [{}, {"error_body": "problem"}, {"error_body": lambda error, info: "x"}], ids=as_id
)
def test_response_to_head_has_the_same_headers_and_no_body(code: ErrorCode, settings: dict[str, Any]) -> None:
    make = responder(**settings)
    for _ in range(2):
        got, head = make(error_of(code), "GET", "/a", ""), make(error_of(code), "HEAD", "/a", "")
        assert head == Response.of(got.status, got.headers, b"")
        assert got.body


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
@pytest.mark.parametrize("settings", [{}, {"error_body": "problem"}], ids=["default", "problem"])
def test_detail_is_not_in_the_response(code: ErrorCode, settings: dict[str, Any]) -> None:
    """It would tell a forger what to change."""
    found = respond(code, origin=ORIGIN, cors_origins=["*"], **settings)
    assert "canary" not in repr(found)


@pytest.mark.parametrize("settings", [{}, {"error_body": "problem"}], ids=["default", "problem"])
def test_reason_is_in_the_body_with_explain(settings: dict[str, Any]) -> None:
    config = {"explain": True, "api_url": "http://127.0.0.1:8102", **settings}
    for code in ErrorCode:
        assert body(respond(code, **config)) == body(respond(code, **settings)) | {"reason": "detail-canary"}
    foreign = ForeignToken(ErrorCode.INVALID_TOKEN, "a token of another issuer")
    foreign.advice = "iss is 'x', expected 'y'"
    answer = responder(**config)(foreign, "GET", "/a", "")
    assert body(answer)["reason"] == "a token of another issuer: iss is 'x', expected 'y'"
    assert "reason" not in body(respond(ErrorCode.FORBIDDEN, **{**config, "error_body": {403: {}}}))


def test_restricted_reason_is_in_the_body_of_restricted_not_allowed_only() -> None:
    refused = RefusedError(ErrorCode.FORBIDDEN, restricted_reason="email_not_verified")
    assert body(responder()(refused, "GET", "/", "")) == {"error": "Not allowed", "code": "forbidden"}
    without = RefusedError(ErrorCode.RESTRICTED_NOT_ALLOWED)
    assert body(responder()(without, "GET", "/", ""))["restricted_reason"] is None


def test_responses_do_not_affect_each_other() -> None:
    """Constant responses are built once; those with a reason, ``Retry-After`` or an origin are not constant."""
    make = responder(cors_origins=[ORIGIN])
    code = ErrorCode.RESTRICTED_NOT_ALLOWED
    for reason in ("email_not_verified", None, "restricted_by_administrator", None):
        assert body(make(RefusedError(code, "", reason), "GET", "/", ""))["restricted_reason"] == reason
    for seconds in (5, 9):
        assert ("Retry-After", str(seconds)) in make(
            AuthServerError(ErrorCode.SERVER_ERROR, seconds), "GET", "/", ""
        ).headers
    for origin in ("", ORIGIN, ""):
        headers = dict(make(RefusedError(ErrorCode.MISSING_TOKEN), "GET", "/", origin).headers)
        assert headers.get("Access-Control-Allow-Origin", "") == origin


def test_realm_is_configurable() -> None:
    headers = dict(respond(ErrorCode.MISSING_TOKEN, realm="My app, v2").headers)
    assert headers["WWW-Authenticate"] == 'Bearer realm="My app, v2"'


# -- bodies -------------------------------------------------------------------------------------------


def test_problem_has_the_members_of_rfc_9457() -> None:
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


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
def test_problem_of_each_error_code_has_status_code_and_title(code: ErrorCode) -> None:
    problem = body(respond(code, error_body="problem"))
    assert (problem["status"], problem["code"], problem["type"]) == (code.status, code.value, "about:blank")
    assert problem["title"]


@pytest.mark.parametrize(
    ("bodies", "code", "sent"),
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
def test_mapping_is_read_by_error_code_then_by_status_then_by_default(bodies: Any, code: ErrorCode, sent: Any) -> None:
    found = respond(code, error_body=bodies)
    assert body(found) == sent
    assert dict(found.headers)["Content-Length"] == str(len(found.body))
    assert found.headers[0] == ("Content-Type", "application/json")


def test_callable_gets_the_error_code_and_the_refusal_info() -> None:
    calls: list[tuple[ErrorCode, RefusalInfo]] = []

    def make(error: ErrorCode, info: RefusalInfo) -> dict[str, Any]:
        calls.append((error, info))
        return {"made": error.value}

    respond_to = responder(error_body=make)
    assert body(respond_to(error_of(ErrorCode.RESTRICTED_NOT_ALLOWED), "POST", "/b", "")) == {
        "made": "restricted_not_allowed"
    }
    respond_to(error_of(ErrorCode.SERVER_ERROR), "GET", "/c", "")
    assert calls == [
        (ErrorCode.RESTRICTED_NOT_ALLOWED, RefusalInfo("POST", "/b", "email_not_verified", None)),
        (ErrorCode.SERVER_ERROR, RefusalInfo("GET", "/c", None, 7)),
    ]


def test_callable_is_called_for_each_refusal() -> None:
    """Its body may depend on the path."""
    make = responder(error_body=lambda error, info: info.path)
    assert [body(make(error_of(ErrorCode.MISSING_TOKEN), "GET", path, "")) for path in ("/a", "/b")] == ["/a", "/b"]


def raises(error: ErrorCode, info: RefusalInfo) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "make",
    [raises, lambda error, info: {1, 2}, lambda error, info: float("nan"), lambda error, info: object()],
    ids=["raises", "a set", "nan", "an object"],
)
def test_failed_callable_is_logged_and_the_default_body_is_sent(make: Any, caplog: pytest.LogCaptureFixture) -> None:
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

ALLOWED_HEADERS = ("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After"), ("Vary", "Origin")


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
@pytest.mark.parametrize("code", [ErrorCode.MISSING_TOKEN, ErrorCode.SERVER_ERROR], ids=lambda code: code.name)
def test_refusal_is_readable_from_an_allowed_origin(
    allowed: list[str], origin: str, answer: str | None, code: ErrorCode
) -> None:
    plain = respond(code)
    found = respond(code, origin=origin, cors_origins=allowed)
    added = (("Access-Control-Allow-Origin", answer), *ALLOWED_HEADERS) if answer else ()
    assert found == Response.of(plain.status, plain.headers + added, plain.body)


@bounded
@given(st.text(max_size=30))
def test_only_configured_origins_are_echoed(origin: str) -> None:
    """An echo of arbitrary text could split the response."""
    headers = dict(respond(ErrorCode.MISSING_TOKEN, origin=origin, cors_origins=["*", ORIGIN]).headers)
    assert headers.get("Access-Control-Allow-Origin") == (ORIGIN if origin == ORIGIN else "*" if origin else None)


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
@pytest.mark.parametrize("error_body", [None, "problem", {401: {"\u00e9": 1}}], ids=str)
def test_headers_and_body_conform_to_wsgi_and_http(code: ErrorCode, error_body: Any) -> None:
    """PEP 3333: native strings in latin-1 without line breaks, no repeated header, the right length."""
    found = respond(code, origin=ORIGIN, cors_origins=[ORIGIN], error_body=error_body)
    names = [name.lower() for name, _ in found.headers]
    assert len(names) == len(set(names))
    for name, value in found.headers:
        assert type(name) is type(value) is str
        assert f"{name}{value}".encode("latin-1").decode("ascii").isprintable()
    assert dict(found.headers)["Content-Length"] == str(len(found.body))
    assert found.body.isascii()


def test_close_code_of_each_status() -> None:
    """3000 Unauthorized, 3003 Forbidden and 1013 Try Again Later, as registered with IANA."""
    assert [close_code_of(status) for status in (400, 401, 403, 500, 503)] == [3000, 3000, 3003, 1013, 1013]
