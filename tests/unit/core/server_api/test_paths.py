"""Requests that the caller spells out: they reach the API and nothing else."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.server_api.paths import METHODS, free_request
from tests.unit.core.helpers import API, as_id, bounded, reply

from .recorded import Server


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
@pytest.mark.parametrize("method", METHODS)
def test_request_is_sent_below_the_api_with_its_query_and_body(prefix: str, method: str) -> None:
    server = Server(reply({"answer": [1]}))
    params = {"a": "b&c", "flag": True, "off": False, "number": 2, "none": None}
    result = server.send(free_request(method, f"{prefix}/team-permissions/$read_members", {"x": 1}, params))
    assert result == {"answer": [1]}
    assert server.calls[0].url.startswith(f"{API}/api/v1/team-permissions/$read_members?")
    query = [("a", "b&c"), ("flag", "true"), ("number", "2"), ("off", "false")]
    assert server.sent == [(method, "/api/v1/team-permissions/$read_members", query, {"x": 1})]


def test_request_without_body_and_query_sends_neither() -> None:
    server = Server(reply(b"", 204))
    assert server.send(free_request("DELETE", "/users/1", None, None)) is None
    assert server.sent == [("DELETE", "/api/v1/users/1", [], None)]
    assert "content-type" not in server.calls[0].headers


LEAVING = [
    *("", "users", "//evil.example/users", "https://evil.example/", "/users//me", "/users/", "/", "/users/.."),
    *("/../users", "/./users", "/users/%2e%2e", "/users?x=1", "/users#x", "/users\\me", "/users me", "/ü", "/a;b"),
    *("/users\r\nx: y", "/api/v2/users", "/api", "/api/v1", "/api/v1/", "/api/v1/api/v1/users", "/api/v1//users"),
    *(None, 1, b"/users"),
]


@pytest.mark.parametrize("path", LEAVING, ids=as_id)
def test_path_that_could_leave_the_api_is_refused(path: Any) -> None:
    with pytest.raises(ValueError, match="path must"):
        free_request("GET", path, None, None)


@bounded
@given(st.text(st.sampled_from("/.%\\?#@:a1$~-_ éA"), max_size=12).map("/".__add__))
def test_any_accepted_path_is_below_the_api_for_an_url_parser(path: str) -> None:
    try:
        request = free_request("GET", path, None, None)
    except ValueError:
        return
    server = Server(reply({}))
    server.send(request)
    parts = urlsplit(server.calls[0].url)
    assert (f"{parts.scheme}://{parts.netloc}", parts.query, parts.fragment) == (API, "", "")
    assert parts.path == f"/api/v1{path}"
    assert not {"", ".", ".."} & set(parts.path[1:].split("/"))


@pytest.mark.parametrize("method", ["get", "HEAD", "OPTIONS", "CONNECT", "", "GET /", None])
def test_other_methods_are_refused(method: Any) -> None:
    with pytest.raises(ValueError, match="method must be one of GET"):
        free_request(method, "/users", None, None)


@pytest.mark.parametrize("params", [{"a": ["b"]}, {"a": b"b"}, {1: "b"}], ids=as_id)
def test_params_of_other_types_are_refused(params: Any) -> None:
    with pytest.raises(TypeError, match="params must map names"):
        free_request("GET", "/users", None, params)
