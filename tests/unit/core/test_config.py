"""The config: derived values, owned objects, and the settings as keywords."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import itertools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackauth_middleware._core.config import StackAuthConfig, config_of, newest_config, setting_fields
from stackauth_middleware._core.rules import Rule
from stackauth_middleware._core.users import User
from stackauth_middleware.errors import ConfigError, ErrorCode

from .helpers import ANONYMOUS, API, AUDIENCES, ISSUERS, NORMAL, OTHER_PROJECT, PATHS, PROJECT, RESTRICTED


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("STACK_", "HEXCLAVE_", "NEXT_PUBLIC_")):
            monkeypatch.delenv(name)


def config(**settings: Any) -> StackAuthConfig:
    return StackAuthConfig(**{"project_id": PROJECT, **settings})


# -- derived values -----------------------------------------------------------------------------------


def test_hosted_service_is_the_default() -> None:
    made = config()
    assert made.audiences == AUDIENCES
    assert made.issuers == ISSUERS
    assert made.key_set_url == f"{API}/api/v1/projects/{PROJECT}/.well-known/jwks.json"
    assert made.users_me_url == f"{API}/api/v1/users/me"


def test_audiences_and_issuers_of_each_user_type() -> None:
    """docs/stack-auth.md section 3."""
    made = config(api_url="https://stack.example.com:8102/base")
    assert made.audiences == {PROJECT: NORMAL, f"{PROJECT}:restricted": RESTRICTED, f"{PROJECT}:anon": ANONYMOUS}
    host = "https://stack.example.com:8102/api/v1"
    assert made.issuers == {
        f"{host}/projects/{PROJECT}": NORMAL,
        f"{host}/projects-restricted-users/{PROJECT}": RESTRICTED,
        f"{host}/projects-anonymous-users/{PROJECT}": ANONYMOUS,
    }
    assert made.key_set_url == f"https://stack.example.com:8102/base/api/v1/projects/{PROJECT}/.well-known/jwks.json"


def test_issuer_url_replaces_the_issuers_of_the_api_url() -> None:
    """The API may have an internal name that is in no token."""
    bases = ["https://auth.example.com", "https://old.example.com:443/x"]
    made = config(api_url="http://stack:8102", allow_http=True, issuer_url=bases)
    assert set(made.issuers) == {
        f"https://{host}.example.com/api/v1/{path}/{PROJECT}" for host in ("auth", "old") for path in PATHS.values()
    }
    assert made.key_set_url.startswith("http://stack:8102/api/v1/")


def test_policy_follows_the_settings() -> None:
    made = config(rules=[Rule("/free", "public")], default_access="optional", allow_restricted=True)
    assert made.policy("GET", "/free", "").access == "public"
    held = made.policy("GET", "/", "")
    assert (held.access, held.allow_restricted, held.allow_anonymous, held.profile) == ("optional", True, False, False)
    assert config(allow_anonymous=True).policy("GET", "/", "").allow_anonymous


def test_settings_are_held_in_their_final_form() -> None:
    made = config(token_sources=["bearer"], cors_origins=["*"], api_url=f"{API}/")
    assert (made.token_sources, made.cors_origins, made.api_url) == (frozenset({"bearer"}), ("*",), API)


@pytest.mark.parametrize(
    ("variable", "setting", "value"),
    [
        ("STACK_PROJECT_ID", "project_id", OTHER_PROJECT),
        ("STACK_SECRET_SERVER_KEY", "secret_server_key", "ssk_env"),
        ("NEXT_PUBLIC_STACK_PUBLISHABLE_CLIENT_KEY", "publishable_client_key", "pck_env"),
        ("HEXCLAVE_API_URL", "api_url", "https://env.example.com"),
    ],
)
def test_environment_is_read_for_settings_that_are_not_given(
    monkeypatch: pytest.MonkeyPatch, variable: str, setting: str, value: str
) -> None:
    given = {"project_id": PROJECT, "secret_server_key": "ssk_x", "publishable_client_key": "pck_x", "api_url": API}
    monkeypatch.setenv(variable, value)
    assert getattr(StackAuthConfig(**given), setting) == given[setting]
    del given[setting]
    assert getattr(StackAuthConfig(**given), setting) == value


def test_config_from_a_file_has_its_settings_and_keywords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.toml").write_text("realm = 'other'\nnonsense = 1", "utf-8")
    monkeypatch.setenv("STACKAUTH_CONFIG", str(tmp_path / "other.toml"))
    path = tmp_path / "auth.toml"
    path.write_text(f"project_id = '{PROJECT}'\nleeway = 7\ntimeout = 9\n[[rules]]\npath = '/a'", "utf-8")
    made = StackAuthConfig.from_file(path, leeway=8)
    assert (made.leeway, made.timeout, made.rules, made.realm) == (8, 9, (Rule("/a"),), "stack-auth")
    path.write_text("project_id = 'x'", "utf-8")
    with pytest.raises(ConfigError, match=r"project_id \(.*auth\.toml, line 1\) is 'x'"):
        StackAuthConfig.from_file(str(path))


def test_signature_of_the_config_has_every_setting() -> None:
    names = list(inspect.signature(StackAuthConfig).parameters)
    assert names == [each.name for each in setting_fields()]


def test_wrong_value_in_the_environment_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_PROJECT_ID", "your-project-id")
    with pytest.raises(ConfigError, match=r"project_id \(STACK_PROJECT_ID\) is 'your-project-id'"):
        StackAuthConfig()


@pytest.mark.parametrize("settings", [{"mode": "rest"}, {"rules": [Rule("/a", profile=True)]}], ids=["mode", "rule"])
def test_loading_profiles_needs_a_key(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="secret_server_key is not set, nor is publishable_client_key"):
        config(**settings)
    for key in ({"secret_server_key": "ssk_a"}, {"publishable_client_key": "pck_a"}):
        made = config(**settings, **key)
        assert (made.mode, tuple(made.rules)) == (settings.get("mode", "jwt"), tuple(settings.get("rules", ())))


# -- the object ---------------------------------------------------------------------------------------


def test_settings_are_keywords_and_read_only() -> None:
    with pytest.raises(TypeError):
        StackAuthConfig(PROJECT)
    with pytest.raises(TypeError):
        StackAuthConfig(project=PROJECT)
    with pytest.raises(TypeError):
        config(audiences={})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().project_id = OTHER_PROJECT


def test_repr_shows_settings_that_differ_from_the_defaults_and_hides_secrets() -> None:
    made = config(secret_server_key="ssk_canary", publishable_client_key="pck_canary", leeway=7)
    shown = repr(made)
    assert "canary" not in shown
    for part in (f"project_id='{PROJECT}'", "secret_server_key=***", "publishable_client_key=***", "leeway=7"):
        assert part in shown
    assert "realm" not in shown
    assert "issuers" not in shown


def test_repr_does_not_show_an_unset_secret_as_set() -> None:
    assert "secret_server_key" not in repr(config())


def test_copy_is_the_same_object() -> None:
    """Litestar and others copy the arguments of middlewares, and copies have to share caches and pools."""
    made = config()
    assert copy.copy(made) is made
    assert copy.deepcopy([made])[0] is made


def is_staff(user: User) -> bool:
    return user.email_verified


def test_config_owns_one_object_for_each_function() -> None:
    def make(owner: StackAuthConfig) -> list[StackAuthConfig]:
        return [owner]

    made = config()
    assert made.get_or_create(make) is made.get_or_create(make)
    assert made.get_or_create(make)[0] is made


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_config_has_the_same_settings(protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [Rule("/docs/**", "public"), Rule("/admin/{id}", check=is_staff, methods=["GET"])]
    made = config(secret_server_key="ssk_canary", rules=rules, issuer_url="https://auth.example.com", state_key=None)
    pickled = pickle.dumps((made, made), protocol)
    monkeypatch.setenv("STACK_PUBLISHABLE_CLIENT_KEY", "pck_of_another_process")
    again, same = pickle.loads(pickled)
    assert again is same
    for each in setting_fields():
        assert getattr(again, each.name) == getattr(made, each.name), each.name
    assert again.issuers == made.issuers
    assert again.policy("GET", "/ADMIN/1", "") == made.policy("GET", "/ADMIN/1", "")
    assert "canary" not in repr(again)
    assert newest_config() is again


def test_configs_of_the_same_settings_are_not_equal() -> None:
    """They own different caches, and both can be keys of a mapping."""
    one, other = config(), config()
    assert one != other
    assert len({one, other}) == 2


# -- settings as keywords -----------------------------------------------------------------------------


def test_given_config_is_returned() -> None:
    made = config()
    assert config_of(made, {}) is made


def test_given_settings_make_a_config() -> None:
    assert config_of(None, {"project_id": PROJECT, "leeway": 1}).leeway == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: config_of(config(), {"leeway": 1}), "config and 'leeway' are both given"),
        (lambda: config_of(None, {"projectid": PROJECT}), "unknown setting 'projectid'"),
        (lambda: config_of(None, {"audiences": {}}), "unknown setting 'audiences'"),
        (lambda: config_of(StackAuthConfig, {}), "config is type; it must be a StackAuthConfig"),
        (lambda: config_of({"project_id": PROJECT}, {}), "config is dict"),
        (lambda: config_of(None, {}), "project_id is not set"),
    ],
)
def test_wrong_arguments_are_a_config_error(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in str(caught.value)


def test_every_setting_has_a_docstring_below_it() -> None:
    """The settings table of the docs is made of them, and editors show them."""
    (cls,) = ast.parse(inspect.getsource(StackAuthConfig)).body
    assert isinstance(cls, ast.ClassDef)
    documented = [
        field.target.id
        for field, below in itertools.pairwise(cls.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    ]
    assert [each.name for each in setting_fields() if each.name not in documented] == []


def test_error_body_may_be_of_each_documented_kind() -> None:
    bodies: list[Any] = [None, "problem", {ErrorCode.FORBIDDEN: {}}, lambda error, info: {}]
    for body in bodies:
        assert type(config(error_body=body).error_body) is type(body)
