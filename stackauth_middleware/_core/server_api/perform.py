"""Send a request of the server API, and decide what its answer means."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any, TypeVar

from ...errors import ConfigError, ErrorCode
from ..api import MISCONFIGURED, Api, server_call
from ..config import Settings, StackAuthConfig, config_of
from ..records import Clocks
from ..upstream import CANCEL_GRACE, Answer, Failure, Led, NoReply, NoReplyKind, Reply, Resume, Script, Share
from .errors import ApiError, ConflictError, NotFoundError, PermissionDeniedError
from .request import Request, UnreadableError

T = TypeVar("T")

MAX_BYTES = 16 * 1024 * 1024
"""Maximum size of an answer in bytes: a page of users holds the metadata of each, which users can write."""

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
_BY_CODE: dict[str, type[ApiError]] = {
    **dict.fromkeys(("TEAM_PERMISSION_NOT_FOUND", "USER_ID_DOES_NOT_EXIST"), NotFoundError),
    **dict.fromkeys(("TEAM_PERMISSION_REQUIRED", "PROJECT_PERMISSION_REQUIRED"), PermissionDeniedError),
    **dict.fromkeys(("INSUFFICIENT_ACCESS_TYPE", "API_KEY_EXPIRED", "API_KEY_REVOKED"), PermissionDeniedError),
}
"""Codes whose meaning differs from that of their status: a permission that is not held is a 401."""
_BY_STATUS: dict[int, type[ApiError]] = {403: PermissionDeniedError, 404: NotFoundError, 409: ConflictError}
_NOT_JSON = object()
"""The body of an answer that is no JSON, such as the page of a proxy."""
_OUTAGES = frozenset({408, 429})
"""Statuses below 500 that say nothing about the request."""


def server_config(config: StackAuthConfig | None, settings: Settings) -> StackAuthConfig:
    """Return the config of a client: as `config_of`, and with a secret server key.

    Raises:
        ConfigError: a setting is wrong, or there is no key.
    """
    config = config_of(config, settings)
    if not config.secret_server_key:
        raise ConfigError("secret_server_key is not set; the server API needs it: set STACK_SECRET_SERVER_KEY")
    return config


def perform(config: StackAuthConfig, request: Request[T], now: Clocks) -> Script[T]:
    """Send `request` and return what its reader makes of the answer.

    It is sent in a `Share` that no other caller joins, so that it can finish after its caller is cancelled.

    Raises:
        ApiError: Stack Auth refuses the request.
        AuthServerError: Stack Auth cannot be reached, rejects our key, or sends an answer that cannot be read.
    """
    api = config.get_or_create(Api)
    call = server_call(config, request.method, request.path, request.params, request.body, MAX_BYTES)
    script = partial(api.send, lambda: call, now)
    shared = yield Share(("server API", object()), script, cancel_grace=CANCEL_GRACE)
    assert isinstance(shared.answer, Led)  # noqa: S101 - no other call has this key
    resume: Resume | Failure = shared.answer.result
    if isinstance(resume, Failure):
        raise resume.error(api.breaker.record.retry_after(shared.clocks))
    result = _read(request, resume.answer, resume.clocks)
    failure = result if isinstance(result, Failure) else None
    key = ("server API", request.path.split("/")[1])  # failures of one route count once at the circuit breaker
    api.report(failure, key, now, resume, f"{request.method} {request.path} failed")
    if isinstance(result, Failure):
        raise result.error(api.breaker.record.retry_after(resume.clocks))
    if isinstance(result, ApiError):
        raise result
    return result


def _read(request: Request[T], answer: Answer, clocks: Clocks) -> T | ApiError | Failure:
    """Return the result of `request`, the error that Stack Auth answered, or why there is no usable answer."""
    if not isinstance(answer, Reply):
        return _without_reply(request, answer)
    try:
        body = json.loads(answer.body.decode("utf-8")) if answer.body else None
    except (ValueError, RecursionError):
        body = _NOT_JSON
    if 200 <= answer.meant_status < 300:
        return _read_body(request, body)
    return _error(request, answer, body if isinstance(body, dict) else {}, clocks)


def _without_reply(request: Request[Any], answer: Answer) -> Failure:
    too_large = isinstance(answer, NoReply) and answer.kind is NoReplyKind.TOO_LARGE
    unknown = "" if request.method == "GET" else "; it may have been carried out"
    return Failure(ErrorCode.SERVER_ERROR, f"{answer}{unknown}", key_only=too_large, is_outage=not too_large)


def _read_body(request: Request[T], body: Any) -> T | Failure:
    if body is _NOT_JSON:
        return Failure(ErrorCode.SERVER_ERROR, "the answer is not JSON (check api_url)", key_only=True)
    try:
        return request.read(body)
    except UnreadableError as error:
        detail = str(error)
    except (ValueError, TypeError, LookupError, RecursionError, AttributeError):
        detail = "the answer is not of the form that Stack Auth sends"
    return Failure(ErrorCode.SERVER_ERROR, detail, key_only=True)


def _error(request: Request[Any], reply: Reply, body: dict[str, Any], clocks: Clocks) -> ApiError | Failure:
    """Return what an answer with an error means, by its code, or by its status if Stack Auth sent it without one."""
    status, code = reply.meant_status, body.get("code")
    code = code if isinstance(code, str) and _CODE.fullmatch(code) else ""
    if code in MISCONFIGURED:
        return Failure(ErrorCode.MISCONFIGURED, f"Stack Auth says {code}")
    if status >= 500 or status in _OUTAGES or status < 400:
        retry_after = reply.retry_after(clocks.wall)
        return Failure(ErrorCode.SERVER_ERROR, f"status {status}", retry_after, key_only=not retry_after)
    if not code and status != 405 and not _is_from_stack_auth(reply):  # a 405 of Stack Auth has no request id
        return Failure(ErrorCode.SERVER_ERROR, f"a status {status} not from Stack Auth (check api_url)", key_only=True)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, ApiError)
    message = body.get("error") if code else reply.body[:1000].decode("utf-8", "replace")
    detail = f"{request.method} {request.path}"
    return kind(code, status, detail, message if isinstance(message, str) else "")


def _is_from_stack_auth(reply: Reply) -> bool:
    """Return whether a reply without a code has a request id of Stack Auth, and is not a page, as those of proxies."""
    is_page = "html" in reply.headers.get("content-type", "").lower()
    return not is_page and any(mark in reply.headers for mark in ("x-stack-request-id", "x-hexclave-request-id"))
