from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from stackauth_middleware import (
    ConfigError,
    ErrorCode,
    RefusedError,
    StackAuthConfig,
    aload_profile,
    get_user,
    load_profile,
    require_user,
)
from stackauth_middleware.testing import LocalStackAuth
from tests.unit.testing.helpers import PROJECT, USER_ID

CONFIG = StackAuthConfig(project_id=PROJECT, secret_server_key="ssk_for_tests", api_url="https://auth.example.com")
SCOPE = {"type": "http", "method": "GET", "path": "/x", "headers": []}
ENVIRON = {"REQUEST_METHOD": "GET", "PATH_INFO": "/x"}


@pytest.fixture
def local() -> Any:
    with LocalStackAuth().in_process() as local:
        yield local


@pytest.mark.parametrize(
    "request_of",
    [
        lambda mapping: mapping,
        lambda mapping: SimpleNamespace(scope=mapping),
        lambda mapping: SimpleNamespace(environ=mapping),
        lambda mapping: SimpleNamespace(META=mapping),
    ],
)
@pytest.mark.parametrize("mapping", [SCOPE, ENVIRON, {"type": "http"}, {"type": "http", "headers": 7}, {}])
def test_forced_user_is_found_with_profile(local: LocalStackAuth, request_of: Any, mapping: dict[str, Any]) -> None:
    request = request_of(dict(mapping))
    with pytest.raises(ConfigError):
        require_user(request)
    user = local.force_authenticate(request, config=CONFIG, sub=USER_ID, name="Ada")
    assert require_user(request) == get_user(request) == user
    assert (user.user_id, user.claims["project_id"]) == (USER_ID, PROJECT)
    assert load_profile(request).display_name == "Ada"
    assert asyncio.run(aload_profile(request)).display_name == "Ada"
    assert getattr(request, "stack_user", user) is user
    local.force_unauthenticated(request, config=CONFIG)
    assert get_user(request) is None
    with pytest.raises(RefusedError):
        require_user(request)


def test_settings_do_not_refuse_a_forced_user(local: LocalStackAuth) -> None:
    ann = local.users.create(is_anonymous=True)
    assert local.force_authenticate({}, ann, config=CONFIG).is_anonymous
    with pytest.raises(RefusedError) as caught:
        local.force_authenticate({}, config=CONFIG, expires_in=-60)
    assert caught.value.code is ErrorCode.EXPIRED_TOKEN


@pytest.mark.parametrize("newest", [CONFIG, None])
def test_config_is_the_newest_or_one_for_the_project(
    local: LocalStackAuth, monkeypatch: pytest.MonkeyPatch, newest: StackAuthConfig | None
) -> None:
    monkeypatch.setattr("stackauth_middleware._core.config.newest_config", lambda: newest)
    environ: dict[str, Any] = {}
    local.force_unauthenticated(environ)
    assert environ["stackauth.outcome"].config.project_id == local.project_id
    assert local.force_authenticate(environ).claims["project_id"] == local.project_id


@pytest.mark.parametrize("wrong", [None, "x", SimpleNamespace(environ=())])
def test_object_without_scope_or_environ_is_refused(local: LocalStackAuth, wrong: object) -> None:
    for force in (local.force_authenticate, local.force_unauthenticated):
        with pytest.raises(TypeError, match="is no request, scope or environ"):
            force(wrong)
