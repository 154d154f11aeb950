"""Who has an account, and who is signed in."""

from __future__ import annotations

import secrets
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ._account import Account

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._account import AccountFields


class Session(NamedTuple):
    """What a refresh token stands for."""

    id: str
    refresh_token: str
    user_id: str
    project_id: str


def opaque(length: int) -> str:
    """Return random characters in the alphabet of Stack Auth's opaque tokens and request ids."""
    return "".join(secrets.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(length))


class Accounts:
    """Hold accounts and sessions. Thread-safe. An account is known in every project."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._accounts: dict[str, Account] = {}
        self._implied: set[str] = set()
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
        """Make an account, or make it anew where one has this id.

        Args:
            id: the user's id; else a new UUID.
            values: members of the account.
        """
        account = Account(id=str(uuid.uuid4()) if id is None else id, **values)
        with self._lock:
            self._accounts[account.id] = account
            self._implied.discard(account.id)
            self._deleted.discard(account.id)
        return account

    def get(self, user_id: str) -> Account | None:
        """Return the account of `user_id`, if there is one."""
        return self._accounts.get(user_id)

    def update(self, user_id: str, **values: Unpack[AccountFields]) -> Account:
        """Change members of an account. From now on it no longer follows the tokens minted for it.

        Raises:
            KeyError: there is no such account.
        """
        with self._lock:
            account = self._accounts[user_id] = replace(self._accounts[user_id], **values)
            self._implied.discard(user_id)
        return account

    def restrict(self, user_id: str, reason: str | None = None, *, private_details: str | None = None) -> Account:
        """Restrict a user as an administrator does.

        Args:
            user_id: the user.
            reason: told to the user, as ``restricted_by_admin_reason``.
            private_details: told to server reads only.

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
        """Lift what `restrict` did. A user who has yet to verify the address is still restricted.

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
        """Have the user verify the address, which lifts the restriction ``email_not_verified``.

        Raises:
            KeyError: there is no such account.
        """
        return self.update(user_id, primary_email_verified=True)

    def delete(self, user_id: str) -> None:
        """Delete a user and end the sessions. Tokens minted for this id later bring no account back.

        Raises:
            KeyError: there is no such account.
        """
        with self._lock:
            del self._accounts[user_id]
            self._implied.discard(user_id)
            self._deleted.add(user_id)
            self._sessions = {token: each for token, each in self._sessions.items() if each.user_id != user_id}

    def chosen(self, user_id: str) -> Account | None:
        """Return the account of `user_id` if a test made or changed it, rather than a token."""
        with self._lock:
            return None if user_id in self._implied else self._accounts.get(user_id)

    def imply(self, account: Account) -> None:
        """Take in what a token says of its user, unless a test has its own idea of that account."""
        with self._lock:
            if account.id in self._deleted or self.chosen(account.id) is not None:
                return
            self._accounts[account.id] = account
            self._implied.add(account.id)

    def start_session(self, user_id: str, project_id: str) -> Session:
        """Sign a user in. The refresh token is an opaque string of 45 characters."""
        session = Session(str(uuid.uuid4()), opaque(45), user_id, project_id)
        with self._lock:
            self._sessions[session.refresh_token] = session
        return session

    def session(self, refresh_token: str, project_id: str) -> Session | None:
        """Return the session of a refresh token, if it lives and belongs to the project."""
        session = self._sessions.get(refresh_token)
        return session if session is not None and session.project_id == project_id else None

    def end_session(self, session_id: str) -> bool:
        """End a session by its id, and say whether there was one."""
        with self._lock:
            ended = [token for token, each in self._sessions.items() if each.id == session_id]
            for token in ended:
                del self._sessions[token]
        return bool(ended)
