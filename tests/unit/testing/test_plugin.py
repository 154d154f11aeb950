"""The fixture, used as its users do: with an app that was built at import."""

from __future__ import annotations

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
        lambda status, _, *__: started.append(status) or (lambda _: None),  # type: ignore[func-returns-value]
    )
    return started[0], b"".join(body)


@pytest.fixture(autouse=True)
def newest_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no config of another test be younger than ours."""
    monkeypatch.setattr("stackauth_middleware._core.config.newest_config", lambda: CONFIG)


def test_a_user_is_signed_in(stackauth: LocalStackAuth) -> None:
    assert get(stackauth.headers()) == ("200 OK", b"jane@example.com")
    assert get(stackauth.headers(sub=USER_ID, email="ann@example.com")) == ("200 OK", b"ann@example.com")
    assert get({})[0] == "401 Unauthorized"


def test_a_token_is_for_the_config_made_last(stackauth: LocalStackAuth) -> None:
    claims = claims_of(stackauth.token())
    assert claims["aud"] == PROJECT
    assert claims["iss"] == f"https://auth.example.com/api/v1/projects/{PROJECT}"


def test_users_are_kept(stackauth: LocalStackAuth) -> None:
    ann = stackauth.users.create(primary_email="ann@example.com")
    assert get(stackauth.headers(ann)) == ("200 OK", b"ann@example.com")
    token = stackauth.headers(ann)
    stackauth.users.restrict(ann.id)
    stackauth.reset()
    assert get(token)[0] == "403 Forbidden"
    stackauth.users.delete(ann.id)
    stackauth.reset()
    assert get(token)[0] == "401 Unauthorized"


def test_nothing_is_left_of_the_test_before(stackauth: LocalStackAuth) -> None:
    assert len(stackauth.users) == 0
    assert stackauth.requests.count() == 0
    assert get(stackauth.headers())[0] == "200 OK"
    assert stackauth.requests.count("jwks") == 1


def test_the_keys_rotate(stackauth: LocalStackAuth) -> None:
    old = stackauth.headers()
    assert get(old)[0] == "200 OK"
    stackauth.rotate()
    assert get(stackauth.headers())[0] == "200 OK"
    assert get(old)[0] == "401 Unauthorized"


def test_it_goes_down_and_comes_back(stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    with stackauth.down(cold=True):
        assert get(headers)[0] == "503 Service Unavailable"
    assert get(headers)[0] == "200 OK"


def test_it_throttles(stackauth: LocalStackAuth) -> None:
    with stackauth.throttle(7):
        assert get(stackauth.headers())[0] == "503 Service Unavailable"
    assert get(stackauth.headers())[0] == "200 OK"


def test_every_verifier_is_answered_whatever_its_project(stackauth: LocalStackAuth) -> None:
    verifier = Verifier(project_id=OTHER_PROJECT)
    assert verifier.verify(stackauth.token(project_id=OTHER_PROJECT, issuer_url="https://api.hexclave.com"))
    with pytest.raises(RefusedError) as caught:
        verifier.verify(stackauth.token())
    assert caught.value.code is ErrorCode.INVALID_TOKEN


def test_without_the_fixture_the_network_is_there() -> None:
    assert network.transport_override is None


def test_with_the_fixture_it_is_not(stackauth: LocalStackAuth) -> None:
    assert network.transport_override is not None
    with stackauth.down(), pytest.raises(AuthServerError):
        Verifier(project_id=PROJECT).verify(stackauth.token(issuer_url="https://api.stack-auth.com"))


def test_the_plugin_is_found_by_pytest(request: pytest.FixtureRequest) -> None:
    (found,) = entry_points(group="pytest11", name="stackauth")
    assert found.value == "stackauth_middleware.testing.plugin"
    assert request.config.pluginmanager.has_plugin("stackauth")
