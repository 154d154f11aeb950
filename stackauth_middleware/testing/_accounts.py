"""Accounts and sessions."""

from __future__ import annotations

import secrets
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ._account import Account
from ._projects import is_in

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._account import AccountFields


class Session(NamedTuple):
    """A session, found by its refresh token or by its id. Times are in milliseconds since the epoch."""

    id: str
    refresh_token: str
    user_id: str
    project_id: str
    created_at_millis: int = 0
    last_used_at_millis: int = 0
    is_impersonation: bool = False
    expires_at_millis: int | None = None

    def __repr__(self) -> str:  # the refresh token is a credential
        return f"Session(id={self.id!r}, user_id={self.user_id!r}, project_id={self.project_id!r})"

    def read(self, current_id: str | None) -> dict[str, Any]:
        """Return the session as the API lists it; `current_id` is the id of the caller's session."""
        return {
            "is_current_session": self.id == current_id,
            "last_used_at": self.last_used_at_millis,
            "is_impersonation": self.is_impersonation,
            "created_at": self.created_at_millis,
            "user_id": self.user_id,
            "id": self.id,
        }


def opaque(length: int) -> str:
    """Return random characters in the alphabet of Stack Auth's opaque tokens and request ids."""
    return "".join(secrets.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(length))


class Accounts:
    """Accounts and sessions. Thread-safe.

    Args:
        deleted: called with the id of each user that is deleted.

    Example::

        account = local.users.create(display_name="Ada")
        local.users.update(account.id, display_name="Ada Lovelace")
    """

    def __init__(self, deleted: Callable[[str], None] | None = None) -> None:
        self._deleted_hook = deleted
        self._lock = threading.RLock()
        self._accounts: dict[str, Account] = {}
        self._auto_created: set[str] = set()
        self._deleted: set[str] = set()
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def __iter__(self) -> Iterator[Account]:
        with self._lock:
            return iter(list(self._accounts.values()))

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._accounts

    def create(self, id: str | None = None, **values: Unpack[AccountFields]) -> Account:  # noqa: A002
        """Create an account, or replace the one with this id.

        Args:
            id: the user id; a new UUID if None.
            values: fields of the account.
        """
        account = Account(id=str(uuid.uuid4()) if id is None else id, **values)
        with self._lock:
            self._accounts[account.id] = account
            self._auto_created.discard(account.id)
            self._deleted.discard(account.id)
        return account

    def get(self, user_id: str) -> Account | None:
        """Return the account of `user_id`; None if there is none."""
        return self._accounts.get(user_id)

    def update(self, user_id: str, **values: Unpack[AccountFields]) -> Account:
        """Change fields of an account. Tokens created later no longer change it.

        Raises:
            KeyError: there is no such account.
        """
        with self._lock:
            account = self._accounts[user_id] = replace(self._accounts[user_id], **values)
            self._auto_created.discard(user_id)
        return account

    def restrict(self, user_id: str, reason: str | None = None, *, private_details: str | None = None) -> Account:
        """Restrict a user as an administrator does.

        Args:
            user_id: the user.
            reason: ``restricted_by_admin_reason``, which the user can read.
            private_details: for server reads only.

        Raises:
            KeyError: there is no such account.
        """
        return self.update(
            user_id,
            restricted_by_admin=True,
            restricted_by_admin_reason=reason,
            restricted_by_admin_private_details=private_details,
        )

    def unrestrict(self, user_id: str) -> Account:
        """Undo `restrict`. A user who must still verify the address stays restricted.

        Raises:
            KeyError: there is no such account.
        """
        return self.update(
            user_id,
            restricted_by_admin=False,
            restricted_by_admin_reason=None,
            restricted_by_admin_private_details=None,
        )

    def verify(self, user_id: str) -> Account:
        """Mark the address as verified, which lifts the restriction ``email_not_verified``.

        Raises:
            KeyError: there is no such account.
        """
        return self.update(user_id, primary_email_verified=True)

    def delete(self, user_id: str) -> None:
        """Delete a user and end the sessions. Tokens created later for this id do not create the account again.

        Raises:
            KeyError: there is no such account.
        """
        with self._lock:
            del self._accounts[user_id]
            self._auto_created.discard(user_id)
            self._deleted.add(user_id)
            self.end_sessions(user_id)
        if self._deleted_hook is not None:
            self._deleted_hook(user_id)

    def explicit(self, user_id: str) -> Account | None:
        """Return the account of `user_id` if a test created or changed it; None if a token auto-created it."""
        with self._lock:
            return None if user_id in self._auto_created else self._accounts.get(user_id)

    def auto_create(self, account: Account) -> None:
        """Store the account that a token describes, unless a test created, changed or deleted it.

        An auto-created account exists in all projects that it had tokens for.
        """
        with self._lock:
            if account.id in self._deleted or self.explicit(account.id) is not None:
                return
            before = self._accounts.get(account.id)
            if before is not None and account.projects is not None:
                account = replace(account, projects=before.projects and before.projects | account.projects)
            self._accounts[account.id] = account
            self._auto_created.add(account.id)

    def start_session(
        self,
        user_id: str,
        project_id: str,
        *,
        now_millis: int = 0,
        is_impersonation: bool = False,
        expires_at_millis: int | None = None,
    ) -> Session:
        """Start a session. Its refresh token is an opaque string of 45 characters."""
        session = Session(
            id=str(uuid.uuid4()),
            refresh_token=opaque(45),
            user_id=user_id,
            project_id=project_id,
            created_at_millis=now_millis,
            last_used_at_millis=now_millis,
            is_impersonation=is_impersonation,
            expires_at_millis=expires_at_millis,
        )
        self.add_session(session)
        return session

    def add_session(self, session: Session) -> None:
        """Add a session, or replace the one with its refresh token."""
        with self._lock:
            self._sessions[session.refresh_token] = session

    def session(self, refresh_token: str, project_id: str, now_millis: int = 0) -> Session | None:
        """Return the session of a refresh token; None if it has ended or belongs to another project."""
        session = self._sessions.get(refresh_token)
        if session is None or not is_in(session.project_id, project_id):
            return None
        return None if session.expires_at_millis is not None and session.expires_at_millis <= now_millis else session

    def session_by_id(self, session_id: str, project_id: str) -> Session | None:
        """Return a session of a project by its id; None if there is none."""
        found = (each for each in self.sessions(project_id) if each.id == session_id)
        return next(found, None)

    def sessions(self, project_id: str, user_id: str | None = None) -> list[Session]:
        """Return the sessions of a project or of one user in it, newest first."""
        with self._lock:
            every = list(self._sessions.values())
        found = [each for each in every if is_in(each.project_id, project_id) and user_id in (None, each.user_id)]
        return sorted(found, key=lambda each: each.created_at_millis, reverse=True)

    def use_session(self, session: Session, now_millis: int) -> None:
        """Record when a session was used."""
        with self._lock:
            if session.refresh_token in self._sessions:
                self._sessions[session.refresh_token] = session._replace(last_used_at_millis=now_millis)

    def end_sessions(self, user_id: str) -> None:
        """End all sessions of a user."""
        with self._lock:
            self._sessions = {token: each for token, each in self._sessions.items() if each.user_id != user_id}

    def end_session(self, session_id: str) -> bool:
        """End a session by its id. Return whether it existed."""
        with self._lock:
            ended = [token for token, each in self._sessions.items() if each.id == session_id]
            for token in ended:
                del self._sessions[token]
        return bool(ended)
