"""Users: what is sent, what the recorded answers are read as, and lists of any number of pages."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware import AuthServerError, UserProfile
from stackauth_middleware._core.server_api import users
from stackauth_middleware._core.server_api.errors import ConflictError, NotFoundError
from stackauth_middleware._core.server_api.users import UserPages
from stackauth_middleware._core.server_api.values import UNSET
from stackauth_middleware._core.upstream import Answer, Call
from tests.unit.core.helpers import USER_ID, as_id, bounded, reply

from .recorded import RECORDED, Server, known, recorded_request, reply_to

TEAM_ID = "191e7aef-2045-4bd2-9738-fa9dda5e81a1"
READ = [name for name in RECORDED if name.startswith("users: user by id, server")] + ["users: user by id, upper case"]


def user(number: int, **members: Any) -> dict[str, Any]:
    return {"id": f"00000000-0000-4000-8000-{number:012}", **members}


def page(items: list[dict[str, Any]], cursor: object = None) -> Answer:
    return reply({"items": items, "is_paginated": True, "pagination": {"next_cursor": cursor}})


def read_all(server: Server, pages: UserPages) -> list[UserProfile]:
    while not pages.done:
        server.send(pages.next())
    return list(pages.ready)


# -- one user -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READ)
def test_user_is_fetched_as_recorded(name: str) -> None:
    request, body = recorded_request(name), RECORDED[name]["response"]["body"]
    server = Server(reply_to(name))
    user_id = request[1].rpartition("/")[2]
    if "code" in body:
        with pytest.raises(NotFoundError) as raised:
            server.send(users.get(user_id))
        assert raised.value.code == body["code"] == "USER_NOT_FOUND"
    else:
        profile = server.send(users.get(user_id))
        assert profile.to_dict(server_only=True) == {**body, "restricted_reason": _reason(body), "raw": {}}
    assert server.sent == [(request[0], request[1].lower(), request[2], request[3])]


def _reason(body: dict[str, Any]) -> str | None:
    return body["restricted_reason"] and body["restricted_reason"]["type"]


def test_unknown_members_are_kept_in_raw() -> None:
    server = Server(reply({"id": USER_ID, "external_auth_providers": [1]}))
    assert server.send(users.get(USER_ID)).raw == {"external_auth_providers": (1,)}


@pytest.mark.parametrize(
    "body", [{}, {"id": 1}, {"id": TEAM_ID}, [], None, {"id": USER_ID, "is_anonymous": "no"}], ids=as_id
)
@pytest.mark.parametrize("make", [users.get, lambda user_id: users.update(user_id, {})], ids=["get", "update"])
def test_answer_that_is_not_this_user_is_an_outage(make: Any, body: object) -> None:
    with pytest.raises(AuthServerError):
        Server(reply(body)).send(make(USER_ID))


def test_create_and_update_send_the_fields_that_are_set() -> None:
    fields = {
        "display_name": None,
        "primary_email": "jane@example.com",
        "primary_email_verified": True,
        "primary_email_auth_enabled": UNSET,
        "password": "correct horse",
        "client_metadata": {"a": (1, None)},
        "server_metadata": None,
        "selected_team_id": TEAM_ID.upper(),
        "restricted_by_admin": False,
    }
    sent = {name: value for name, value in fields.items() if value is not UNSET}
    sent |= {"client_metadata": {"a": [1, None]}, "selected_team_id": TEAM_ID}
    server = Server(reply({"id": USER_ID}))
    assert server.send(users.update(USER_ID.upper(), fields)).id == USER_ID
    assert server.send(users.create(fields)).id == USER_ID
    assert server.sent == [("PATCH", f"/api/v1/users/{USER_ID}", [], sent), ("POST", "/api/v1/users", [], sent)]


def test_taken_address_is_a_conflict() -> None:
    server = Server(known("USER_EMAIL_ALREADY_EXISTS", 409))
    with pytest.raises(ConflictError) as raised:
        server.send(users.create({"primary_email": "jane@example.com"}))
    assert raised.value.code == "USER_EMAIL_ALREADY_EXISTS"


@pytest.mark.parametrize(
    "fields",
    [
        *({"primary_email": "jane"}, {"display_name": 1}, {"email": "jane@example.com"}, {"selected_team_id": "me"}),
        *({"primary_email_verified": None}, {"password": 1}, {"otp_auth_enabled": "yes"}, {"profile_image_url": b""}),
    ],
    ids=as_id,
)
def test_wrong_field_is_refused_before_anything_is_sent(fields: dict[str, Any]) -> None:
    for make in (users.create, lambda fields: users.update(USER_ID, fields)):
        with pytest.raises((ValueError, TypeError)):
            make(fields)


def test_metadata_that_is_not_json_is_refused_before_anything_is_sent() -> None:
    server = Server(reply({"id": USER_ID}))
    with pytest.raises(TypeError, match="JSON"):
        server.send(users.update(USER_ID, {"server_metadata": {1, 2}}))
    assert server.calls == []


def test_user_is_deleted_as_recorded() -> None:
    server = Server(reply_to("sessions: user deleted"))
    request = recorded_request("sessions: user deleted")
    assert server.send(users.delete(request[1].rpartition("/")[2])) is None
    assert server.sent == [request]


# -- lists --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("users: users list, server", {}),
        ("users: users list, including anonymous", {"include_anonymous": True}),
    ],
)
def test_page_is_fetched_as_recorded(name: str, options: dict[str, Any]) -> None:
    server, pages = Server(reply_to(name), page([])), UserPages(page_size=2, **options)
    server.send(pages.next())
    body = RECORDED[name]["response"]["body"]
    assert [each.id for each in pages.ready] == [each["id"] for each in body["items"]]
    assert server.sent == [recorded_request(name)]
    assert not pages.done
    server.send(pages.next())
    assert ("cursor", body["pagination"]["next_cursor"]) in server.sent[1][2]
    assert pages.done


def test_options_are_sent_and_defaults_are_not() -> None:
    server = Server(page([]))
    options: Any = {"query": "a b", "team_id": TEAM_ID, "desc": True, "include_restricted": True, "page_size": 7}
    assert read_all(server, UserPages(**options)) == read_all(server, UserPages()) == []
    query = [("desc", "true"), ("include_restricted", "true"), ("limit", "7"), ("query", "a b"), ("team_id", TEAM_ID)]
    assert [each[2] for each in server.sent] == [query, [("limit", "100")]]


class Listing:
    """Serves users as Stack Auth does: a cursor is the id of the first user of the next page."""

    def __init__(self, count: int) -> None:
        self.users = [user(number) for number in range(count)]

    def __call__(self, call: Call) -> Answer:
        params = parse_qs(urlsplit(call.url).query)
        ids = [each["id"] for each in self.users]
        start = ids.index(params["cursor"][0]) if "cursor" in params else 0
        end = start + int(params["limit"][0])
        return page(self.users[start:end], ids[end] if end < len(ids) else None)


@bounded
@given(st.integers(0, 40), st.integers(1, 45))
def test_all_pages_are_read_once_in_order(count: int, page_size: int) -> None:
    listing = Listing(count)
    server = Server(listing)
    found = read_all(server, UserPages(page_size=page_size))
    assert [each.id for each in found] == [each["id"] for each in listing.users]
    assert len(server.calls) == max(1, -(-count // page_size))


@pytest.mark.parametrize(
    ("answers", "detail"),
    [
        ([page([user(1)], "a"), page([user(2)], "a")], "the list repeats a page"),
        ([page([user(1)], "a"), page([user(1)], "b")], "the list repeats a page"),
        ([page([user(1)], "a"), page([], "b")], "the list has an empty page before its end"),
        ([page([user(1)], 1)], "the list has a cursor that is no text"),
        ([page([user(1)], "")], "the list has a cursor that is no text"),
        ([page([user(1)], "x" * 1001)], "the list has a cursor that is no text"),
        ([page([{"display_name": "x"}])], "the answer is not about this user"),
        ([reply({"items": {}})], "the answer is not of the form that Stack Auth sends"),
        ([reply(b"<html>")], "the answer is not JSON (check api_url)"),
    ],
    ids=range(9),
)
def test_pages_that_do_not_lead_to_an_end_are_an_outage(answers: list[Answer], detail: str) -> None:
    with pytest.raises(AuthServerError) as raised:
        read_all(Server(*answers), UserPages())
    assert raised.value.detail == detail


def test_pages_that_never_end_are_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "MAX_PAGES", 20)
    server = Server(lambda _: page([user(len(server.calls))], f"cursor {len(server.calls)}"))
    with pytest.raises(AuthServerError, match="more than 20 pages"):
        read_all(server, UserPages())
    assert len(server.calls) == 20


def test_answer_without_pagination_is_the_last_page() -> None:
    assert len(read_all(Server(reply({"items": [user(1)]})), UserPages())) == 1


@pytest.mark.parametrize(
    "options",
    [
        *({"page_size": 0}, {"page_size": 1001}, {"page_size": True}, {"page_size": "2"}, {"team_id": "me"}),
        *({"query": 1}, {"desc": "false"}, {"include_restricted": None}, {"limit": 5}),
    ],
    ids=as_id,
)
def test_wrong_options_are_refused(options: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        UserPages(**options)


# -- find by email address ----------------------------------------------------------------------------


def test_user_is_found_by_the_recorded_search() -> None:
    server = Server(reply_to("users: users list, query"))
    found = server.send_all(users.find_by_email("UA3668BB8@example.com"))
    assert found.primary_email == "ua3668bb8@example.com"
    query = [("include_anonymous", "true"), ("limit", "100"), ("query", "UA3668BB8@example.com")]
    assert server.sent == [("GET", "/api/v1/users", query, None)]


def test_only_the_whole_primary_address_counts() -> None:
    near = ["xjane@example.com", "jane@example.com.evil.example", None, "john@example.com"]
    pages = [
        page([user(at, primary_email=each, display_name="jane@example.com")], f"{at}") for at, each in enumerate(near)
    ]
    server = Server(*pages, page([user(9, primary_email="john@example.com")]))
    assert server.send_all(users.find_by_email("jane@example.com")) is None
    assert len(server.calls) == 5


def test_of_several_users_the_one_who_signs_in_with_the_address_comes_first() -> None:
    same: dict[str, Any] = {"primary_email": "jane@example.com"}
    oldest, verified = user(1, **same), user(2, **same, primary_email_verified=True)
    signing_in = user(3, **same, primary_email_auth_enabled=True)
    for items, first in (([oldest, verified, signing_in], 3), ([oldest, verified], 2), ([oldest, user(4, **same)], 1)):
        found = Server(page(items)).send_all(users.find_by_email("jane@example.com"))
        assert found.id == user(first)["id"]


def test_search_for_what_is_no_address_sends_nothing() -> None:
    server = Server(page([]))
    with pytest.raises(ValueError, match="email"):
        server.send_all(users.find_by_email("jane"))
    assert server.calls == []


def test_password_is_in_the_body_and_nowhere_else() -> None:
    server = Server(reply({"id": USER_ID}))
    request = users.create({"password": "canary"})
    server.send(request)
    assert json.loads(server.calls[0].body) == {"password": "canary"}
    assert "canary" not in repr(request) + repr(server.calls[0]) + server.calls[0].url
