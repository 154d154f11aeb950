"""``manage.py check``: wrong settings and a wrong order are reported, each under an id of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from stackauth_middleware._core import config
from stackauth_middleware.contrib.django import StackAuthMiddleware
from stackauth_middleware.contrib.django.apps import check_middleware

from ..cases import PROJECT
from . import project
from .project import OURS, installed

APP = "stackauth_middleware.contrib.django"
FETCH = "django.middleware.cache.FetchFromCacheMiddleware"
UPDATE = "django.middleware.cache.UpdateCacheMiddleware"
CORS = "corsheaders.middleware.CorsMiddleware"


class Own(StackAuthMiddleware):
    """A project's own form of the middleware."""


@pytest.fixture(autouse=True)
def app() -> Iterator[None]:
    with override_settings(INSTALLED_APPS=[APP]):
        yield


def found(**settings: Any) -> list[CheckMessage]:
    """Return the messages of the checks for the project, with `settings` changed."""
    with installed(), override_settings(**settings):
        return run_checks()


def ids(messages: list[CheckMessage]) -> list[str | None]:
    return [message.id for message in messages]


def test_a_right_project_passes() -> None:
    with installed():
        call_command("check", fail_level="WARNING")


@pytest.mark.parametrize("given", [{"PROJECT_ID": PROJECT, "LEEWAY": -1}, {"PROJECT_ID": PROJECT, "RULEZ": []}, "x"])
def test_wrong_settings_are_reported(given: Any) -> None:
    (message,) = found(STACK_AUTH=given)
    assert message.id == "stackauth.E001"
    assert any(name in message.msg for name in ("leeway", "rulez", "STACK_AUTH"))


def test_the_command_fails_on_them(capsys: pytest.CaptureFixture[str]) -> None:
    with installed(), override_settings(STACK_AUTH={}), pytest.raises(SystemCheckError, match=r"stackauth\.E001"):
        call_command("check")


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        ([], ["stackauth.E002"]),
        ([OURS, OURS], ["stackauth.E002"]),
        ([OURS, f"{__name__}.Own"], ["stackauth.E002"]),
        ([f"{__name__}.Own"], []),
        ([f"{project.__name__}.SyncOnly", OURS, "no.such.Thing", "os.getcwd"], []),
        ([FETCH, OURS], ["stackauth.E003"]),
        ([UPDATE, OURS, FETCH], []),
        ([OURS, UPDATE, FETCH], ["stackauth.E006"]),
        ([UPDATE, FETCH, OURS], ["stackauth.E003"]),
        ([OURS, CORS], ["stackauth.W004"]),
        ([CORS, OURS], []),
        ([FETCH, OURS, CORS], ["stackauth.E003", "stackauth.W004"]),
    ],
)
def test_the_order_is_checked(middleware: list[str], expected: list[str]) -> None:
    assert ids(found(MIDDLEWARE=middleware)) == expected


@pytest.mark.parametrize(
    ("installed_apps", "asgi", "expected"),
    [
        (["channels", APP], "site.application", ["stackauth.W005"]),
        (["channels.apps.ChannelsConfig", APP], "site.application", ["stackauth.W005"]),
        (["daphne", APP], "site.application", ["stackauth.W005"]),
        (["channels", APP], None, []),
        ([APP], "site.application", []),
    ],
)
def test_websockets_of_channels_are_warned_about(
    installed_apps: list[str], asgi: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check alone: Channels itself would want to be set up."""
    monkeypatch.setattr("stackauth_middleware.contrib.django.apps.find_spec", lambda name: object())
    with installed():
        monkeypatch.setattr(settings, "INSTALLED_APPS", installed_apps)
        monkeypatch.setattr(settings, "ASGI_APPLICATION", asgi, raising=False)
        assert ids(check_middleware()) == expected


def test_daphne_without_channels_serves_no_websockets_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackauth_middleware.contrib.django.apps.find_spec", lambda name: None)
    with installed():
        monkeypatch.setattr(settings, "INSTALLED_APPS", ["daphne", APP])
        monkeypatch.setattr(settings, "ASGI_APPLICATION", "site.application", raising=False)
        assert check_middleware() == []


def test_named_origins_make_up_for_cors_below() -> None:
    with installed(cors_origins=["https://app.example.com"]), override_settings(MIDDLEWARE=[OURS, CORS]):
        assert run_checks() == []


def test_wrong_settings_are_reported_once() -> None:
    """Not again as a matter of the order."""
    assert ids(found(STACK_AUTH={}, MIDDLEWARE=[OURS, CORS])) == ["stackauth.E001"]


def test_the_app_makes_the_config_early() -> None:
    """So that the pytest fixture knows the project before a test client has sent anything."""
    with installed():
        apps.get_app_config("stackauth").ready()
        newest_config = config.newest_config()
    assert newest_config is not None
    assert newest_config.project_id == PROJECT


def test_wrong_settings_do_not_keep_the_check_from_running() -> None:
    with override_settings(STACK_AUTH={"PROJECT_ID": "nonsense"}):
        apps.get_app_config("stackauth").ready()
