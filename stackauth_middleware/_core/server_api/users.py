"""Users: get, list, find by email address, create, update, delete."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any, TypedDict

from ..user_profile import UserProfile, profile_from_json
from .record import items_of
from .request import Request, Steps, UnreadableError, ignore
from .values import Unset, body_of, email, flag, json, or_none, text, uuid

MAX_PAGES = 10_000
"""Maximum number of pages of a list; one with more is treated as endless."""
MAX_PAGE_SIZE = 1000
"""Maximum number of users on a page."""


class UserFields(TypedDict, total=False):
    """Fields of a user that a server can set. A field that is absent or `UNSET` stays as it is; None sets it to null.

    Attributes:
        display_name: name, or None.
        primary_email: address, or None. `ConflictError` if another user signs in with it.
        primary_email_verified: whether it counts as verified.
        primary_email_auth_enabled: whether the user can sign in with it.
        password: new password, which ends all sessions of the user; None to remove it.
        otp_auth_enabled: whether the user can sign in with a one-time code.
        profile_image_url: address of an image, or None.
        client_metadata: JSON value that the user can read and write.
        client_read_only_metadata: JSON value that the user can read.
        server_metadata: JSON value that only servers can read and write.
        selected_team_id: id of one of the user's teams, or None. Not for new users.
        restricted_by_admin: whether an administrator restricts the account.
        restricted_by_admin_reason: text for the user, or None.
        restricted_by_admin_private_details: note for servers, or None.

    Example::

        changes: UserFields = {"display_name": "Jane", "client_read_only_metadata": {"plan": "pro"}}
        client.update_user(user_id, **changes)
    """

    display_name: str | Unset | None
    primary_email: str | Unset | None
    primary_email_verified: bool | Unset
    primary_email_auth_enabled: bool | Unset
    password: str | Unset | None
    otp_auth_enabled: bool | Unset
    profile_image_url: str | Unset | None
    client_metadata: Any
    client_read_only_metadata: Any
    server_metadata: Any
    selected_team_id: str | Unset | None
    restricted_by_admin: bool | Unset
    restricted_by_admin_reason: str | Unset | None
    restricted_by_admin_private_details: str | Unset | None


_CHECKS = {
    "display_name": or_none(text),
    "primary_email": or_none(email),
    "primary_email_verified": flag,
    "primary_email_auth_enabled": flag,
    "password": or_none(text),
    "otp_auth_enabled": flag,
    "profile_image_url": or_none(text),
    "client_metadata": json,
    "client_read_only_metadata": json,
    "server_metadata": json,
    "selected_team_id": or_none(uuid),
    "restricted_by_admin": flag,
    "restricted_by_admin_reason": or_none(text),
    "restricted_by_admin_private_details": or_none(text),
}


def get(user_id: str) -> Request[UserProfile]:
    """Return the request for a user."""
    user_id = uuid("user_id", user_id)
    return Request("GET", f"/users/{user_id}", partial(_read, user_id=user_id))


def create(fields: Mapping[str, Any]) -> Request[UserProfile]:
    """Return the request that creates a user with `fields`."""
    return Request("POST", "/users", _read, body=body_of(fields, _CHECKS))


def update(user_id: str, fields: Mapping[str, Any]) -> Request[UserProfile]:
    """Return the request that sets `fields` of a user."""
    user_id = uuid("user_id", user_id)
    return Request("PATCH", f"/users/{user_id}", partial(_read, user_id=user_id), body=body_of(fields, _CHECKS))


def delete(user_id: str) -> Request[None]:
    """Return the request that deletes a user."""
    return Request("DELETE", f"/users/{uuid('user_id', user_id)}", ignore)


class UserListOptions(TypedDict, total=False):
    """Options of a list of users: which users, in what order, and how many on a page.

    Attributes:
        query: text that the display name or an email address contains, or a user id; None for all.
        team_id: only members of this team; None for all.
        desc: the newest users first.
        include_restricted: also restricted users.
        include_anonymous: also anonymous and restricted users.
        page_size: users on a page, 1 to 1000; 100 by default.

    Example::

        newest: UserListOptions = {"desc": True, "include_restricted": True}
        user = next(client.list_users(**newest))
    """

    query: str | None
    team_id: str | None
    desc: bool
    include_restricted: bool
    include_anonymous: bool
    page_size: int


class UserPages:
    """The pages of a list of users: `next` returns their requests one by one, until `done`. Takes `UserListOptions`.

    Attributes:
        ready: the users of the pages read so far, without those that the caller has removed from it.
        done: whether the last page has been read.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument has the wrong form.
    """

    def __init__(
        self,
        *,
        query: str | None = None,
        team_id: str | None = None,
        desc: bool = False,
        include_restricted: bool = False,
        include_anonymous: bool = False,
        page_size: int = 100,
    ) -> None:
        if isinstance(page_size, bool) or not isinstance(page_size, int) or not 1 <= page_size <= MAX_PAGE_SIZE:
            raise ValueError(f"page_size must be a whole number from 1 to {MAX_PAGE_SIZE}")
        self._params = {"limit": str(page_size)}  # without a limit, all users come at once
        if query is not None:
            self._params["query"] = text("query", query)
        if team_id is not None:
            self._params["team_id"] = uuid("team_id", team_id)
        flags = {"desc": desc, "include_restricted": include_restricted, "include_anonymous": include_anonymous}
        self._params |= {name: "true" for name, value in flags.items() if flag(name, value)}
        self._seen: set[tuple[str, str]] = set()
        self._pages = 0
        self.ready: deque[UserProfile] = deque()
        self.done = False

    def next(self) -> Request[None]:
        """Return the request for the next page. It may be sent again after an outage."""
        return Request("GET", "/users", self._read, dict(self._params))

    def _read(self, body: Any) -> None:
        users = [_read(each) for each in items_of(body)]
        pagination = body.get("pagination")
        cursor = pagination.get("next_cursor") if isinstance(pagination, dict) else None
        if cursor is not None:
            self._turn_page(cursor, users)
        self.done = cursor is None
        self.ready += users

    def _turn_page(self, cursor: object, users: list[UserProfile]) -> None:
        """Keep the cursor of the next page.

        Raises:
            UnreadableError: the pages would not end.
        """
        if not isinstance(cursor, str) or not 0 < len(cursor) <= 1000:
            raise UnreadableError("the list has a cursor that is no text")
        if not users:
            raise UnreadableError("the list has an empty page before its end")
        marks = {("cursor", cursor), ("first user", users[0].id)}
        if marks & self._seen:
            raise UnreadableError("the list repeats a page")
        self._seen |= marks
        self._pages += 1
        if self._pages >= MAX_PAGES:
            raise UnreadableError(f"the list has more than {MAX_PAGES} pages")
        self._params["cursor"] = cursor


def find_by_email(address: str) -> Steps[UserProfile | None]:
    """Find the user whose primary address is `address`, whatever the case of its letters.

    Stack Auth can only search for users whose name or any address contains a text, so the result is filtered here.
    Several users can have the same primary address, but only one can sign in with it. That user is preferred, then one
    who has verified the address, then the oldest.
    """
    address = email("email", address)
    pages = UserPages(query=address, include_anonymous=True)
    found: list[UserProfile] = []
    while not pages.done:
        yield pages.next()
        found += [each for each in pages.ready if (each.primary_email or "").casefold() == address.casefold()]
        pages.ready.clear()
    return min(
        found, default=None, key=lambda each: (not each.primary_email_auth_enabled, not each.primary_email_verified)
    )


def _read(body: Any, user_id: str | None = None) -> UserProfile:
    if not isinstance(body.get("id"), str) or body["id"] != (user_id or body["id"]):
        raise UnreadableError("the answer is not about this user")
    return profile_from_json(body)
