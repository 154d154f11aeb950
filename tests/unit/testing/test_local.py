from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from stackauth_middleware import (
    AsyncVerifier,
    ErrorCode,
    StackAuthConfig,
    Verifier,
)
from stackauth_middleware._io import network
from stackauth_middleware.testing import LocalStackAuth
from tests.unit.testing.helpers import (
    JWKS,
    ME,
    OTHER_PROJECT,
    PROJECT,
    PUBLISHABLE,
    SECRET,
    SERVER,
    USER_ID,
    ask,
    code_of,
    unb64url,
    verifier,
)

pytestmark = pytest.mark.usefixtures("bare")


@pytest.fixture
def local() -> Iterator[LocalStackAuth]:
    with LocalStackAuth(PROJECT).in_process() as local:
        yield local


def test_a_rotation_ends_old_tokens_at_once(local: LocalStackAuth) -> None:
    checked, old = verifier(), local.token()
    checked.verify(old)
    local.rotate()
    assert checked.verify(local.token())
    assert code_of(checked, old) is ErrorCode.INVALID_TOKEN


def test_a_soft_rotation_keeps_old_tokens(local: LocalStackAuth) -> None:
    checked, old = verifier(), local.token()
    local.rotate(PROJECT, keep_old=True)
    assert checked.verify(old)
    assert checked.verify(local.token())


def test_rotation_without_reset_is_noticed_as_in_production(local: LocalStackAuth) -> None:
    checked, old = verifier(), local.token()
    checked.verify(old)
    local.rotate(reset=False)
    assert checked.verify(old)
    assert local.requests.count("jwks") == 1


def test_transport_override_is_removed_after_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    before = object()
    monkeypatch.setattr(network, "transport_override", before)
    with LocalStackAuth(PROJECT).in_process() as one:
        assert network.transport_override is one._transport_override
        with LocalStackAuth(PROJECT).in_process() as other:
            assert network.transport_override is other._transport_override
        assert network.transport_override is one._transport_override
    assert network.transport_override is before


def test_transport_override_is_removed_after_an_exception() -> None:
    before = network.transport_override
    with pytest.raises(ZeroDivisionError), LocalStackAuth(PROJECT).in_process():
        raise ZeroDivisionError
    assert network.transport_override is before


def test_caches_are_reset_between_two_contexts() -> None:
    checked = verifier()
    with LocalStackAuth(PROJECT).in_process() as one:
        old = one.token()
        checked.verify(old)
        with LocalStackAuth(PROJECT).in_process() as other:
            assert checked.verify(other.token())
            assert code_of(checked, old) is ErrorCode.INVALID_TOKEN
        assert checked.verify(old)
    assert not checked.status().ready


def test_transport_override_answers_every_verifier(local: LocalStackAuth) -> None:
    config = StackAuthConfig(
        project_id=OTHER_PROJECT,
        api_url="http://stack:8102/base",
        allow_http=True,
        issuer_url="https://auth.example.com",
    )
    token = local.token(project_id=OTHER_PROJECT, issuer_url="https://auth.example.com")
    assert Verifier(config).verify(token)

    async def verify() -> object:
        async with AsyncVerifier(config) as asynchronous:
            return await asynchronous.verify(token)

    assert asyncio.run(verify())


def test_cached_keys_survive_an_outage_unless_cold(local: LocalStackAuth) -> None:
    checked, token = verifier(), local.token()
    checked.verify(token)
    with local.down():
        assert checked.verify(token)
    with local.down(cold=True):
        assert code_of(checked, token) is ErrorCode.SERVER_ERROR
    assert checked.verify(token)


def test_faults_affect_asgi_wsgi_and_transport_override(local: LocalStackAuth) -> None:
    assert ask(local, JWKS).status == 200
    with local.fail(503, only="jwks"):
        assert ask(local, JWKS).status == 503
        assert ask(local, ME, {**SERVER, "x-stack-access-token": local.token()}).status == 200
    with local.throttle(3):
        assert ask(local, ME).headers["retry-after"] == "3"
    with local.down():
        assert ask(local, ME).status == 502
    with local.delay(0.01), local.fail():
        assert ask(local, ME).status == 500
    assert [each.kind for each in local.requests] == ["jwks", "jwks", "users/me", "users/me", "users/me", "users/me"]
    assert local.requests[1].headers == {"content-type": ""}


def test_answer_ignores_faults_and_the_request_log(local: LocalStackAuth) -> None:
    with local.down():
        assert local.answer("GET", JWKS).status == 200
        assert local.answer("POST", JWKS, {}, b"x").status == 405
    assert local.requests.count() == 0


def test_keys_of_the_project_are_as_given() -> None:
    local = LocalStackAuth(PROJECT, secret_server_key=SECRET, publishable_client_key=PUBLISHABLE, any_project=False)
    token = local.token()
    assert ask(local, ME, {**SERVER, "x-stack-access-token": token}).status == 200
    assert ask(local, ME, {**SERVER, "x-stack-secret-server-key": "x"}).code == "INVALID_SECRET_SERVER_KEY"
    assert ask(local, JWKS.replace(PROJECT, OTHER_PROJECT)).status == 404
    local.add_project(OTHER_PROJECT)
    assert ask(local, JWKS.replace(PROJECT, OTHER_PROJECT)).status == 200
    local.remove_project(PROJECT)
    assert ask(local, JWKS).status == 404


def test_a_project_may_have_short_coordinates() -> None:
    local = LocalStackAuth(PROJECT, short_coordinates=True)
    jwk = ask(local, JWKS).json["keys"][0]
    assert min(len(unb64url(jwk["x"])), len(unb64url(jwk["y"]))) < 32
    with local.in_process():
        assert verifier().verify(local.token())


def test_token_made_before_the_config_is_good_for_it() -> None:
    with LocalStackAuth().in_process() as local:
        token = local.sign_in(sub=USER_ID).access_token
        for settings in ({"project_id": PROJECT}, {"project_id": OTHER_PROJECT, "api_url": "https://own.example.com"}):
            user = Verifier(**settings, mode="rest", secret_server_key=SECRET).verify(token)
            assert (user.user_id, user.claims["project_id"]) == (USER_ID, settings["project_id"])
        for given in ({"project_id": OTHER_PROJECT}, {"issuer_url": "https://own.example.com"}, {"aud": "x"}):
            assert code_of(verifier(), local.token(**given)) is ErrorCode.INVALID_TOKEN
    assert code_of(verifier(timeout=0.05, api_url="http://localhost:9"), token) is ErrorCode.INVALID_TOKEN
