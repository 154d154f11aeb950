"""The fixture ``stackauth``, with an app that is built at import as in real test suites."""

from __future__ import annotations

import time
from importlib.metadata import entry_points
from typing import Any

import pytest

from stackauth_middleware import (
    AuthServerError,
    ErrorCode,
    RefusedError,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    Verifier,
    get_user,
)
from stackauth_middleware._io import network
from stackauth_middleware.testing import LocalStackAuth
from tests.unit.testing.helpers import OTHER_PROJECT, PROJECT, SECRET, USER_ID, claims_of

CONFIG = StackAuthConfig(
    project_id=PROJECT,
    api_url="http://stack:8102",
    allow_http=True,
    issuer_url="https://auth.example.com",
    mode="rest",
    secret_server_key=SECRET,
)


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    user = get_user(environ)
    assert user is not None
    start_response("200 OK", [])
    return [str(user.email).encode()]


APP = StackAuthWSGIMiddleware(hello, config=CONFIG)


def get(headers: dict[str, str]) -> tuple[str, bytes]:
    started: list[str] = []
    environ = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()}
    body = APP(
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.url_scheme": "http", **environ},
        lambda status, _, *__: started.append(status) or (lambda _: None),
    )
    return started[0], b"".join(body)


@pytest.fixture(autouse=True)
def newest_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `CONFIG` the newest config, whatever other tests created."""
    monkeypatch.setattr("stackauth_middleware._core.config.newest_config", lambda: CONFIG)


def test_signed_in_user_is_authenticated(stackauth: LocalStackAuth) -> None:
    assert get(stackauth.headers()) == ("200 OK", b"jane@example.com")
    assert get(stackauth.headers(sub=USER_ID, email="ann@example.com")) == ("200 OK", b"ann@example.com")
    assert get({})[0] == "401 Unauthorized"


def test_token_is_for_the_newest_config(stackauth: LocalStackAuth) -> None:
    claims = claims_of(stackauth.token())
    assert claims["aud"] == PROJECT
    assert claims["iss"] == f"https://auth.example.com/api/v1/projects/{PROJECT}"


def test_restricted_or_deleted_user_is_refused_after_reset(stackauth: LocalStackAuth) -> None:
    ann = stackauth.users.create(primary_email="ann@example.com")
    assert get(stackauth.headers(ann)) == ("200 OK", b"ann@example.com")
    token = stackauth.headers(ann)
    stackauth.users.restrict(ann.id)
    stackauth.reset()
    assert get(token)[0] == "403 Forbidden"
    stackauth.users.delete(ann.id)
    stackauth.reset()
    assert get(token)[0] == "401 Unauthorized"


def test_each_test_starts_with_an_empty_stack_auth(stackauth: LocalStackAuth) -> None:
    assert len(stackauth.users) == 0
    assert stackauth.requests.count() == 0
    assert get(stackauth.headers())[0] == "200 OK"
    assert stackauth.requests.count("jwks") == 1


def test_rotation_invalidates_old_tokens(stackauth: LocalStackAuth) -> None:
    old = stackauth.headers()
    assert get(old)[0] == "200 OK"
    stackauth.rotate()
    assert get(stackauth.headers())[0] == "200 OK"
    assert get(old)[0] == "401 Unauthorized"


def test_down_responds_503_until_the_context_ends(stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    with stackauth.down(cold=True):
        assert get(headers)[0] == "503 Service Unavailable"
    assert get(headers)[0] == "200 OK"


def test_throttle_responds_503_until_the_context_ends(stackauth: LocalStackAuth) -> None:
    with stackauth.throttle(7):
        assert get(stackauth.headers())[0] == "503 Service Unavailable"
    assert get(stackauth.headers())[0] == "200 OK"


def test_verifiers_of_all_projects_are_answered(stackauth: LocalStackAuth) -> None:
    verifier = Verifier(project_id=OTHER_PROJECT)
    assert verifier.verify(stackauth.token(project_id=OTHER_PROJECT, issuer_url="https://api.hexclave.com"))
    with pytest.raises(RefusedError) as caught:
        verifier.verify(stackauth.token(project_id=PROJECT))
    assert caught.value.code is ErrorCode.INVALID_TOKEN


def test_no_transport_override_without_the_fixture() -> None:
    assert network.transport_override is None


def test_fixture_sets_the_transport_override(stackauth: LocalStackAuth) -> None:
    assert network.transport_override is not None
    with stackauth.down(), pytest.raises(AuthServerError):
        Verifier(project_id=PROJECT).verify(stackauth.token(issuer_url="https://api.stack-auth.com"))


def test_plugin_is_registered_with_pytest(request: pytest.FixtureRequest) -> None:
    (found,) = entry_points(group="pytest11", name="stackauth")
    assert found.value == "stackauth_middleware._pytest_plugin"
    assert request.config.pluginmanager.has_plugin("stackauth")


def test_token_is_valid_while_time_is_frozen(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """freezegun replaces ``time.time`` after the fixture was set up."""
    monkeypatch.setattr(time, "time", lambda: 1_500_000_000.0)
    stackauth.reset()
    assert claims_of(stackauth.token())["iat"] == 1_500_000_000
    headers = stackauth.headers()
    assert get(headers)[0] == "200 OK"
    monkeypatch.setattr(time, "time", lambda: 1_500_001_000.0)
    assert get(headers)[0] == "401 Unauthorized"
