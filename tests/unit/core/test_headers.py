"""Response headers that the middleware changes: ``Vary`` and ``Cache-Control`` of private responses, and preflights."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.credentials import TOKEN_SOURCES, vary_names
from stackauth_middleware._core.headers import preflight_headers, private_headers, vary_of
from stackauth_middleware._core.rules import Rule

from .helpers import PROJECT, bounded

VARY = ("X-Token", "Authorization")


def private(*headers: tuple[str, str]) -> dict[str, str]:
    made = private_headers(headers, VARY)
    assert len({name.lower() for name, _ in made}) == len(made)
    return {name.lower(): value for name, value in made}


@pytest.mark.parametrize(
    ("app_values", "vary"),
    [
        ([], "X-Token, Authorization"),
        (["Accept"], "Accept, X-Token, Authorization"),
        (["accept , authorization", "Origin"], "accept, authorization, Origin, X-Token"),
        (["AUTHORIZATION,x-token"], "AUTHORIZATION, x-token"),
        (["*"], "*"),
        (["Accept, *"], "Accept, *"),
        ([""], "X-Token, Authorization"),
    ],
)
def test_vary_names_the_token_sources(app_values: list[str], vary: str) -> None:
    assert private(*(("vary", value) for value in app_values))["vary"] == vary


@pytest.mark.parametrize(
    ("app_values", "control"),
    [
        ([], "private"),
        ([""], "private"),
        (["max-age=60"], "max-age=60, private"),
        (["no-cache", "must-revalidate"], "no-cache, must-revalidate, private"),
        (['x="a, public"'], 'x="a, public", private'),
        (["x=public"], "x=public, private"),
        (["publicly"], "publicly, private"),
        (["no-store"], "no-store"),
        (["max-age=0, No-Store"], "max-age=0, No-Store"),
        (["private, max-age=60"], "private, max-age=60"),
        (["PUBLIC"], "PUBLIC"),
        (["public", "max-age=60"], "public, max-age=60"),
        (["s-maxage=60"], "s-maxage=60"),
        (["s-maxage = 60"], "s-maxage = 60"),
    ],
)
def test_private_is_added_unless_the_app_has_decided(app_values: list[str], control: str) -> None:
    assert private(*(("Cache-Control", value) for value in app_values))["cache-control"] == control


header_values = st.lists(st.sampled_from(["public", "private", "no-store", "max-age=1", "*", "Accept", 'x="', ""]))


@bounded
@given(header_values, header_values)
def test_no_value_of_the_app_is_removed(vary: list[str], control: list[str]) -> None:
    headers = [("Vary", v) for v in vary] + [("X", "1")] + [("Cache-Control", c) for c in control] + [("X", "2")]
    made = private_headers(headers, VARY)
    assert [pair for pair in made if pair[0] == "X"] == [("X", "1"), ("X", "2")]
    found = dict(made)
    assert {*filter(None, vary)} <= {*found["Vary"].split(", ")}
    assert {*filter(None, control)} <= {*found["Cache-Control"].split(", ")}


def test_vary_follows_the_enabled_token_sources() -> None:
    assert vary_names(["bearer", "websocket"]) == ("Authorization",)
    assert vary_names(["x-stack-auth"]) == ("X-Stack-Auth", "X-Hexclave-Auth")
    assert len(vary_names(TOKEN_SOURCES)) == 5


APP_HEADERS = [
    ("access-control-allow-origin", "https://app.example.com"),
    ("Access-Control-Allow-Headers", "x"),
    ("Vary", "Origin"),
    ("Allow", "GET, OPTIONS"),
    ("Content-Type", "text/html"),
    ("Content-Length", "9"),
    ("Content-Encoding", "gzip"),
    ("Transfer-Encoding", "chunked"),
    ("Set-Cookie", "session=1"),
    ("Location", "/secret"),
    ("ETag", "x"),
    ("Link", "</secret>"),
]


@pytest.mark.parametrize(("status", "length"), [(200, True), (404, True), (204, False), (304, False)])
def test_only_cors_headers_of_a_preflight_are_kept(status: int, length: bool) -> None:
    added = [("Content-Length", "0")] if length else []
    assert preflight_headers(status, APP_HEADERS) == APP_HEADERS[:4] + added


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({}, False),
        ({"rules": [Rule("/a", api_keys=())]}, False),
        ({"rules": [Rule("/a"), Rule("/b", api_keys=["team"])]}, True),
        ({"api_keys": ["user"]}, True),
    ],
)
def test_vary_names_headers_for_api_keys_where_a_path_accepts_them(settings: Any, keys: bool) -> None:
    config = StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_x", api_key_sources=["x-api-key"], **settings)
    assert vary_of(config) == (*vary_names(config.token_sources), *(["X-Api-Key"] if keys else []))
