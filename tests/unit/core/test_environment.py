"""Settings in environment variables, and variables that are none."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stackauth_middleware._core import environment
from stackauth_middleware._core.config import setting_fields, typed_settings
from stackauth_middleware._core.environment import APP, CONFIG, app_spec, config_path, from_environment, reject_unknown
from stackauth_middleware._core.settings import OWN
from stackauth_middleware.errors import ConfigError

SETTINGS = typed_settings()

BY_PROVIDER = {
    "project_id": ("STACK_PROJECT_ID", "HEXCLAVE_PROJECT_ID", "NEXT_PUBLIC_STACK_PROJECT_ID"),
    "secret_server_key": (
        *("STACK_SECRET_SERVER_KEY", "STACK_SECRET_SERVER_KEY_FILE"),
        *("HEXCLAVE_SECRET_SERVER_KEY", "HEXCLAVE_SECRET_SERVER_KEY_FILE"),
    ),
    "publishable_client_key": ("STACK_PUBLISHABLE_CLIENT_KEY", "STACK_PUBLISHABLE_CLIENT_KEY_FILE"),
    "api_url": ("STACK_API_URL", "HEXCLAVE_API_URL", "NEXT_PUBLIC_STACK_API_URL", "NEXT_PUBLIC_HEXCLAVE_API_URL"),
}
"""The first variables of the settings that the provider has names for."""


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("STACK", "HEXCLAVE_", "NEXT_PUBLIC_")):
            monkeypatch.delenv(name)
    environment._warn.cache_clear()


def read(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str], *names: str) -> dict[str, Any]:
    """Return values and sources of the settings `names`, or of all, where `variables` are set."""
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    found = from_environment({name: SETTINGS[name] for name in names or SETTINGS})
    return {name: tuple(each) for name, each in found.items()}


def test_every_setting_but_the_rules_has_a_variable() -> None:
    """A new setting needs no line anywhere: its variable follows from its name, and how it is read from its type."""
    for each in setting_fields():
        names = SETTINGS[each.name].variables
        if each.name in BY_PROVIDER:
            assert names[: len(BY_PROVIDER[each.name])] == BY_PROVIDER[each.name]
        elif each.name == "rules":
            assert names == ()
        else:
            name = f"STACKAUTH_{each.name.upper()}"
            assert names == ((name, f"{name}_FILE") if each.metadata["secret"] else (name,))


def test_no_secret_of_the_server_is_read_from_a_public_variable() -> None:
    """Next.js puts such variables into the pages of the site: reading one would hide the leak."""
    public = {name for each in SETTINGS.values() for name in each.variables if name.startswith("NEXT_PUBLIC_")}
    assert not [name for name in public if "SECRET" in name or name.endswith("_FILE")]


@pytest.mark.parametrize(
    ("variables", "setting", "found"),
    [
        ({}, "project_id", None),
        ({"STACK_PROJECT_ID": ""}, "project_id", None),
        ({"NEXT_PUBLIC_STACK_PROJECT_ID": "c", "HEXCLAVE_PROJECT_ID": "b", "STACK_PROJECT_ID": "a"}, "project_id", "a"),
        ({"NEXT_PUBLIC_STACK_PROJECT_ID": "c", "HEXCLAVE_PROJECT_ID": "b"}, "project_id", "b"),
        ({"NEXT_PUBLIC_STACK_PROJECT_ID": "c", "NEXT_PUBLIC_HEXCLAVE_PROJECT_ID": "d"}, "project_id", "c"),
        ({"STACK_PROJECT_ID": "", "HEXCLAVE_PROJECT_ID": "b"}, "project_id", "b"),
        ({"HEXCLAVE_SECRET_SERVER_KEY": "s"}, "secret_server_key", "s"),
        ({"STACKAUTH_MODE": "rest"}, "mode", "rest"),
        ({"STACKAUTH_LEEWAY": "2.5"}, "leeway", 2.5),
        ({"STACKAUTH_TOKEN_CACHE_SIZE": "10_000"}, "token_cache_size", 10_000),
        ({"STACKAUTH_ALLOW_HTTP": "true"}, "allow_http", True),
        ({"STACKAUTH_PREFETCH_KEYS": "off"}, "prefetch_keys", False),
        ({"STACKAUTH_CORS_ORIGINS": "https://a.example, https://b.example"}, "cors_origins", ["https://a.example", "https://b.example"]),
        ({"STACKAUTH_ISSUER_URL": "https://a.example"}, "issuer_url", ["https://a.example"]),
        ({"STACKAUTH_STATE_KEY": "none"}, "state_key", None),
        ({"STACKAUTH_ERROR_BODY": "problem"}, "error_body", "problem"),
        ({"STACKAUTH_ERROR_BODY": "math:hypot"}, "error_body", __import__("math").hypot),
        ({"STACKAUTH_OBSERVERS": "math:sqrt"}, "observers", [__import__("math").sqrt]),
    ],
    ids=str,
)  # fmt: skip
def test_first_variable_that_is_set_wins(
    monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str], setting: str, found: Any
) -> None:
    values = read(monkeypatch, variables, setting)
    if found is None and setting not in values:
        assert values == {}
    else:
        value, source = values[setting]
        assert (value, source in variables) == (found, True)


# -- secrets in files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["STACK_SECRET_SERVER_KEY_FILE", "HEXCLAVE_SECRET_SERVER_KEY_FILE"])
def test_secret_is_read_from_a_file_without_white_space(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\xef\xbb\xbf ssk_canary\r\n")
    assert read(monkeypatch, {name: str(file)}) == {"secret_server_key": ("ssk_canary", name)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("", "a file that is empty"),
        (" \n", "a file that is empty"),
        ("x" * 8193, "which is larger than 8192 bytes"),
    ],
    ids=["missing", "empty", "blank", "large"],
)
def test_wrong_file_of_a_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(ConfigError, match=rf"secret_server_key \(STACK_SECRET_SERVER_KEY_FILE\) names .*{message}"):
        read(monkeypatch, {"STACK_SECRET_SERVER_KEY_FILE": str(tmp_path / "key")})


def test_secret_by_value_and_by_file_is_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"STACK_SECRET_SERVER_KEY": "ssk_a", "STACK_SECRET_SERVER_KEY_FILE": "/x"}
    with pytest.raises(ConfigError, match="and STACK_SECRET_SERVER_KEY_FILE are both set; unset one"):
        read(monkeypatch, variables)


# -- variables that are no settings -------------------------------------------------------------------


def warnings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variables: Mapping[str, str], *given: str
) -> list[str]:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    with caplog.at_level(logging.WARNING, "stackauth_middleware"):
        reject_unknown(SETTINGS, given)
        reject_unknown(SETTINGS, given)
    return caplog.messages


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("STACKAUTH_MODUS", "is no variable of a setting; did you mean STACKAUTH_MODE?"),
        ("stackauth_mode", "is no variable of a setting; did you mean STACKAUTH_MODE?"),
        ("STACKAUTH_PROJECT_ID", "did you mean STACK_PROJECT_ID?"),
        ("STACKAUTH_SECRET_SERVER_KEY", "did you mean STACK_SECRET_SERVER_KEY?"),
        ("STACKAUTH_QQQQQQQQQQQQQQQQQ", "is no variable of a setting"),
        ("STACKAUTH_RULES", "rules cannot be set by a variable; write it into the file that STACKAUTH_CONFIG names"),
    ],
)
def test_unknown_variable_of_ours_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    if os.name == "nt":
        name = name.upper()  # as Windows has every variable
    monkeypatch.setenv(name, "")
    with pytest.raises(ConfigError, match=f"^{name} is set, but .*{re.escape(message)}$"):
        reject_unknown(SETTINGS, ())


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("STACK_AUTH_PROJECT_ID", "STACK_PROJECT_ID"),
        ("STACK_PROJECT", "STACK_PROJECT_ID"),
        ("HEXCLAVE_SECRET_SERVERKEY", "HEXCLAVE_SECRET_SERVER_KEY"),
        ("STACK_SECRET_KEY_FILE", "STACK_SECRET_SERVER_KEY_FILE"),
        ("stack_project_id", "STACK_PROJECT_ID"),
    ],
)
def test_variable_that_resembles_one_of_the_provider_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, similar: str
) -> None:
    expected = [f"the variable {name} is set, but is not read; did you mean {similar}?"]
    if os.name != "nt" or name.isupper():
        assert warnings(monkeypatch, caplog, {name: "x"}) == expected


def test_no_warning_where_the_setting_is_given(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings(monkeypatch, caplog, {"STACK_AUTH_PROJECT_ID": "x"}, "project_id") == []


@pytest.mark.parametrize(
    "name",
    [
        # set by Kubernetes and Docker for a service named stackauth or stackauth-api
        *("STACKAUTH_SERVICE_HOST", "STACKAUTH_SERVICE_PORT", "STACKAUTH_SERVICE_PORT_HTTP", "STACKAUTH_PORT"),
        *("STACKAUTH_PORT_8102_TCP", "STACKAUTH_PORT_8102_TCP_ADDR", "STACKAUTH_API_PORT_8102_TCP_PROTO"),
        # the provider's own: SDK, dashboard, self-hosted server, front ends
        *("STACK_API_URL_SERVER", "HEXCLAVE_API_URL_BROWSER", "NEXT_PUBLIC_STACK_API_URL_SERVER"),
        *("STACK_SUPER_SECRET_ADMIN_KEY", "STACK_SERVER_SECRET", "STACK_EXTRA_REQUEST_HEADERS", "STACK_DASHBOARD_URL"),
        *("NEXT_PUBLIC_STACK_URL", "NEXT_PUBLIC_STACK_DASHBOARD_URL", "NEXT_PUBLIC_HEXCLAVE_PORT_PREFIX"),
        *("STACK_DATABASE_CONNECTION_STRING", "STACK_SVIX_API_KEY", "STACK_SEED_INTERNAL_PROJECT_SECRET_SERVER_KEY"),
        *("VITE_STACK_PROJECT_ID", "STACK_ACCESS_TOKEN_EXPIRATION_TIME"),
        # of other tools
        *("STACK_NAME", "STACK_ID", "STACK_SIZE", "STACK_ROOT", "STACKS", APP, CONFIG),
    ],
)
def test_variable_of_others_is_neither(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    assert warnings(monkeypatch, caplog, {name: "x"}) == []


def test_variables_of_windows_are_in_upper_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they were set: there, `os.environ` has their names in upper case only, and finds them in any."""

    class Environ(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            return super().__getitem__(name.upper())

    monkeypatch.setattr(os, "environ", Environ({"STACKAUTH_MODE": "rest", "STACK_PROJECT_ID": "p"}))
    assert {name: each.value for name, each in from_environment(SETTINGS).items()} == {
        "project_id": "p",
        "mode": "rest",
    }
    reject_unknown(SETTINGS, ())


def test_app_and_file_are_named_by_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (app_spec(), config_path()) == ("", "")
    monkeypatch.setenv("STACKAUTH_APP", "a:b")
    monkeypatch.setenv("STACKAUTH_CONFIG", "auth.toml")
    assert (app_spec(), config_path()) == ("a:b", "auth.toml")
    assert (APP + CONFIG).startswith(OWN)
