"""Calls to the Stack Auth API. All calls of one config pass one circuit breaker.

Fetches of key sets do not: `key_set_cache` has a schedule of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from .._version import __version__
from ..errors import ErrorCode
from .breaker import Breaker
from .cache import Atomic
from .config import StackAuthConfig
from .rate_limited_log import RateLimitedLog
from .records import Clocks
from .upstream import MAX_BYTES, Call, Failure, NoReply, Resume, Script, fetch

MISCONFIGURED = frozenset(
    {
        "INVALID_SECRET_SERVER_KEY",
        "SERVER_AUTHENTICATION_REQUIRED",
        "INVALID_PUBLISHABLE_CLIENT_KEY",
        "PUBLISHABLE_CLIENT_KEY_REQUIRED_FOR_PROJECT",
        "CURRENT_PROJECT_NOT_FOUND",
        "BRANCH_DOES_NOT_EXIST",
        "ACCESS_TYPE_REQUIRED",
        "ACCESS_TYPE_WITHOUT_PROJECT_ID",
        "PROJECT_KEY_WITHOUT_ACCESS_TYPE",
        "INVALID_ACCESS_TYPE",
    }
)
"""Error codes with which the API rejects our key or project, whatever the call (docs/stack-auth.md section 6)."""


class Api:
    """State shared by all calls of one config to the API: the circuit breaker, and the logs of failures.

    Args:
        config: owns the state: ``config.get_or_create(Api)``.
    """

    def __init__(self, config: StackAuthConfig) -> None:
        self.breaker: Atomic[Breaker] = Atomic(Breaker())
        self.faults = RateLimitedLog(logging.ERROR)
        self.outages = RateLimitedLog(logging.WARNING)

    def open_failure(self) -> Failure:
        """Return the failure of a call that the open circuit breaker does not permit."""
        return Failure(self.breaker.record.code, "the circuit breaker is open")

    def send(self, make_call: Callable[[], Call], now: Clocks) -> Script[Resume | Failure]:
        """Send a call if the circuit breaker permits it. The caller has to `report` a result that is a `Resume`.

        Args:
            make_call: makes the call.
            now: both clocks.
        """
        if not self.breaker.swap(lambda record: record.permit(now)):
            return self.open_failure()
        try:
            return (yield from fetch(make_call()))
        except GeneratorExit:
            self.breaker.swap(lambda record: (record.withdrawn(now), None))
            raise

    def report(self, failure: Failure | None, key: Hashable, asked_at: Clocks, resume: Resume, message: str) -> None:
        """Report the result of a call to the circuit breaker, and a failure to the log.

        Args:
            failure: why the reply is not usable; None if it is, even if it is a refusal.
            key: what the call was about.
            asked_at: `now` of `send`.
            resume: result of `send`.
            message: what the failure prevented, for the log.
        """
        now = resume.clocks
        if failure is not None:
            log = self.faults if failure.code is ErrorCode.MISCONFIGURED else self.outages
            log(now, f"{message}: {failure.detail}")
        if isinstance(resume.answer, NoReply) and resume.answer.inconclusive:
            self.breaker.swap(lambda record: (record.withdrawn(asked_at), None))
        elif failure is not None and failure.is_outage:
            self.breaker.swap(lambda record: (record.failed(failure, key, asked_at, now), None))
        else:
            self.breaker.swap(lambda record: (record.succeeded(asked_at), None))


def headers_of(config: StackAuthConfig) -> dict[str, str]:
    """Return the headers of each call, without those of the access type."""
    return {
        "accept": "application/json",
        "x-stack-project-id": config.project_id,
        "x-stack-client-version": f"python @stackauth/middleware@{__version__}",
    }


def server_headers(config: StackAuthConfig) -> dict[str, str]:
    """Return the headers of a call with server access."""
    access = {"x-stack-access-type": "server", "x-stack-secret-server-key": config.secret_server_key}
    return headers_of(config) | access


def server_call(
    config: StackAuthConfig,
    method: str,
    path: str,
    params: Mapping[str, str] = MappingProxyType({}),
    body: Any = None,
    max_bytes: int = MAX_BYTES,
    *,
    idempotent: bool | None = None,
) -> Call:
    """Return a call with server access.

    Args:
        config: its project, address and secret server key are used.
        method: in capitals.
        path: below ``/api/v1``, with the leading slash; no part of it is unchecked input.
        params: of the query; any text.
        body: JSON value, or None for no body.
        max_bytes: limit on the size of the reply's body.
        idempotent: whether it may be sent twice; by default only if its method is GET.

    Raises:
        ValueError: `body` cannot be written as JSON.
        TypeError: as ValueError.
    """
    headers = server_headers(config)
    data = b""
    if body is not None:
        data = json.dumps(body, allow_nan=False).encode("ascii")
        headers["content-type"] = "application/json"
    query = f"?{urlencode(params)}" if params else ""
    url = f"{config.api_url}/api/v1{path}{query}"
    return Call(method, url, headers, data, max_bytes, idempotent=method == "GET" if idempotent is None else idempotent)
