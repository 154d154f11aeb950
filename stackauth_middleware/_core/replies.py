"""Replies of the Stack Auth API: how the JSON object or the error in a reply is read.

The readers decide by the ``code`` in the body of a reply, and by the status only if there is none
(docs/stack-auth.md section 6). The status alone is ambiguous: a deleted user is a 400, our wrong secret key is a 401
like a client's bad token, and an unusual token is a 500.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import ErrorCode
from .api import MISCONFIGURED
from .lookup import parts_of
from .records import Clocks
from .upstream import Answer, Failure, NoReply, NoReplyKind, Refusal, Reply

MAX_PARTS = 32 * 1024
"""Maximum number of commas, lists and objects in a reply, a cheap bound on parsing cost: users write metadata."""
MAX_REASON = 128
"""Maximum characters of a restriction reason; longer ones are dropped, since thousands of refusals may be cached."""

_MISCONFIGURED = MISCONFIGURED | {"INSUFFICIENT_ACCESS_TYPE", "SCHEMA_ERROR"}


def read_object(
    answer: Answer, clocks: Clocks, refusals: Mapping[str, ErrorCode], source: str
) -> Mapping[str, Any] | Refusal | Failure:
    """Return the JSON object in the reply to a call, or why there is none. A body that is not an object counts as {}.

    Args:
        answer: the result of the call.
        clocks: when it arrived.
        refusals: the error codes of the API that refuse the credential of a request.
        source: the endpoint, for logs.
    """
    if isinstance(answer, NoReply) and answer.kind is NoReplyKind.TOO_LARGE:
        return _too_large(answer.reason)
    if not isinstance(answer, Reply):
        return Failure(ErrorCode.SERVER_ERROR, str(answer))
    status, body = answer.meant_status, _object(answer.body)
    if isinstance(body, Failure):
        if status == 200:
            return body
        body = {}
    code = body.get("code")
    if isinstance(code, str) and code in _MISCONFIGURED:
        return Failure(ErrorCode.MISCONFIGURED, f"{source} says {code}")
    if isinstance(code, str) and code in refusals:
        return Refusal(refusals[code], f"{source} says {code}", _restricted_reason(body))
    if status == 200:
        return body
    retry_after = answer.retry_after(clocks.wall)
    # A 5xx, or a code that we do not know, may concern this key alone; a Retry-After concerns the whole project.
    key_only = (status >= 500 or isinstance(code, str)) and not retry_after
    return Failure(ErrorCode.SERVER_ERROR, f"status {status}", retry_after, key_only=key_only)


def _too_large(detail: str) -> Failure:
    return Failure(ErrorCode.SERVER_ERROR, detail, key_only=True, is_outage=False)


def _object(body: bytes) -> Mapping[str, Any] | Failure:
    """Return the JSON object in `body`, an empty one if it holds none, or a failure if it is too large to parse."""
    if parts_of(body) > MAX_PARTS:
        return _too_large("a reply of too many parts")
    try:
        value = json.loads(body.decode("utf-8"))
    except ValueError:
        return {}
    except RecursionError:
        return nested_too_deeply()
    return value if isinstance(value, dict) else {}


def nested_too_deeply() -> Failure:
    """Return the failure for a reply that exceeds the recursion limit."""
    return _too_large("a reply nested too deeply")


def _restricted_reason(body: Mapping[str, Any]) -> str | None:
    details = body.get("details")
    reason = details.get("restricted_reason") if isinstance(details, dict) else None
    kind = reason.get("type") if isinstance(reason, dict) else None
    return kind if isinstance(kind, str) and len(kind) <= MAX_REASON else None
