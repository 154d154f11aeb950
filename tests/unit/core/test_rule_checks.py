"""Checks of a rule's path and methods."""

from __future__ import annotations

from typing import Any

import pytest

from stackauth_middleware._core.rule_checks import (
    function_or_none,
    key_types_or_none,
    methods,
    name_or_none,
    path,
    permission_or_none,
)
from stackauth_middleware.errors import ConfigError

from .helpers import as_id

SHAPE = (
    "; it must start with '/' and be decoded NFC text without empty or dot segments, spaces at the ends of segments, "
    "control characters and \\ ; # ? %"
)
STARS = "; '**' may only be its last segment, as in '/users/**'"
PARAMETER = "; a parameter is one whole segment with its own name, as in '/users/{id}'"
STAR = "; '*' stands for one whole segment, as in '/users/*'"

WRONG_PATHS: dict[str, tuple[Any, str]] = {
    "no slash": ("a", SHAPE),
    "empty": ("", SHAPE),
    "a url": ("https://x/a", SHAPE),
    "an empty segment": ("/a//b", SHAPE),
    "a dot segment": ("/a/../b", SHAPE),
    "a backslash": ("/a\\b", SHAPE),
    "an encoded slash": ("/a%2Fb", SHAPE),
    "stars in the middle": ("/a/**/b", STARS),
    "stars twice": ("/a/**/**", STARS),
    "stars and a slash": ("/a/**/", STARS),
    "three stars": ("/a/***", STARS),
    "stars without a slash": ("/a**", STARS),
    "a star in a segment": ("/a*", STAR),
    "a star behind text": ("/a/x*/b", STAR),
    "a star behind text, and stars": ("/x*/**", STAR),
    "no text": (None, SHAPE),
    "octets": (b"/a", SHAPE),
    "an encoded letter": ("/caf%C3%A9/**", SHAPE),
    "a query": ("/x?y", SHAPE),
    "a fragment": ("/x#f", SHAPE),
    "a space behind": ("/x ", SHAPE),
    "Flask's parameter": ("/a/<id>", PARAMETER),
    "Flask's typed parameter": ("/a/<int:id>/b", PARAMETER),
    "Express's parameter": ("/a/:id", PARAMETER),
    "Starlette's typed parameter": ("/a/{id:int}", PARAMETER),
    "a part of a segment": ("/a/x{id}", PARAMETER),
    "a name twice": ("/{a}/{a}", PARAMETER),
}
WRONG_METHODS: dict[str, Any] = {
    "a typo": ["GTE"],
    "another name": ["WS"],
    "methods as text": "GET",
    "no methods": [],
    "methods that are none": ["GET "],
    "methods of another type": [None],
    "a number as methods": 5,
    "methods used up by reading": iter(["GET"]),
}


@pytest.mark.parametrize(("value", "ends"), WRONG_PATHS.values(), ids=WRONG_PATHS)
def test_path_that_can_never_match_is_rejected(value: Any, ends: str) -> None:
    with pytest.raises(ConfigError) as caught:
        path("path of a Rule", value)
    assert str(caught.value) == f"path of a Rule is {value!r}{ends}"


@pytest.mark.parametrize("value", ["/.well-known/**", "/a/", "/**", "/", "/*", "/a b", "/..a", "/a:b", "/{id}/{_x}"])
def test_unusual_path_that_can_match_is_accepted(value: str) -> None:
    assert path("path of a Rule", value) == value


@pytest.mark.parametrize("value", WRONG_METHODS.values(), ids=WRONG_METHODS)
def test_methods_that_no_request_has_are_rejected(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        methods("methods of a Rule", value)
    assert str(caught.value) == (
        f"methods of a Rule is {value!r}; "
        "it must be a list of registered methods such as ['GET', 'POST'], or 'WEBSOCKET'"
    )


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (None, None),
        (["get"], ["GET", "HEAD"]),
        (["POST", "Put"], ["POST", "PUT"]),
        ({"DELETE"}, ["DELETE"]),
        (("websocket",), ["WEBSOCKET"]),
        (["VERSION-CONTROL"], ["VERSION-CONTROL"]),
    ],
    ids=as_id,
)
def test_methods_are_held_in_upper_case_and_get_includes_head(value: Any, held: list[str] | None) -> None:
    assert methods("x", value) == (held and frozenset(held))


def test_function_may_be_none() -> None:
    assert (function_or_none("x", None), function_or_none("x", len)) == (None, len)
    with pytest.raises(ConfigError, match="x is 5; it must be a function"):
        function_or_none("x", 5)


def test_arguments_about_permissions_and_api_keys_may_be_none() -> None:
    for check in (permission_or_none, name_or_none, key_types_or_none):
        assert check("x", None) is None


@pytest.mark.parametrize(
    ("check", "value", "held"),
    [
        (permission_or_none, "$read_members", "$read_members"),
        (name_or_none, "team_id", "team_id"),
        (key_types_or_none, ["user", "team", "user"], {"user", "team"}),
        (key_types_or_none, (), set()),
    ],
)
def test_arguments_about_permissions_and_api_keys(check: Any, value: Any, held: Any) -> None:
    assert check("x", value) == held


@pytest.mark.parametrize(
    ("check", "value", "ends"),
    [
        (permission_or_none, "Not Good", "with a '$' before those that Stack Auth defines"),
        (permission_or_none, 5, "with a '$' before those that Stack Auth defines"),
        (name_or_none, "{team_id}", "as in '/teams/{team_id}'"),
        (name_or_none, 5, "as in '/teams/{team_id}'"),
        (key_types_or_none, "user", "with 'user', 'team' or both, or empty"),
        (key_types_or_none, ["users"], "with 'user', 'team' or both, or empty"),
    ],
)
def test_wrong_arguments_about_permissions_and_api_keys(check: Any, value: Any, ends: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check("x", value)
    assert str(caught.value).startswith(f"x is {value!r}; it must be ")
    assert str(caught.value).endswith(ends)
