"""Falcon: its test client, negotiation of errors, and error serializers."""

from __future__ import annotations

import asyncio
from typing import Any

import falcon
import pytest
from falcon import testing

from stackauth_middleware.testing import LocalStackAuth

from .cases import JANE
from .site import running

kinds = pytest.mark.parametrize("name", ["falcon-wsgi", "falcon-asgi"])


@kinds
def test_test_client_passes_the_middleware(name: str, stackauth: LocalStackAuth) -> None:
    """For an ASGI app the headers in its scope are an iterator, which can be read only once."""
    with running(name) as site:
        http = testing.TestClient(site.application)
        assert http.simulate_get("/me", headers=stackauth.headers()).json["email"] == JANE["email"]
        assert http.simulate_get("/me").status_code == 401


def test_test_client_gets_the_user_on_a_websocket(stackauth: LocalStackAuth) -> None:
    async def ask(application: Any, headers: Any) -> Any:
        async with (
            testing.ASGIConductor(application) as conductor,
            conductor.simulate_ws("/optional/socket", headers=headers) as socket,
        ):
            return await socket.receive_json()

    with running("falcon-asgi") as site:
        sent = asyncio.run(ask(site.application, list(stackauth.headers().items())))
    assert sent == {**JANE, "profile": False}


@kinds
def test_xml_client_gets_falcons_own_form(name: str, stackauth: LocalStackAuth) -> None:
    """With the status and headers of the refusal. The middleware itself has no XML form."""
    with running(name, realm="shop") as site:
        answer = site.get("/public/guarded", {"accept": "text/xml"})
    assert (answer.status, answer.headers["content-type"]) == (401, "text/xml")
    assert "<code>missing_token</code>" in answer.body
    assert answer.headers["www-authenticate"] == 'Bearer realm="shop"'


@kinds
def test_own_serializer_gets_falcons_own_form(name: str, stackauth: LocalStackAuth) -> None:
    def serialize(req: Any, resp: Any, error: falcon.HTTPError) -> None:
        resp.media = {"own": error.to_dict()}

    with running(name) as site:
        site.application.app.set_error_serializer(serialize)
        answer = site.get("/public/guarded")
    own = {"title": "401 Unauthorized", "description": "Access token required", "code": "missing_token"}
    assert answer[::2] == (401, {"own": own})
