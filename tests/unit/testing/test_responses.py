from __future__ import annotations

import json
import re

import pytest

from stackauth_middleware.testing._responses import (
    KnownError,
    PlainError,
    bare_response,
    error_response,
    json_response,
    server_fault,
    with_both_brands,
    with_status_hidden,
)


def test_a_known_error_is_indented_json() -> None:
    error = KnownError("RESTRICTED_USER_NOT_ALLOWED", {"restricted_reason": {"type": "anonymous"}}, reason="anonymous")
    answer = error_response(error)
    assert answer.status == 403
    assert answer.body.decode() == (
        '{\n  "code": "RESTRICTED_USER_NOT_ALLOWED",\n  "details": {\n    "restricted_reason": {\n'
        '      "type": "anonymous"\n    }\n  },\n'
        '  "error": "The user in the access token is in restricted state. Reason: anonymous. Please pass the'
        ' X-Stack-Allow-Restricted-User header if this is intended."\n}'
    )
    headers = dict(answer.headers)
    assert len(headers) == len(answer.headers)
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["content-length"] == str(len(answer.body))
    assert headers["cache-control"] == "no-store, max-age=0"
    assert headers["access-control-allow-origin"] == "*"
    assert headers["x-stack-known-error"] == "RESTRICTED_USER_NOT_ALLOWED"
    assert re.fullmatch(r"[0-9a-z]{16}", headers["x-stack-request-id"])


def test_an_error_without_details_has_no_such_member() -> None:
    error = KnownError("UNPARSABLE_ACCESS_TOKEN")
    assert str(error) == "UNPARSABLE_ACCESS_TOKEN"
    assert json.loads(error_response(error).body) == {
        "code": "UNPARSABLE_ACCESS_TOKEN",
        "error": "Access token is not parsable.",
    }


def test_braces_in_details_are_not_formatted() -> None:
    error = KnownError("INVALID_ACCESS_TYPE", access_type="{access_type} {0}")
    assert "but was '{access_type} {0}'" in error.message


def test_a_plain_error_is_text_without_a_code() -> None:
    error = PlainError(404, "Project not found")
    answer = error_response(error)
    headers = dict(answer.headers)
    assert str(error) == "Project not found"
    assert (answer.status, answer.body) == (404, b"Project not found")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert not [name for name in headers if name.endswith("known-error")]


def test_server_fault_names_only_the_request_id() -> None:
    error = server_fault()
    assert error.status == 500
    assert re.fullmatch(
        r"Something went wrong\. Please make sure the data you entered is correct\.\n\nRequest ID: [0-9a-z]{16}",
        error.text,
    )


def test_json_is_compact_or_indented() -> None:
    members = {"name": "Ünï", "list": [1]}
    dense = json_response(members, pretty=False)
    assert (dense.status, dense.body.decode()) == (200, '{"name":"Ünï","list":[1]}')
    assert dict(dense.headers)["cache-control"] == "no-store, max-age=0"
    pretty = json_response(members, pretty=True, cache_control="public, max-age=3600")
    assert pretty.body.decode() == '{\n  "name": "Ünï",\n  "list": [\n    1\n  ]\n}'
    assert dict(pretty.headers)["cache-control"] == "public, max-age=3600"


def test_lone_surrogate_can_be_sent() -> None:
    assert json_response({"name": "\ud800"}, pretty=False).body == b'{"name":"?"}'


def test_bare_response_adds_only_content_length() -> None:
    assert bare_response(405, ("a", "b"), body=b"xy") == (405, (("a", "b"), ("content-length", "2")), b"xy")


@pytest.mark.parametrize(
    ("status", "shown", "actual"), [(400, 200, "400"), (499, 200, "499"), (500, 500, None), (200, 200, None)]
)
def test_only_4xx_statuses_are_hidden(status: int, shown: int, actual: str | None) -> None:
    answer = with_both_brands(with_status_hidden(bare_response(status)))
    headers = dict(answer.headers)
    assert answer.status == shown
    assert headers.get("x-stack-actual-status") == headers.get("x-hexclave-actual-status") == actual
