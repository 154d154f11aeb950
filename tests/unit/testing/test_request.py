from __future__ import annotations

from typing import Any

import pytest

from stackauth_middleware.testing._request import Request, check_schema, form, one_brand, preflight, wants_pretty
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


def test_known_parameters_pass() -> None:
    check_schema(request())
    check_schema(request(query={"a": "1"}), [], ("a",))


@pytest.mark.parametrize(
    ("query", "problems", "lines"),
    [
        ({"x": "1"}, None, "\n  - query contains unknown properties: x"),
        ({"x": "1", "a": "", "y": ""}, [], "\n  - query contains unknown properties: x, y"),
        ({"a": "1"}, ["bad"], "\n  - bad"),
        ({"x": "1"}, ["bad"], "\n  - bad\n  - query contains unknown properties: x"),
    ],
)
def test_unknown_parameters_are_refused(query: dict[str, str], problems: list[str] | None, lines: str) -> None:
    with pytest.raises(KnownError) as caught:
        check_schema(request(method="POST", query=query), problems, ("a",))
    message = f"Request validation failed on POST /x:{lines}"
    assert (caught.value.status, caught.value.code) == (400, "SCHEMA_ERROR")
    assert (caught.value.details, caught.value.message) == ({"message": message}, message)


@pytest.mark.parametrize(
    ("content_type", "body", "members"),
    [
        ("application/x-www-form-urlencoded", b"a=1&b=&c=%20", {"a": "1", "b": "", "c": " "}),
        ("application/json; charset=utf-8", b'{"a": "1", "b": 2}', {"a": "1", "b": "2"}),
        ("application/json", b"[1]", {}),
        ("text/plain", b"a=1", {}),
        ("", b"", {}),
    ],
)
def test_a_body_is_a_form_or_json(content_type: str, body: bytes, members: dict[str, str]) -> None:
    assert form(request(headers={"content-type": content_type}, body=body)) == members


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_broken_json_is_refused(body: bytes) -> None:
    with pytest.raises(KnownError) as caught:
        form(request(headers={"content-type": "application/json"}, body=body))
    assert (caught.value.status, caught.value.code) == (400, "BODY_PARSING_ERROR")
    assert caught.value.message == "Invalid JSON in request body"


@pytest.mark.parametrize(("accept", "pretty"), [("", False), ("*/*", False), ("text/html,*/*", True)])
def test_browsers_get_indented_json(accept: str, pretty: bool) -> None:
    assert wants_pretty(request(headers={"accept": accept})) is pretty


def test_a_preflight_allows_what_clients_send() -> None:
    answer = preflight()
    headers = dict(answer.headers)
    assert (answer.status, answer.body) == (200, b"")
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-methods"] == "GET, POST, PUT, PATCH, DELETE, OPTIONS"
    assert headers["access-control-max-age"] == "86400"
    allowed = headers["access-control-allow-headers"].split(", ")
    assert {"x-stack-access-token", "x-hexclave-access-token", "authorization", "content-type"} < set(allowed)
    assert len(allowed) == len(set(allowed)) == 28
