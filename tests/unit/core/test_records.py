"""The records that cross a door or an edge: what they show, and how an answer's headers are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pytest

from stackauth_middleware._core.records import RequestRecord, Response
from stackauth_middleware._core.upstream import Call, Reply, Resume

from .helpers import NOW

CANARY = "eyJ-canary"


@pytest.mark.parametrize(
    "record",
    [
        RequestRecord("GET", "/a", "", {"authorization": CANARY}),
        Resume(Reply(200, {"x": CANARY}, CANARY.encode()), NOW),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_that_holds_credentials_does_not_show_them(record: object) -> None:
    """A repr ends up in logs and in tracebacks that render locals."""
    assert CANARY not in repr(record)
    assert CANARY not in f"{record}"


@pytest.mark.parametrize(
    "record",
    [RequestRecord("GET", "/", "", {}), Call("GET", "https://api.example/jwks", max_bytes=1024), Reply(200, {}, b"")],
    ids=lambda record: type(record).__name__,
)
def test_a_record_that_holds_credentials_has_no_members_to_walk(record: object) -> None:
    """As an error tracker would; a test in tests/network/test_canaries.py does."""
    assert not isinstance(record, Mapping | Sequence | Iterable)
    assert not hasattr(record, "__dict__")


def test_an_inbound_shows_what_helps_to_find_a_fault() -> None:
    shown = repr(RequestRecord("GET", "/a\n", "/r", {"origin": "o", "authorization": "s"}))
    assert shown == "RequestRecord('GET', '/a\\n', '/r', ['authorization', 'origin'])"


def test_a_response_is_in_the_forms_of_both_doors() -> None:
    response = Response.of(503, [("Retry-After", "7")], b"x")
    assert (response.status_line, response.headers) == ("503 Service Unavailable", (("Retry-After", "7"),))
    assert (response.status, response.raw_headers, response.body) == (503, ((b"retry-after", b"7"),), b"x")


def test_responses_compare_by_value() -> None:
    """The oracles of the doors compare responses whole."""
    assert Response.of(401, [("A", "b")], b"x") == Response.of(401, (("A", "b"),), b"x")
