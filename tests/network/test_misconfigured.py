"""A wrong key or project: 500, one error line a minute, few calls. Without a key the config is an error."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from stackauth_middleware import (
    AsyncVerifier,
    AuthServerError,
    ConfigError,
    ErrorCode,
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    Verifier,
)
from tests.unit.core.helpers import PROJECT

from .conftest import Attempts, Warp
from .sites import Answer, Kind, Site, both_middlewares
from .upstream import PUBLISHABLE, SECRET, Upstream

BODY = {"error": "Authentication server error", "code": "auth_misconfigured"}


def faulty(answer: Answer) -> None:
    assert (answer.status, answer.json) == (500, BODY)
    assert "retry-after" not in answer.headers
    assert "www-authenticate" not in answer.headers


def error_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "secret key": ({"secret_server_key": "ssk_wrong"}, "INVALID_SECRET_SERVER_KEY"),
    "publishable key": ({"publishable_client_key": "pck_wrong"}, "INVALID_PUBLISHABLE_CLIENT_KEY"),
    "no publishable key where one is required": (
        {"publishable_client_key": "__stack_public_client__"},
        "PUBLISHABLE_CLIENT_KEY_REQUIRED_FOR_PROJECT",
    ),
}


@both_middlewares
@pytest.mark.parametrize("what", WRONG)
def test_wrong_key_is_a_500(
    what: str, kind: Kind, up: Upstream, warp: Warp, attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    settings, code = WRONG[what]
    up.local.add_project(PROJECT, publishable_client_key=PUBLISHABLE, secret_server_key=SECRET)
    if what.startswith("no "):
        up.local.add_project(PROJECT, publishable_client_key=PUBLISHABLE, require_publishable_client_key=True)
    tokens = up.tokens(5)
    caplog.set_level(logging.DEBUG)
    with Site(kind, up.config(**settings)) as site:
        for second in range(60):
            for token in tokens:
                faulty(site.ask(token))
            assert attempts.count == 1 + second // 10
            warp.pass_by(1)
        (line,) = error_lines(caplog)
        assert code in line
        assert f"{up.server.url}/api/v1/users/me" in line
        faulty(site.ask(tokens[0]))
        assert len(error_lines(caplog)) == 2


@both_middlewares
def test_corrected_key_works_within_ten_seconds(kind: Kind, up: Upstream, warp: Warp) -> None:
    up.local.add_project(PROJECT, secret_server_key="ssk_rotated")
    with Site(kind, up.config()) as site:
        faulty(site.ask(up.token()))
        up.local.add_project(PROJECT, secret_server_key=SECRET)
        faulty(site.ask(up.token()))
        warp.pass_by(10)
        assert site.ask(up.token()).status == 200


@both_middlewares
def test_deleted_project_is_a_500(
    kind: Kind, up: Upstream, warp: Warp, attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = up.tokens(3)
    with Site(kind, up.config(mode="jwt", rules=[Rule("/whole", profile=True)])) as site:
        assert site.ask(tokens[0], "/whole").status == 200
        up.local.remove_project(PROJECT)
        attempts.since()
        for token in tokens[1:] * 10:
            faulty(site.ask(token, "/whole"))
            assert site.ask(token, "/").status == 200
        assert attempts.since() == 1
        assert len(error_lines(caplog)) == 1


@both_middlewares
def test_unknown_project_is_a_500(kind: Kind, up: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    """The key set is refused already, so that users/me is not called."""
    token = up.token()
    up.local.remove_project(PROJECT)
    with Site(kind, up.config()) as site:
        for _ in range(20):
            faulty(site.ask(token))
    assert up.calls == []
    assert len(up.server.requests) == 1
    assert len(error_lines(caplog)) == 1


@both_middlewares
def test_optional_route_passes_unauthenticated_with_the_error(kind: Kind, up: Upstream) -> None:
    with Site(kind, up.config(secret_server_key="ssk_wrong", default_access="optional")) as site:
        answer = site.ask(up.token())
        assert (answer.status, answer.json) == (200, {"user": None, "error": "auth_misconfigured"})


@both_middlewares
def test_load_profile_raises_auth_misconfigured(kind: Kind, up: Upstream) -> None:
    with Site(kind, up.config(mode="jwt", secret_server_key="ssk_wrong")) as site:
        answer = site.ask(up.token(), "/load")
        assert answer.json["failed"] == "auth_misconfigured"
        assert answer.json["retry_after"] is None


NEEDS_A_KEY: dict[str, dict[str, Any]] = {
    "rest": {"mode": "rest"},
    "a profile rule": {"rules": [Rule("/open"), Rule("/me", profile=True)]},
    "both": {"mode": "rest", "rules": [Rule("/me", profile=True)]},
}


@pytest.mark.parametrize("what", NEEDS_A_KEY)
@pytest.mark.parametrize(
    "make",
    [
        StackAuthConfig,
        Verifier,
        AsyncVerifier,
        lambda **settings: StackAuthASGIMiddleware(lambda *_: None, **settings),
        lambda **settings: StackAuthWSGIMiddleware(lambda *_: [], **settings),
    ],
    ids=["config", "verifier", "async verifier", "asgi", "wsgi"],
)
def test_settings_that_need_a_key_raise_config_error_without_one(what: str, make: Any) -> None:
    with pytest.raises(ConfigError, match="STACK_SECRET_SERVER_KEY"):
        make(project_id=PROJECT, **NEEDS_A_KEY[what])


@pytest.mark.parametrize("key", [{"secret_server_key": SECRET}, {"publishable_client_key": PUBLISHABLE}])
@pytest.mark.parametrize("what", NEEDS_A_KEY)
def test_either_key_is_sufficient(what: str, key: dict[str, Any]) -> None:
    StackAuthConfig(project_id=PROJECT, **NEEDS_A_KEY[what], **key)


@both_middlewares
def test_a_handler_cannot_load_a_profile_without_a_key(kind: Kind, up: Upstream) -> None:
    with Site(kind, up.config(mode="jwt", secret_server_key="")) as site:
        assert site.ask(up.token()).status == 200
        with pytest.raises(ConfigError, match="STACK_SECRET_SERVER_KEY"):
            site.ask(up.token(), "/load")
    assert up.calls == []


def test_verifier_cannot_load_a_profile_without_a_key(up: Upstream) -> None:
    config = up.config(mode="jwt", secret_server_key="")
    with Verifier(config) as verifier, pytest.raises(ConfigError, match="STACK_SECRET_SERVER_KEY"):
        verifier.profile(up.token())
    assert up.server.requests == []


def test_exception_has_the_error_code(up: Upstream) -> None:
    with Verifier(up.config(secret_server_key="ssk_wrong")) as verifier:
        for ask in (verifier.verify, verifier.profile):
            with pytest.raises(AuthServerError) as raised:
                ask(up.token())
            assert (raised.value.code, raised.value.retry_after) == (ErrorCode.MISCONFIGURED, None)
