"""CORS: detection of preflights, and the responses to them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.cors import Cors, Preflight, preflight_of

from .helpers import PROJECT, bounded

APP = "https://app.example.com"
PREFLIGHT = {"origin": APP, "access-control-request-method": "PUT"}
NAMES = "access-control-request-headers"


def cors(**settings: Any) -> Cors:
    return Cors(StackAuthConfig(project_id=PROJECT, **settings))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ""),
        ({NAMES: ""}, ""),
        ({NAMES: "authorization,content-type"}, "authorization,content-type"),
        ({NAMES: "authorization, content-type"}, "authorization, content-type"),
        ({NAMES: "a" * 4096}, "a" * 4096),
        ({"access-control-request-method": "PUT"}, ""),
        ({"x-stack-access-token": "junk"}, ""),
    ],
)
def test_preflight_is_parsed(changes: dict[str, str], names: str) -> None:
    assert preflight_of("OPTIONS", {**PREFLIGHT, **changes}) == Preflight(APP, "PUT", names)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("GET", {}),
        ("options", {}),
        ("OPTIONS", {"origin": ""}),
        ("OPTIONS", {"origin": f"{APP},{APP}"}),
        ("OPTIONS", {"origin": f"{APP} {APP}"}),
        ("OPTIONS", {"origin": "https://" + "a" * 505}),
        ("OPTIONS", {"access-control-request-method": ""}),
        ("OPTIONS", {"access-control-request-method": "PUT,PUT"}),
        ("OPTIONS", {"access-control-request-method": "PUT x"}),
        ("OPTIONS", {"access-control-request-method": "PUT\n"}),
        ("OPTIONS", {"access-control-request-method": "A" * 65}),
        ("OPTIONS", {NAMES: "a b"}),
        ("OPTIONS", {NAMES: "a,,b"}),
        ("OPTIONS", {NAMES: ",a"}),
        ("OPTIONS", {NAMES: "a:b"}),
        ("OPTIONS", {NAMES: "a\r\nb: c"}),
        ("OPTIONS", {NAMES: "\u00e9"}),
        ("OPTIONS", {NAMES: "a" * 4097}),
    ],
    ids=ascii,
)
def test_request_that_no_browser_sends_is_no_preflight(method: str, changes: dict[str, str]) -> None:
    assert preflight_of(method, {**PREFLIGHT, **changes}) is None


@pytest.mark.parametrize("missing", PREFLIGHT)
def test_request_without_one_of_the_headers_is_no_preflight(missing: str) -> None:
    assert preflight_of("OPTIONS", {name: value for name, value in PREFLIGHT.items() if name != missing}) is None


text = st.text("aZ0-_!|,: \t\r\n\"'()\u00e9", max_size=12)


@bounded
@given(text, text, text)
def test_response_never_echoes_control_characters(origin: str, method: str, names: str) -> None:
    headers = {"origin": origin, "access-control-request-method": method, NAMES: names}
    preflight = preflight_of("OPTIONS", headers)
    answer = preflight and cors(cors_origins=["*"]).answer(preflight)
    for _, value in answer.headers if answer else ():
        assert re.fullmatch(r"[ -~\t]+", value)


def test_response_allows_the_announced_request() -> None:
    answer = cors(cors_origins=["https://*.example.com"]).answer(Preflight(APP, "PUT", "authorization,x-a"))
    assert answer is not None
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers == (
        ("Access-Control-Allow-Origin", APP),
        ("Access-Control-Allow-Methods", "PUT"),
        ("Access-Control-Allow-Headers", "authorization,x-a"),
        ("Access-Control-Max-Age", "600"),
        ("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    )
    without_names = cors(cors_origins=["*"]).answer(Preflight(APP, "PUT", ""))
    assert without_names is not None
    assert dict(without_names.headers)["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Headers" not in dict(without_names.headers)


@pytest.mark.parametrize("origin", ["https://evil-example.com", "https://a.b.example.com", "null"])
def test_other_origins_get_no_response(origin: str) -> None:
    made = cors(cors_origins=["https://*.example.com"], cors_credentials=True)
    assert made.answer(Preflight(origin, "PUT", "")) is None
    assert made.refusal_headers(origin) == []


@pytest.mark.parametrize("allowed", [True, False])
def test_credentials_are_allowed_if_the_setting_says_so(allowed: bool) -> None:
    """For preflights and refusals: without the header, a browser hides both from a page that sends cookies."""
    made = cors(cors_origins=[APP], cors_credentials=allowed)
    answer = made.answer(Preflight(APP, "PUT", ""))
    assert answer is not None
    header = ("Access-Control-Allow-Credentials", "true")
    assert [header in answer.headers, header in made.refusal_headers(APP)] == [allowed, allowed]
