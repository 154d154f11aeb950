"""An example of a second lookup, in one module: users by id, with server access.

`test_lookup.py` runs it with both runners. No module of the package refers to it.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.lookup import Lookup
from stackauth_middleware._core.records import Clocks
from stackauth_middleware._core.upstream import Answer, Call, Failure, Refusal, Reply, Script
from stackauth_middleware.errors import ErrorCode


class Account(NamedTuple):
    """The fields that the example reads."""

    id: str
    display_name: str | None


class Accounts(Lookup[str, Account | None]):
    """Users by id; None if there is no such user."""

    def __init__(self, config: StackAuthConfig) -> None:
        super().__init__(config, "user", f"{config.api_url}/api/v1/users/", read, ttl=60.0, max_entries=1000)
        self._headers = {
            "accept": "application/json",
            "x-stack-project-id": config.project_id,
            "x-stack-access-type": "server",
            "x-stack-secret-server-key": config.secret_server_key,
        }

    def account(self, user_id: str, now: Clocks) -> Script[Account | None]:
        return self.get(user_id, lambda: Call("GET", self._url + user_id, self._headers), now)


def read(answer: Answer, key: str, clocks: Clocks) -> Account | Refusal | Failure | None:
    if not isinstance(answer, Reply):
        return Failure(ErrorCode.SERVER_ERROR, str(answer))
    if answer.meant_status == 404:
        return None
    if answer.meant_status != 200:
        return Failure(ErrorCode.SERVER_ERROR, f"status {answer.meant_status}", answer.retry_after(clocks.wall))
    body = json.loads(answer.body)
    return Account(body["id"], body["display_name"])
