"""Records hide credentials, and a response has the forms of ASGI and WSGI."""

from __future__ import annotations

import pickle
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
    """A repr is written to logs and to tracebacks that render variables."""
    assert CANARY not in repr(record)
    assert CANARY not in f"{record}"


@pytest.mark.parametrize(
    "record",
    [RequestRecord("GET", "/", "", {}), Call("GET", "https://api.example/jwks", max_bytes=1024), Reply(200, {}, b"")],
    ids=lambda record: type(record).__name__,
)
def test_a_record_that_holds_credentials_has_no_members_to_walk(record: object) -> None:
    """Error trackers walk members; tests/network/test_canaries.py does the same."""
    assert not isinstance(record, Mapping | Sequence | Iterable)
    assert not hasattr(record, "__dict__")


def test_repr_of_a_request_shows_header_names_only() -> None:
    shown = repr(RequestRecord("GET", "/a\n", "/r", {"origin": "o", "authorization": "s"}))
    assert shown == "RequestRecord('GET', '/a\\n', '/r', ['authorization', 'origin'])"


def test_response_is_in_the_forms_of_asgi_and_wsgi() -> None:
    response = Response.of(503, [("Retry-After", "7")], b"x")
    assert (response.status_line, response.headers) == ("503 Service Unavailable", (("Retry-After", "7"),))
    assert (response.status, response.raw_headers, response.body) == (503, ((b"retry-after", b"7"),), b"x")


def test_responses_compare_by_value() -> None:
    """Tests of both middlewares compare whole responses."""
    assert Response.of(401, [("A", "b")], b"x") == Response.of(401, (("A", "b"),), b"x")


def test_pickled_request_record_has_no_headers() -> None:
    copied = pickle.loads(pickle.dumps(RequestRecord("GET", "/a", "/r", {"authorization": CANARY})))
    assert (copied.method, copied.path, copied.root_path, copied.headers) == ("GET", "/a", "/r", {})
