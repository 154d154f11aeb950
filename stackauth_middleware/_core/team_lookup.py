"""Teams of users: the call, the reader of its reply, and the lookup that caches them."""

from __future__ import annotations

from .api import server_call
from .config import StackAuthConfig
from .lookup import Lookup
from .records import Clocks
from .replies import read_object
from .server_api.teams import Team, teams_from_json
from .upstream import Answer, Call, Failure, Refusal, Script

_PATH = "/teams"


class TeamLookup(Lookup[str, tuple[Team, ...]]):
    """Teams of the users of one config, by user id.

    Args:
        config: its API address, secret key and cache settings are used.
    """

    def __init__(self, config: StackAuthConfig) -> None:
        super().__init__(
            config,
            "teams",
            f"{config.api_url}/api/v1{_PATH}",
            read,
            ttl=config.permission_ttl,
            max_entries=config.profile_cache_size,
            max_bytes=config.profile_cache_bytes,
        )
        self._config = config

    def teams(self, user_id: str, now: Clocks) -> Script[tuple[Team, ...]]:
        """Return the teams of a user, from the cache or from Stack Auth.

        Args:
            user_id: of a verified token, or as Stack Auth sent it.
            now: both clocks.

        Raises:
            AuthServerError: Stack Auth cannot be reached, or rejects our key.
        """

        def make_call() -> Call:
            return server_call(self._config, "GET", _PATH, {"user_id": user_id})

        return self.get(user_id, make_call, now)


def read(answer: Answer, key: str, clocks: Clocks) -> tuple[Team, ...] | Refusal | Failure:
    """Return the teams in a reply, or why it holds none. A `Reader` for `Lookup`.

    Raises:
        ValueError: the reply is not what was asked for.
        LookupError: as ValueError.
    """
    body = read_object(answer, clocks, {}, "teams")
    if isinstance(body, Refusal | Failure):
        return body
    if body.get("is_paginated", False) is not False:
        raise ValueError("not all items")
    return tuple(teams_from_json(body))
