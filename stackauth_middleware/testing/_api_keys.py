"""API keys of users and teams, and the form of their values (docs/stack-auth.md section 6)."""

from __future__ import annotations

import threading
import uuid
import zlib
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from ._accounts import opaque
from ._projects import is_in

ApiKeyType: TypeAlias = Literal["user", "team"]

_MARKER = "574ck4u7h"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredApiKey:
    """An API key as stored. Immutable.

    Attributes:
        owner_id: the id of the user or of the team.
    """

    id: str
    value: str = field(repr=False)
    type: ApiKeyType
    owner_id: str
    project_id: str
    description: str
    created_at_millis: int
    is_public: bool = False
    expires_at_millis: int | None = None
    manually_revoked_at_millis: int | None = None

    def read(self, *, with_value: bool = False) -> dict[str, Any]:
        """Return the key as the API writes it: with its value when it is created, without it later."""
        members = {
            f"{self.type}_id": self.owner_id,
            "type": self.type,
            "value": self.value if with_value else {"last_four": self.value[-4:]},
            "is_public": self.is_public,
            "created_at_millis": self.created_at_millis,
            "expires_at_millis": self.expires_at_millis,
            "manually_revoked_at_millis": self.manually_revoked_at_millis,
            "description": self.description,
            "id": self.id,
        }
        return {name: value for name, value in members.items() if value is not None}


def key_value(key_id: str, key_type: ApiKeyType, *, public: bool = False) -> str:
    """Return the value of a new API key of a self-hosted server.

    Args:
        key_id: a UUID.
        key_type: the type of the owner.
        public: whether the key may be shown to everybody.
    """
    prefix, scanner = ("pk", "3") if public else ("sk", "1")
    unchecked = f"{prefix}_{opaque(45)}{key_id.replace('-', '')}{key_type}{scanner}{_MARKER}"
    return f"{unchecked}{zlib.crc32(unchecked.encode()):08x}"


class ApiKeys:
    """The API keys. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._keys: dict[str, StoredApiKey] = {}

    def create(
        self,
        key_type: ApiKeyType,
        owner_id: str,
        project_id: str,
        *,
        created_at_millis: int,
        description: str = "",
        is_public: bool = False,
        expires_at_millis: int | None = None,
    ) -> StoredApiKey:
        """Create an API key. The arguments are those of `StoredApiKey`."""
        key_id = str(uuid.uuid4())
        key = StoredApiKey(
            id=key_id,
            value=key_value(key_id, key_type, public=is_public),
            type=key_type,
            owner_id=owner_id,
            project_id=project_id,
            description=description,
            created_at_millis=created_at_millis,
            is_public=is_public,
            expires_at_millis=expires_at_millis,
        )
        self.add(key)
        return key

    def add(self, key: StoredApiKey) -> None:
        """Add a key, or replace the one with its id."""
        with self._lock:
            self._keys[key.id] = key

    def get(self, key_id: str, project_id: str) -> StoredApiKey | None:
        """Return a key of a project by its id; None if there is none."""
        key = self._keys.get(key_id)
        return key if key is not None and is_in(key.project_id, project_id) else None

    def find(self, value: str, project_id: str) -> StoredApiKey | None:
        """Return a key of a project by its value; None if there is none."""
        with self._lock:
            keys = list(self._keys.values())
        return next((key for key in keys if key.value == value and is_in(key.project_id, project_id)), None)

    def of_owner(self, key_type: ApiKeyType, owner_id: str, project_id: str) -> list[StoredApiKey]:
        """Return the keys of a user or team, newest first."""
        with self._lock:
            keys = list(self._keys.values())
        owned = [
            key
            for key in keys
            if (key.type, key.owner_id) == (key_type, owner_id) and is_in(key.project_id, project_id)
        ]
        return sorted(owned, key=lambda key: key.created_at_millis, reverse=True)

    def revoke(self, key_id: str, now_millis: int) -> StoredApiKey:
        """Revoke a key. Nothing changes if it was revoked before.

        Raises:
            KeyError: there is no such key.
        """
        with self._lock:
            key = self._keys[key_id]
            if key.manually_revoked_at_millis is None:
                key = self._keys[key_id] = replace(key, manually_revoked_at_millis=now_millis)
        return key

    def describe(self, key_id: str, description: str) -> StoredApiKey:
        """Change the description of a key."""
        with self._lock:
            key = self._keys[key_id] = replace(self._keys[key_id], description=description)
        return key

    def remove_owner(self, owner_id: str) -> None:
        """Remove all keys of a user or team."""
        with self._lock:
            self._keys = {key_id: key for key_id, key in self._keys.items() if key.owner_id != owner_id}
