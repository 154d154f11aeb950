from __future__ import annotations

from typing import Any

import pytest

from stackauth_middleware.testing._request import Request, body_of, one_brand, schema_error, wants_pretty
from stackauth_middleware.testing._responses import KnownError


def request(**members: Any) -> Request:
    return Request(**{"method": "GET", "path": "/x", "query": {}, "headers": {}, "body": b"", **members})


def test_a_header_is_found_by_its_short_name() -> None:
    asked = request(headers={"x-stack-project-id": "p"})
    assert asked.header("project-id") == "p"
    assert asked.header("branch-id") == ""


def test_new_brand_takes_precedence() -> None:
    headers = {"x-stack-a": "old", "x-hexclave-a": "new", "x-hexclave-b": "b", "x-stack-c": "c", "accept": "x"}
    folded = one_brand(headers)
    assert (folded["x-stack-a"], folded["x-stack-b"], folded["x-stack-c"], folded["accept"]) == ("new", "b", "c", "x")


def test_schema_error_lists_the_problems() -> None:
    error = schema_error(request(method="POST"), ["bad", "worse"])
    message = "Request validation failed on POST /x:\n  - bad\n  - worse"
    assert (error.status, error.code, error.details, error.message) == (
        400,
        "SCHEMA_ERROR",
        {"message": message},
        message,
    )


@pytest.mark.parametrize(
    ("content_type", "body", "members"),
    [
        ("application/x-www-form-urlencoded", b"a=1&b=&c=%20", {"a": "1", "b": "", "c": " "}),
        ("application/json; charset=utf-8", b'{"a": "1", "b": 2}', {"a": "1", "b": 2}),
        ("application/json", b"[1]", {}),
        ("text/plain", b"a=1", {}),
        ("", b"", {}),
    ],
)
def test_a_body_is_a_form_or_json(content_type: str, body: bytes, members: dict[str, object]) -> None:
    assert body_of(request(headers={"content-type": content_type}, body=body)) == members


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_broken_json_is_refused(body: bytes) -> None:
    with pytest.raises(KnownError) as caught:
        body_of(request(headers={"content-type": "application/json"}, body=body))
    assert (caught.value.status, caught.value.code) == (400, "BODY_PARSING_ERROR")
    assert caught.value.message == "Invalid JSON in request body"


@pytest.mark.parametrize(("accept", "pretty"), [("", False), ("*/*", False), ("text/html,*/*", True)])
def test_browsers_get_indented_json(accept: str, pretty: bool) -> None:
    assert wants_pretty(request(headers={"accept": accept})) is pretty
