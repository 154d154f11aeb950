"""The server: what it answers before an endpoint is called."""

from __future__ import annotations

import pytest

from stackauth_middleware.testing import LocalStackAuth
from stackauth_middleware.testing._server import kind_of
from tests.data import load_endpoints
from tests.unit.testing.helpers import (
    JWKS,
    ME,
    OAUTH,
    REFRESH,
    SIGN_OUT,
    ask,
    me,
    two_projects,
)
from tests.unit.testing.replay import differences


@pytest.fixture
def local() -> LocalStackAuth:
    return two_projects()


def test_recordings_are_answered_alike() -> None:
    assert differences(load_endpoints("users")) == {}


def test_the_status_is_hidden_on_request(local: LocalStackAuth) -> None:
    got = me(local, token="garbage", override_error_status="false")
    assert (got.status, got.code) == (200, "UNPARSABLE_ACCESS_TOKEN")
    assert got.headers["x-stack-actual-status"] == got.headers["x-hexclave-actual-status"] == "401"
    assert "x-stack-actual-status" not in me(local, override_error_status="true").headers
    assert me(local, token=local.token(exp=None), override_error_status="true").status == 200
    assert me(local, token=local.token(sub=7), override_error_status="true").status == 500


@pytest.mark.parametrize(("target", "location"), [(JWKS + "/", JWKS), (ME + "//?x=1", ME + "?x=1")])
def test_trailing_slash_is_redirected(local: LocalStackAuth, target: str, location: str) -> None:
    got = ask(local, target)
    assert (got.status, got.headers["location"], got.body.decode()) == (308, location, location)


@pytest.mark.parametrize("target", ["/", "/api/v1/nothing", "/api/v9/users/me", f"/x{ME}"])
def test_unknown_paths_respond_404(local: LocalStackAuth, target: str) -> None:
    got = ask(local, target, {"host": "h"})
    assert (got.status, got.code) == (404, None)
    assert got.body.decode().startswith("404 — this page does not exist in Stack Auth's API.\n\n")
    assert got.body.decode().endswith(f"\n\nURL: http://h{target}")


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (JWKS, "jwks"),
        ("/api/latest/projects/internal/.well-known/jwks.json?x", "jwks"),
        ("/api/v2beta5/users/me", "users/me"),
        ("/api/v1/users/x", "users"),
        (OAUTH, "refresh"),
        (REFRESH, "refresh"),
        (SIGN_OUT, "sign-out"),
        ("/api/v1/users/x/y", "other"),
        ("", "other"),
    ],
)
def test_kind_of_a_target(target: str, kind: str) -> None:
    assert kind_of(target) == kind


def test_endpoint_without_access_needs_the_database_too(local: LocalStackAuth) -> None:
    with local.database_down():
        assert ask(local, JWKS).status == 500
