"""API keys: the local check, the call that checks a key, and the lookup that caches checked keys."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from ..errors import ErrorCode, RefusedError
from .api import server_call
from .api_keys import ApiKey, ApiKeyForm, api_key_from_json, form_of
from .config import StackAuthConfig
from .lookup import Lookup
from .policy import Policy
from .records import Clocks
from .replies import read_object
from .upstream import Answer, Call, Failure, Refusal, Reply, Script

_REFUSED = {
    "API_KEY_NOT_FOUND": ErrorCode.INVALID_API_KEY,  # also if its owner was deleted, or if it is of another project
    "API_KEY_REVOKED": ErrorCode.INVALID_API_KEY,
    "API_KEY_EXPIRED": ErrorCode.EXPIRED_API_KEY,
    "WRONG_API_KEY_TYPE": ErrorCode.INVALID_API_KEY,
}


class Checkable(NamedTuple):
    """An API key that passed the local check, as a cache key: its digest and form, not its value."""

    digest: bytes
    form: ApiKeyForm


class KeyLookup(Lookup[Checkable, ApiKey]):
    """Checked API keys of one config, by the digest of their values.

    Args:
        config: its API address, secret key and cache settings are used.
    """

    def __init__(self, config: StackAuthConfig) -> None:
        super().__init__(
            config,
            "API key",
            f"{config.api_url}/api/v1/*-api-keys/check",
            read,
            ttl=config.api_key_ttl,
            max_entries=config.profile_cache_size,
            max_bytes=config.profile_cache_bytes,
        )
        self._config = config

    def key(self, value: str, policy: Policy, now: Clocks) -> Script[ApiKey]:
        """Return the API key with the text `value`, from the cache or from Stack Auth.

        Args:
            value: as the client sent it.
            policy: the types of API keys that it accepts.
            now: both clocks.

        Raises:
            RefusedError: the text is no secret API key, `policy` does not accept its type, or Stack Auth refuses it.
            AuthServerError: Stack Auth cannot be reached, rejects our key, or has API keys of this type turned off.
        """
        form = form_of(value)
        if form is None or form.is_public:
            raise RefusedError(ErrorCode.INVALID_API_KEY, "no secret API key by form and checksum")
        if form.type.value not in policy.api_keys:
            raise RefusedError(ErrorCode.FORBIDDEN, "an API key of a type that this path does not accept")

        def make_call() -> Call:
            path = f"/{form.type}-api-keys/check"
            return server_call(self._config, "POST", path, body={"api_key": value}, idempotent=True)

        key = yield from self.get(Checkable(hashlib.sha256(value.encode("ascii")).digest(), form), make_call, now)
        if key.expires_at is not None and key.expires_at <= now.wall:
            raise RefusedError(ErrorCode.EXPIRED_API_KEY, "expired")
        return key


def read(answer: Answer, key: Checkable, clocks: Clocks) -> ApiKey | Refusal | Failure:
    """Return the API key in the reply to a check, or why it holds none.

    A `Reader` for `Lookup`. If API keys of the type are turned off, Stack Auth answers with a 400 in plain text.
    """
    body = read_object(answer, clocks, _REFUSED, "the check of API keys")
    if isinstance(answer, Reply) and answer.meant_status == 400 and _is_plain_text_of_stack_auth(answer):
        detail = f"API keys of the type {key.form.type} are turned off in the project"
        return Failure(ErrorCode.MISCONFIGURED, detail, key_only=True, is_outage=False)
    return body if isinstance(body, Refusal | Failure) else api_key_from_json(body, key.form)


def _is_plain_text_of_stack_auth(reply: Reply) -> bool:
    """Return whether the sender of an error without a code is Stack Auth itself, and not a proxy in front of it."""
    ids = reply.headers.keys() & {"x-stack-request-id", "x-hexclave-request-id"}
    return bool(ids) and reply.headers.get("content-type", "").startswith("text/plain")
