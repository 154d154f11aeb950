"""The check of API keys: recorded checks, and what is never sent."""

from __future__ import annotations

from typing import Any

import pytest

from stackauth_middleware import AuthServerError
from stackauth_middleware._core.api_keys import ApiKey, form_of
from stackauth_middleware._core.server_api import api_keys
from stackauth_middleware._core.server_api.errors import ApiError, NotFoundError, PermissionDeniedError
from tests.unit.core.helpers import as_id, reply
from tests.unit.core.test_api_keys import CHECKS, ID, body, key

from .recorded import MISCONFIGURED_NAMES, Server, recorded_request, reply_to

SENT = [
    each["name"]
    for each in CHECKS
    if (form := form_of(str(each["request"]["body"]["api_key"])))
    and not form.is_public
    and each["request"]["path"] == f"/api/v1/{form.type}-api-keys/check"
    and each["name"] not in MISCONFIGURED_NAMES
]
"""Checks of secret keys at the endpoint of their type."""


@pytest.mark.parametrize("name", SENT)
def test_check_is_sent_and_read_as_recorded(name: str) -> None:
    request, answer = recorded_request(name), reply_to(name)
    value = request[3]["api_key"]
    server = Server(answer)
    if answer.status == 200:
        assert isinstance(server.send(api_keys.check(value)), ApiKey)
    else:
        with pytest.raises(ApiError) as raised:
            server.send(api_keys.check(value))
        kinds = {401: PermissionDeniedError, 404: NotFoundError, 400: ApiError}
        assert type(raised.value) is kinds[answer.status]
        assert value not in str(raised.value) + repr(raised.value) + raised.value.message
    assert server.sent == [request]


@pytest.mark.parametrize("value", ["", "hello", "ssk_" + "0" * 45, key()[:-1] + "x", key("pk", "user", "2")], ids=as_id)
def test_other_values_and_public_keys_are_not_found_and_not_sent(value: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        api_keys.check(value)
    assert raised.value.code == "API_KEY_NOT_FOUND"
    assert not value or value not in str(raised.value)


@pytest.mark.parametrize("value", [None, b"sk_", 1])
def test_value_that_is_no_text_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError, match="value must be a string"):
        api_keys.check(value)


def test_answer_about_another_key_is_an_outage() -> None:
    assert Server(reply(body())).send(api_keys.check(key())).id == ID
    with pytest.raises(AuthServerError):
        Server(reply(body(type="team", team_id=ID))).send(api_keys.check(key()))
