"""Precedence: keywords, environment, file, default."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from stackauth_middleware import ConfigError, StackAuthConfig
from stackauth_middleware._core.config import typed_settings
from stackauth_middleware._core.settings import Given
from stackauth_middleware._core.sources import with_defaults

from .helpers import PROJECT


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("STACK", "HEXCLAVE_", "NEXT_PUBLIC_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("sources", list(itertools.product([True, False], repeat=3)), ids=str)
@pytest.mark.parametrize(("name", "values"), [("leeway", (1, 2, 3)), ("allow_restricted", (False, True, True))])
def test_keyword_wins_over_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sources: tuple[bool, ...], name: str, values: tuple[Any, ...]
) -> None:
    """Also where the keyword is the default of the setting."""
    keyword, variable, file = values
    by_keyword, by_variable, by_file = sources
    lines = [f'project_id = "{PROJECT}"', f"{name} = {str(file).lower()}"][: 1 + by_file]
    (tmp_path / "auth.toml").write_text("\n".join(lines))
    monkeypatch.setenv("STACKAUTH_CONFIG", str(tmp_path / "auth.toml"))
    if by_variable:
        monkeypatch.setenv(f"STACKAUTH_{name.upper()}", str(variable))
    made = StackAuthConfig(**({name: keyword} if by_keyword else {}))
    default = typed_settings()[name].field.default
    expected = keyword if by_keyword else variable if by_variable else file if by_file else default
    assert (made.project_id, getattr(made, name)) == (PROJECT, expected)


@pytest.mark.parametrize("empty", ["", None])
def test_empty_keyword_of_a_setting_with_a_variable_of_the_provider_is_not_given(
    monkeypatch: pytest.MonkeyPatch, empty: Any
) -> None:
    monkeypatch.setenv("STACK_PROJECT_ID", PROJECT)
    assert with_defaults(typed_settings(), {"project_id": empty}) == {"project_id": Given(PROJECT, "STACK_PROJECT_ID")}
    monkeypatch.setenv("STACKAUTH_STATE_KEY", "other")
    assert with_defaults(typed_settings(), {"state_key": empty})["state_key"] == empty


def test_wrong_variable_of_a_setting_that_is_given_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKAUTH_LEEWAY", "soon")
    monkeypatch.setenv("STACK_SECRET_SERVER_KEY_FILE", "/no/such/file")
    given = {"leeway": 1, "secret_server_key": "ssk_x", "unknown": 2}
    assert with_defaults(typed_settings(), given) == given


@pytest.mark.parametrize(
    ("path", "message"),
    [("", "STACKAUTH_CONFIG names 'x.toml'; there is no such file"), ("y.toml", "from_file names 'y.toml'; there is")],
)
def test_message_has_what_names_the_file(monkeypatch: pytest.MonkeyPatch, path: str, message: str) -> None:
    monkeypatch.setenv("STACKAUTH_CONFIG", "x.toml")
    with pytest.raises(ConfigError, match=message):
        with_defaults(typed_settings(), {}, path)


def test_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKAUTH_MODUS", "rest")
    with pytest.raises(ConfigError, match="did you mean STACKAUTH_MODE"):
        StackAuthConfig(project_id=PROJECT)
