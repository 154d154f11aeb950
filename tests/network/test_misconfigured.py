"""A wrong key or project: 500, one error line a minute, few calls. Without a key the config is an error."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from stackauth_middleware import (
    Rule,
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
