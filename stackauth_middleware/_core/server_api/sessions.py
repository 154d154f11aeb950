"""Sessions of a user (docs/stack-auth.md section 10)."""

from __future__ import annotations

import contextlib
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any

from ..sealed import Sealed, conceal, seal
from .errors import NotFoundError
from .record import NO_MEMBERS, Record, items_of, sealed_members, seconds_of, text_of
from .request import Request, Steps, UnreadableError, ignore
from .values import uuid


@dataclass(frozen=True, slots=True, eq=False)
class Session(Record):
    """A session of a user, which ends at sign-out. Immutable, hashable.

    Attributes:
        id: id of the session, a UUID as text: `User.session_id` of the tokens that it issues.
        user_id: id of the user.
        created_at: time of sign-in, seconds since the epoch, or None.
        last_used_at: time of the last refresh, seconds since the epoch, or None.
        is_impersonation: whether a server made it to act as the user.

    Example::

        for session in client.get_active_sessions(user_id):
            print(session.id, session.last_used_at)
    """

    id: str
    user_id: str
    created_at: float | None
    last_used_at: float | None
    is_impersonation: bool
    _sealed: InitVar[Sealed | None] = field(default=NO_MEMBERS, kw_only=True)

    def __post_init__(self, _sealed: Sealed | None = None) -> None:  # noqa: RUF033 - decoders pass nothing
        seal(self, _sealed, NO_MEMBERS, is_typed=True)


conceal(Session)

_KNOWN = frozenset({"id", "user_id", "created_at", "last_used_at", "is_impersonation", "is_current_session"})


def list_of(user_id: str) -> Request[list[Session]]:
    """Return the request for the sessions of a user. Impersonations are not among them."""
    user_id = uuid("user_id", user_id)
    return Request("GET", "/auth/sessions", partial(_read, user_id=user_id), {"user_id": user_id})


def revoke(user_id: str, session_id: str) -> Request[None]:
    """Return the request that ends a session."""
    params = {"user_id": uuid("user_id", user_id)}
    return Request("DELETE", f"/auth/sessions/{uuid('session_id', session_id)}", ignore, params)


def revoke_all(user_id: str) -> Steps[int]:
    """End all sessions of a user, and return how many were ended. One that has ended meanwhile is not counted."""
    sessions = yield list_of(user_id)
    ended = 0
    for session in sessions:
        with contextlib.suppress(NotFoundError):
            yield revoke(user_id, session.id)
            ended += 1
    return ended


def _read(body: Any, user_id: str) -> list[Session]:
    sessions = []
    for each in items_of(body):
        if text_of(each, "user_id") != user_id:
            raise UnreadableError("the answer has sessions of another user")
        times = seconds_of(each, "created_at"), seconds_of(each, "last_used_at")
        is_impersonation = each.get("is_impersonation") is True
        sealed = sealed_members(each, {}, _KNOWN)
        sessions.append(Session(text_of(each, "id"), user_id, *times, is_impersonation, _sealed=sealed))
    return sessions
