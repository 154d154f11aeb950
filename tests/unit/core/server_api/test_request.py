"""`Request`: its repr, and what is read of an answer to DELETE."""

from __future__ import annotations

from stackauth_middleware._core.server_api.request import Request, ignore


def test_repr_shows_no_body_and_no_query() -> None:
    shown = repr(Request("POST", "/users", ignore, {"query": "canary"}, {"password": "canary"}))
    assert shown == "Request('POST', '/users')"


def test_ignore_reads_any_body_as_none() -> None:
    request = Request("DELETE", "/users/1", ignore)
    assert request.read({"success": True}) is request.read(None) is None
    assert (request.params, request.body) == ({}, None)
