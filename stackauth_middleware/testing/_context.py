"""The argument of an endpoint, and its entry in the table of endpoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from ._access import ACCESS_TYPES, Access
from ._account import Account
from ._accounts import Session
from ._faults import Kind
from ._request import Request, body_of, schema_error, wants_pretty
from ._responses import NO_STORE, KnownError, PlainError, Response, json_response
from ._schema import ME, Field, validated
from ._store import Store

Mint: TypeAlias = "Callable[[Account, Session, str], str]"
"""Creates an access token for a session in a project."""

SERVER: Final = ("server", "admin")
ADMIN: Final = ("admin",)


@dataclass(frozen=True, slots=True)
class Context:
    """A request to an endpoint, with the caller and the store.

    Attributes:
        params: the named parts of the path, percent-decoded.
        caller: None if the request has no access type, as for the key set.
    """

    store: Store
    mint: Mint
    request: Request
    params: Mapping[str, str]
    caller: Access | None

    @property
    def access(self) -> Access:
        """The caller.

        Raises:
            KnownError: the request has no access type.
        """
        if self.caller is None:
            raise KnownError("ACCESS_TYPE_REQUIRED")
        return self.caller

    @property
    def project_id(self) -> str:
        """The project of the caller."""
        return self.access.project.id

    @property
    def as_client(self) -> bool:
        """Whether the caller has client access."""
        return self.access.type == "client"

    def read(
        self,
        *,
        query: Mapping[str, Field] | None = None,
        params: Mapping[str, Field] | None = None,
        body: Mapping[str, Field] | None = None,
    ) -> dict[str, Any]:
        """Validate parts of the request and return all their values. ``me`` becomes the id of the caller's user.

        Raises:
            KnownError: SCHEMA_ERROR, or there is no user for ``me``.
        """
        values: dict[str, Any] = {}
        problems: list[str] = []
        sources = (
            ("query", self.request.query, query),
            ("params", self.params, params),
            ("body", body_of(self.request) if body is not None else {}, body),
        )
        for part, given, fields in sources:
            if fields is not None:
                accepted, found = validated(part, given, fields)
                values.update(accepted)
                problems += found
        if problems:
            raise schema_error(self.request, problems)
        return {name: self.access.own_account.id if value == ME else value for name, value in values.items()}

    def json(self, members: Mapping[str, Any], *, status: int = 200, cache_control: str = NO_STORE) -> Response:
        """Return a JSON response."""
        return json_response(members, pretty=wants_pretty(self.request), status=status, cache_control=cache_control)

    def items(self, found: list[dict[str, Any]]) -> Response:
        """Return a list without pages."""
        return self.json({"items": found, "is_paginated": False})

    def success(self) -> Response:
        """Return the response to a deletion."""
        return self.json({"success": True})

    def existing_user(self, user_id: str) -> Account:
        """Return a user of the project.

        Raises:
            KnownError: USER_NOT_FOUND.
        """
        account = self.store.account(user_id, self.project_id)
        if account is None:
            raise KnownError("USER_NOT_FOUND")
        return account

    def require_own(self, user_id: str | None, what: str) -> None:
        """Refuse a client that asks for something of another user.

        Raises:
            KnownError: there is no user.
            PlainError: `user_id` is another user or None.
        """
        if self.as_client and user_id != self.access.own_account.id:
            raise PlainError(403, what)


class Endpoint(NamedTuple):
    """An entry of the table of endpoints.

    Attributes:
        access: the access types that may use it; empty if requests need none.
    """

    kind: Kind
    method: str
    path: re.Pattern[str]
    handle: Callable[[Context], Response]
    access: tuple[str, ...]


def endpoint(
    kind: Kind,
    method: str,
    path: str,
    handle: Callable[[Context], Response],
    *,
    access: tuple[str, ...] = ACCESS_TYPES,
) -> Endpoint:
    """Return an entry. In `path`, ``{name}`` is one segment."""
    pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))
    return Endpoint(kind, method, re.compile(pattern + r"\Z"), handle, access)
