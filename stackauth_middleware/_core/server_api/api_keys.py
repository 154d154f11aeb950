"""The check of an API key (docs/stack-auth.md section 11)."""

from __future__ import annotations

from functools import partial

from ..api_keys import ApiKey, api_key_from_json, form_of
from .errors import NotFoundError
from .request import Request
from .values import text


def check(value: str) -> Request[ApiKey]:
    """Return the request that checks an API key of either type.

    Raises:
        NotFoundError: the value has another form, its checksum is wrong, or it is a public key. For the first two,
            Stack Auth has the same answer; a public key proves nothing.
    """
    form = form_of(text("value", value))
    if form is None or form.is_public:
        reason = "a public key" if form else "no API key by its form"
        raise NotFoundError("API_KEY_NOT_FOUND", 404, f"not sent, since it is {reason}")
    read = partial(api_key_from_json, form=form)
    return Request("POST", f"/{form.type}-api-keys/check", read, body={"api_key": value})
