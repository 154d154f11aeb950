"""Right and wrong values of each setting, and the messages for wrong ones."""

from __future__ import annotations

import functools
import os
from dataclasses import fields
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core import validation
from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.rules import Rule
from stackauth_middleware.errors import ConfigError, ErrorCode

from .helpers import API, PROJECT, as_id, bounded

DEFAULTS = {each.name: each.default for each in fields(StackAuthConfig) if each.init} | {"project_id": PROJECT}


def final(**given_settings: Any) -> dict[str, Any]:
    """Return the settings as the config holds them."""
    config = StackAuthConfig(**{"project_id": PROJECT, **given_settings})
    return {name: getattr(config, name) for name in DEFAULTS}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("STACK_", "HEXCLAVE_", "NEXT_PUBLIC_")):
            monkeypatch.delenv(name)


# -- right --------------------------------------------------------------------------------------------


def problem(_error: ErrorCode, _info: Any) -> dict[str, str]:
    return {}


def observer(_event: Any) -> None:
    pass


RULE = Rule("/a", "public")

RIGHT: list[tuple[str, Any, Any]] = [
    ("project_id", PROJECT, PROJECT),
    ("project_id", "internal", "internal"),
    ("secret_server_key", "", ""),
    ("secret_server_key", None, ""),
    ("secret_server_key", "ssk_abc", "ssk_abc"),
    ("secret_server_key", "key-of-another-form", "key-of-another-form"),
    ("publishable_client_key", "pck_abc", "pck_abc"),
    ("mode", "jwt", "jwt"),
    ("api_url", "", API),
    ("api_url", "https://stack.example.com/", "https://stack.example.com"),
    ("api_url", "https://STACK.example.com:8102/Base//", "https://stack.example.com:8102/Base"),
    ("api_url", "HTTPS://stack.example.com", "https://stack.example.com"),
    ("api_url", "http://localhost:8102", "http://localhost:8102"),
    ("api_url", "http://127.0.0.1:8102", "http://127.0.0.1:8102"),
    ("api_url", "http://127.255.0.1", "http://127.255.0.1"),
    ("api_url", "http://[::1]:8102", "http://[::1]:8102"),
    ("api_url", "https://stack.example.com/apis", "https://stack.example.com/apis"),
    ("issuer_url", (), ()),
    ("issuer_url", "", ()),
    ("issuer_url", None, ()),
    ("issuer_url", "https://Auth.Example.com:443/stack", ("https://auth.example.com",)),
    ("issuer_url", "http://auth.example.com:80/", ("http://auth.example.com",)),
    ("issuer_url", "http://auth.example.com:443", ("http://auth.example.com:443",)),
    ("issuer_url", ["https://a.example", "http://b:8102"], ("https://a.example", "http://b:8102")),
    ("issuer_url", "https://[2001:DB8::1]:8443", ("https://[2001:db8::1]:8443",)),
    ("leeway", 0, 0),
    ("leeway", 300, 300),
    ("leeway", 1.5, 1.5),
    ("timeout", 0.05, 0.05),
    ("timeout", 60, 60),
    ("profile_ttl", 0, 0),
    ("profile_ttl", 3600, 3600),
    *((name, value, value) for name in ("api_key_ttl", "permission_ttl") for value in (0, 3600)),
    ("token_cache_size", 0, 0),
    ("profile_cache_size", 10**9, 10**9),
    ("profile_cache_bytes", 0, 0),
    ("token_sources", ["websocket"], frozenset({"websocket"})),
    ("token_sources", frozenset({"bearer"}), frozenset({"bearer"})),
    ("api_keys", [], frozenset()),
    ("api_key_sources", ["x-api-key"], frozenset({"x-api-key"})),
    ("rules", [RULE], (RULE,)),
    ("rules", (), ()),
    ("default_access", "public", "public"),
    ("error_body", None, None),
    ("error_body", "problem", "problem"),
    (
        "error_body",
        {401: {"detail": "x"}, ErrorCode.FORBIDDEN: None},
        {401: {"detail": "x"}, ErrorCode.FORBIDDEN: None},
    ),
    ("error_body", {}, {}),
    ("error_body", problem, problem),
    ("error_body", dict, dict),
    ("error_body", min, min),
    ("cors_origins", (), ()),
    ("cors_origins", ["*"], ("*",)),
    ("cors_origins", {"https://app.example.com"}, ("https://app.example.com",)),
    ("cors_credentials", True, True),
    ("pass_preflights", True, True),
    ("private_responses", True, True),
    ("state_key", None, None),
    ("state_key", "account", "account"),
    ("realm", "My app, v2", "My app, v2"),
    ("root_path", "", ""),
    ("root_path", "scope", "scope"),
    ("root_path", "/api/v2", "/api/v2"),
    ("websocket_refusal", "accept", "accept"),
    ("observers", [observer, print], (observer, print)),
    ("observers", (), ()),
    *((name, True, True) for name in ("allow_http", "allow_restricted", "allow_anonymous", "trust_env_proxies")),
    *((name, False, False) for name in ("request_user", "prefetch_keys")),
]


@pytest.mark.parametrize(("name", "value", "expected"), RIGHT, ids=as_id)
def test_right_value_is_held_in_its_final_form(name: str, value: Any, expected: Any) -> None:
    assert final(**{name: value})[name] == expected


def test_defaults() -> None:
    assert final() == {
        "project_id": PROJECT,
        "secret_server_key": "",
        "publishable_client_key": "",
        "mode": "jwt",
        "api_url": API,
        "issuer_url": (),
        "allow_http": False,
        "allow_restricted": False,
        "allow_anonymous": False,
        "leeway": 5,
        "timeout": 5,
        "profile_ttl": 30,
        "api_key_ttl": 30,
        "permission_ttl": 30,
        "token_cache_size": 10_000,
        "profile_cache_size": 10_000,
        "profile_cache_bytes": 67_108_864,
        "token_sources": frozenset({"x-stack-access-token", "bearer", "x-stack-auth"}),
        "api_keys": frozenset(),
        "api_key_sources": frozenset({"x-stack-api-key", "x-api-key", "bearer"}),
        "trust_env_proxies": False,
        "rules": (),
        "default_access": "required",
        "error_body": None,
        "explain": False,
        "cors_origins": (),
        "cors_credentials": False,
        "pass_preflights": False,
        "private_responses": False,
        "state_key": "user",
        "request_user": False,
        "realm": "stack-auth",
        "prefetch_keys": True,
        "root_path": "",
        "websocket_refusal": "close",
        "observers": (),
    }


def test_plain_http_to_another_host_needs_allow_http() -> None:
    assert final(api_url="http://stack:8102", allow_http=True)["api_url"] == "http://stack:8102"
    with pytest.raises(ConfigError, match="must be https"):
        final(api_url="http://stack:8102")


@pytest.mark.parametrize("api_url", ["", "https://api.stack-auth.com", "https://auth.example.com"])
def test_explain_beside_an_api_that_is_not_local_is_a_config_error(api_url: str) -> None:
    assert final(explain=True, api_url="http://localhost:8102")["explain"] is True
    with pytest.raises(ConfigError, match="explain is True"):
        final(explain=True, api_url=api_url)


def test_cors_credentials_with_any_origin_are_a_config_error() -> None:
    """The Fetch standard ignores ``Access-Control-Allow-Origin: *`` where credentials are sent."""
    assert final(cors_credentials=True, cors_origins=["https://*.example.com"])["cors_credentials"] is True
    with pytest.raises(ConfigError, match=r"cors_credentials is True and cors_origins has '\*'"):
        final(cors_credentials=True, cors_origins=["https://app.example.com", "*"])


@pytest.mark.parametrize(
    "settings",
    [{"api_keys": ["team"]}, {"rules": [Rule("/a", api_keys=["user"])]}, {"rules": [Rule("/a", permission="read")]}],
    ids=as_id,
)
def test_api_keys_and_permissions_need_the_secret_key(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="secret_server_key is not set; Stack Auth checks API keys and permissions"):
        final(**settings, publishable_client_key="pck_x")
    assert final(**settings, secret_server_key="ssk_x")["secret_server_key"] == "ssk_x"


@pytest.mark.parametrize("settings", [{"mode": "rest"}, {"rules": [Rule("/a"), Rule("/b", profile=True)]}], ids=as_id)
def test_profiles_need_an_api_key(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="secret_server_key is not set, nor is publishable_client_key"):
        final(**settings)
    assert final(**settings, secret_server_key="ssk_x")["secret_server_key"] == "ssk_x"
    assert final(**settings, publishable_client_key="pck_x")["publishable_client_key"] == "pck_x"


def test_mutable_values_are_copied() -> None:
    """A list or mapping that the caller changes later does not change the config."""
    bodies: dict[Any, Any] = {401: {}}
    rules, origins = [RULE], ["*"]
    held = final(error_body=bodies, rules=rules, cors_origins=origins)
    bodies[403] = {}
    rules.clear()
    origins.clear()
    assert (held["error_body"], held["rules"], held["cors_origins"]) == ({401: {}}, (RULE,), ("*",))


def test_function_without_a_readable_signature_is_accepted() -> None:
    assert final(error_body=type)["error_body"] is type


# -- wrong --------------------------------------------------------------------------------------------


def no_arguments() -> dict[str, str]:
    return {}


async def coroutine(_one: Any, _other: Any) -> None: ...


WRONG: list[tuple[str, Any, str]] = [
    ("project_id", "", "is not set; pass it, or set STACK_PROJECT_ID"),
    ("project_id", None, "is not set"),
    ("project_id", PROJECT.upper(), "the project's UUID, in lower case"),
    ("project_id", f" {PROJECT}", "nothing around it"),
    ("project_id", f"{PROJECT}\n", "nothing around it"),
    ("project_id", f"{PROJECT}/", "nothing around it"),
    ("project_id", "your-project-id", "'your-project-id'"),
    ("project_id", f"{{{PROJECT}}}", "UUID"),
    ("project_id", 5, "is 5"),
    ("project_id", PROJECT.encode(), "is b'"),
    ("secret_server_key", "pck_abc", "a key of another kind (pck_…, hidden); it must start with 'ssk_'"),
    ("secret_server_key", "sak_abc", "a key of another kind (sak_…, hidden)"),
    ("publishable_client_key", "ssk_abc", "a key of another kind (ssk_…, hidden); it must start with 'pck_'"),
    ("secret_server_key", "<your-key>", "is a placeholder (hidden)"),
    ("secret_server_key", "changeme", "is a placeholder (hidden)"),
    ("secret_server_key", "undefined", "is a placeholder (hidden)"),
    ("publishable_client_key", "xxxx", "is a placeholder (hidden)"),
    ("secret_server_key", "ssk_a b", "is set (hidden) but is no key"),
    ("secret_server_key", "ssk_\u00e9", "is set (hidden) but is no key"),
    ("secret_server_key", "ssk_abc\r\nx: y", "is set (hidden) but is no key"),
    ("secret_server_key", b"ssk_abc", "is set (hidden) but is no key"),
    ("mode", "hybrid", "is 'hybrid'; it must be one of 'jwt', 'rest'"),
    ("mode", None, "is None"),
    ("mode", ["jwt"], "is ['jwt']"),
    ("api_url", "api.stack-auth.com", "must be a base URL such as"),
    ("api_url", "ftp://x", "must be a base URL"),
    ("api_url", "https://", "must be a base URL"),
    ("api_url", "https://x/?a=b", "without user, query or fragment"),
    ("api_url", "https://x?", "without user, query or fragment"),
    ("api_url", "https://x/#", "without user, query or fragment"),
    ("api_url", "https://user@x", "without user, query or fragment"),
    ("api_url", "https://x\\@y", "must be a base URL"),
    ("api_url", "https://x:0", "must be a base URL"),
    ("api_url", "https://x:99999", "must be a base URL"),
    ("api_url", "https://x:port", "must be a base URL"),
    ("api_url", "https://[::1", "must be a base URL"),
    ("api_url", " https://x", "must be a base URL"),
    ("api_url", "https://x\n", "must be a base URL"),
    ("api_url", "https://ex\u00e4mple.com", "must be a base URL"),
    ("api_url", 5, "is 5"),
    ("api_url", "https://x/api/v1", "leave out the path '/api/v1'"),
    ("api_url", "https://x/api/latest/", "leave out the path '/api/latest/'"),
    ("api_url", "https://x/base/api", "leave out the path '/base/api'"),
    ("api_url", "http://stack:8102", "pass allow_http=True"),
    ("api_url", "http://localhost.example.com", "must be https"),
    ("api_url", "http://api.localhost", "must be https"),
    ("api_url", "http://localhost.", "must be https"),
    ("api_url", "http://127.0.0.1.example.com", "must be https"),
    ("api_url", "http://10.0.0.1", "must be https"),
    ("api_url", "http://[::2]", "must be https"),
    ("issuer_url", "auth.example.com", "must be a base URL"),
    ("issuer_url", ["https://a", "b"], "is 'b'"),
    ("issuer_url", f"https://a/api/v1/projects/{PROJECT}/api/v1", "leave out the path"),
    ("issuer_url", [None], "is None"),
    ("issuer_url", 5, "is 5"),
    ("issuer_url", True, "is True"),
    ("leeway", -1, "from 0 to 300 seconds"),
    ("leeway", 301, "from 0 to 300 seconds"),
    ("leeway", float("nan"), "must be a number of seconds"),
    ("leeway", float("inf"), "must be a number of seconds"),
    ("leeway", True, "must be a number of seconds"),
    ("leeway", "5", "is '5'; it must be a number of seconds"),
    ("leeway", 10**400, "must be from 0 to 300 seconds"),
    ("timeout", 0, "from 0.05 to 60 seconds"),
    ("timeout", 61, "from 0.05 to 60 seconds"),
    ("timeout", None, "must be a number of seconds"),
    ("profile_ttl", 3601, "from 0 to 3600 seconds"),
    *((name, 3601, "from 0 to 3600 seconds") for name in ("api_key_ttl", "permission_ttl")),
    ("api_keys", "user", "with 'user', 'team' or both, or empty"),
    ("api_keys", ["users"], "with 'user', 'team' or both, or empty"),
    ("api_key_sources", [], "'x-stack-api-key', 'x-api-key', 'bearer'"),
    ("token_cache_size", -1, "a whole number, 0 or more"),
    ("token_cache_size", 1.0, "a whole number, 0 or more"),
    ("profile_cache_size", True, "a whole number, 0 or more"),
    ("profile_cache_bytes", -1, "a whole number, 0 or more"),
    ("token_sources", "bearer", "must name some of"),
    ("token_sources", [], "must name some of"),
    ("token_sources", ["cookie"], "'x-stack-access-token', 'bearer', 'x-stack-auth', 'websocket'"),
    ("token_sources", 5, "must name some of"),
    ("token_sources", [[]], "must name some of"),
    ("rules", None, "must be a list of Rule"),
    ("rules", RULE, "must be a list of Rule"),
    ("rules", ["/a"], "must be a list of Rule"),
    ("rules", "/a", "must be a list of Rule"),
    ("rules", iter([RULE]), "must be a list of Rule"),
    ("default_access", "private", "must be one of 'required', 'optional', 'public'"),
    ("error_body", "json", "must be a function"),
    ("error_body", 5, "must be a function"),
    ("error_body", {402: {}}, "has the key 402; keys are ErrorCode members or [400, 401, 403, 500, 503]"),
    ("error_body", {"401": {}}, "has the key '401'"),
    ("error_body", {True: {}}, "has the key True"),
    ("error_body", {401: {1, 2}}, "for 401 is {1, 2}, which is not JSON"),
    ("error_body", {401: float("nan")}, "which is not JSON"),
    ("error_body", {ErrorCode.FORBIDDEN: b""}, "which is not JSON"),
    ("error_body", lambda error: {}, "must take two arguments, (error, info)"),
    ("error_body", no_arguments, "must take two arguments"),
    ("error_body", lambda error, info, *, more: {}, "must take two arguments"),
    ("error_body", coroutine, "must be a plain function"),
    ("cors_origins", "https://app.example.com", "must be a list such as"),
    ("cors_origins", None, "must be a list such as"),
    ("cors_origins", ["https://app.example.com/"], "scheme, host and port only"),
    ("cors_credentials", None, "must be True or False"),
    ("explain", 1, "must be True or False"),
    ("pass_preflights", ["https://app.example.com"], "must be True or False"),
    ("private_responses", 1, "must be True or False"),
    ("state_key", "", "must be a name such as 'user', or None"),
    ("state_key", "a b", "must be a name such as 'user', or None"),
    ("state_key", 5, "must be a name"),
    ("realm", "", "printable ASCII"),
    ("realm", 'a"b', "without quotes"),
    ("realm", "a\\b", "without quotes and backslashes"),
    ("realm", "a\nb", "printable ASCII"),
    ("realm", "\u00e9", "printable ASCII"),
    ("realm", None, "printable ASCII"),
    ("root_path", None, "must be a path that does not end in '/'"),
    ("root_path", "/", "must be a path that does not end in '/'"),
    ("root_path", "api", "must be a path that does not end in '/'"),
    ("root_path", "/api/", "must be a path that does not end in '/'"),
    ("root_path", "/a//b", "must be a path that does not end in '/'"),
    ("root_path", 5, "is 5"),
    ("websocket_refusal", "deny", "must be one of 'close', 'accept'"),
    ("observers", ["print"], "is 'print'; it must be a function"),
    ("observers", [coroutine], "must be a plain function"),
    ("observers", print, "observers is <built-in function print>"),
    ("observers", None, "observers is None"),
    ("observers", 5, "observers is 5"),
    *(
        (name, value, f"is {value!r}; it must be True or False")
        for name in (
            "allow_http",
            "allow_restricted",
            "allow_anonymous",
            "trust_env_proxies",
            "request_user",
            "prefetch_keys",
        )
        for value in ("true", 1, None)
    ),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG, ids=as_id)
def test_wrong_value_is_a_config_error_that_names_the_setting(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        final(**{name: value})
    assert str(caught.value).startswith(name)
    assert message in str(caught.value)


SECRET = "secret-canary"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("secret_server_key", f"pck_{SECRET}"),
        ("secret_server_key", f"ssk_{SECRET} x"),
        ("secret_server_key", f"<{SECRET}>"),
        ("secret_server_key", SECRET.encode()),
        ("publishable_client_key", f"ssk_{SECRET}"),
        ("api_url", f"https://user:{SECRET}@stack.example.com"),
        ("issuer_url", f"https://{SECRET}@stack.example.com"),
    ],
)
def test_message_shows_no_secret(name: str, value: Any) -> None:
    """It is logged by the deployment that failed."""
    with pytest.raises(ConfigError) as caught:
        final(**{name: value})
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


KEY = f"ssk_{SECRET}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("issuer_url", [f"https://api.example.com:{KEY}"]),
        ("api_url", f"https://user:{KEY}@stack.example.com/x@y"),
        ("api_url", f"https://stack.example.com/{KEY}/api/v1"),
        ("error_body", {KEY: 1}),
        ("error_body", {401: {KEY}}),
        ("realm", f'"{KEY}'),
        ("websocket_refusal", f"my_{KEY}"),
        *((name, KEY) for name in ("project_id", "mode", "cors_origins", "rules", "root_path", "timeout")),
        *((name, KEY) for name in ("token_cache_size", "allow_http", "default_access")),
        *((name, [KEY]) for name in ("cors_origins", "token_sources", "observers")),
    ],
    ids=as_id,
)
def test_message_does_not_repeat_a_key_given_as_another_setting(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        final(**{name: value})
    assert SECRET not in str(caught.value) + repr(caught.value)


JUNK: list[Any] = [
    None, True, False, 0, 5, -1, 1.5, float("nan"), float("inf"), 10**400, "", " ", "x", "\u00e9", "\n", b"x", [],
    [[]], [None],
    {}, {"a": 1}, {5: object()}, set(), object(), object, print, coroutine, iter([]), functools.partial(print),
    range(3), "https://x",
]  # fmt: skip


@pytest.mark.parametrize("name", DEFAULTS)
def test_any_wrong_value_is_a_config_error_that_names_the_setting(name: str) -> None:
    messages = []
    for value in JUNK:
        try:
            final(**{name: value})
        except ConfigError as error:
            messages.append(str(error))
    assert [each for each in messages if not each.startswith(name)] == []
    assert messages


@bounded
@given(
    st.sampled_from(["api_url", "issuer_url"]),
    st.text(max_size=20)
    | st.text(max_size=20).map("https://".__add__)
    | st.from_regex(r"https?://[a-zA-Z0-9.\[\]:@%/-]{0,20}", fullmatch=True),
)
def test_any_text_is_a_base_url_or_a_config_error(name: str, text: str) -> None:
    try:
        held = final(**{name: text}, allow_http=True)[name]
    except ConfigError:
        return
    for url in [held] if isinstance(held, str) else held:
        assert url.startswith(("https://", "http://"))
        assert not url.endswith("/")
        assert not set(url) & set(" ?#\\\n\t")
        assert "@" not in urlsplit(url).netloc


# -- issuers ------------------------------------------------------------------------------------------

PAIR = (API, "https://api.hexclave.com")


@pytest.mark.parametrize(
    ("api_url", "bases"),
    [
        (API, PAIR),
        ("https://api.hexclave.com", PAIR),
        *((f"https://{host}.stack-auth.com", PAIR) for host in ("api1", "api2", "api3", "r")),
        *((f"https://{host}.hexclave.com", PAIR) for host in ("api1", "r")),
        ("https://api.dev.stack-auth.com", ("https://api.dev.stack-auth.com", "https://api.dev.hexclave.com")),
        (
            "https://api.staging.hexclave.com",
            ("https://api.staging.stack-auth.com", "https://api.staging.hexclave.com"),
        ),
        ("https://api4.stack-auth.com", ("https://api4.stack-auth.com",)),
        ("https://xapi.stack-auth.com", ("https://xapi.stack-auth.com",)),
        ("https://api.stack-auth.com.evil.example", ("https://api.stack-auth.com.evil.example",)),
        ("https://evil-api.stack-auth.com", ("https://evil-api.stack-auth.com",)),
        ("https://apixstack-auth.com", ("https://apixstack-auth.com",)),
        ("https://r.dev.stack-auth.com", ("https://r.dev.stack-auth.com",)),
        ("http://localhost:8102/base", ("http://localhost:8102",)),
        ("https://auth.example.com:443", ("https://auth.example.com",)),
    ],
)
def test_issuer_bases_of_an_api_url(api_url: str, bases: tuple[str, ...]) -> None:
    """Both brands' canonical hosts for the hosted service; otherwise the host itself, without the path."""
    assert validation.issuer_bases(api_url) == bases


def test_every_setting_has_a_right_and_a_wrong_value() -> None:
    """A setting that is added has to be added to the tables above."""
    flags = {"request_user", "prefetch_keys", "explain"}
    assert {name for name, *_ in RIGHT} | flags == set(DEFAULTS)
    assert {name for name, *_ in WRONG} == set(DEFAULTS)
