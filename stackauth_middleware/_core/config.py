"""Settings: read from the arguments and the environment, checked once, where they are written.

The addresses, issuers and audiences of a project (contract.md sections 1 and 2) are worked out here,
so that nothing behind ever builds one from what a request says.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import count
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar
from weakref import WeakValueDictionary

from ..errors import ConfigError, ErrorCode, Event, RefusalInfo
from . import validation
from .credentials import TokenSource
from .environment import from_environment
from .rules import Access, Matcher, Policy, Rule
from .users import UserType

T = TypeVar("T")

ErrorBody: TypeAlias = (
    Literal["problem"] | Mapping[ErrorCode | int, Any] | Callable[[ErrorCode, RefusalInfo], Any] | None
)
Observer: TypeAlias = Callable[[Event], object]

_ISSUER_PATHS = {
    UserType.NORMAL: "projects",
    UserType.RESTRICTED: "projects-restricted-users",
    UserType.ANONYMOUS: "projects-anonymous-users",
}
_AUDIENCE_SUFFIXES = {UserType.NORMAL: "", UserType.RESTRICTED: ":restricted", UserType.ANONYMOUS: ":anon"}


class Settings(TypedDict, total=False):
    """The settings as keyword arguments, for the doors and verifiers. `StackAuthConfig` explains them."""

    project_id: str
    secret_server_key: str
    publishable_client_key: str
    mode: Literal["jwt", "rest"]
    api_url: str
    issuer_url: str | Sequence[str]
    allow_http: bool
    allow_restricted: bool
    allow_anonymous: bool
    leeway: float
    timeout: float
    profile_ttl: float
    token_cache_size: int
    profile_cache_size: int
    profile_cache_bytes: int
    token_sources: Collection[TokenSource]
    trust_env_proxies: bool
    rules: Sequence[Rule]
    default_access: Access
    error_body: ErrorBody
    cors_origins: Sequence[str]
    cors_credentials: bool
    pass_preflights: bool
    private_responses: bool
    state_key: str | None
    request_user: bool
    realm: str
    prefetch_keys: bool
    root_path: str
    websocket_refusal: Literal["close", "accept"]
    observers: Sequence[Observer]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class StackAuthConfig:
    """Hold the settings, and own what lives: doors and verifiers of one config share its caches and pools.

    Every setting is a keyword; those marked (env) are read from the environment where they are not
    given: ``STACK_*``, then ``HEXCLAVE_*``, then, for what is public, their ``NEXT_PUBLIC_`` forms.

    Args:
        project_id: the project's UUID, or ``internal`` (env ``STACK_PROJECT_ID``).
        secret_server_key: for server access to users/me (env ``STACK_SECRET_SERVER_KEY``).
        publishable_client_key: for client access to users/me where there is no secret key
            (env ``STACK_PUBLISHABLE_CLIENT_KEY``).
        mode: ``"jwt"`` verifies tokens locally; ``"rest"`` asks users/me as well.
        api_url: base URL of the Stack Auth API (env ``STACK_API_URL``); else the hosted service.
        issuer_url: the base URL, or several, that the tokens' issuers are made of, where it is not
            `api_url`: a container's internal name never is.
        allow_http: plain http to a host that is neither ``localhost`` nor a loopback address.
        allow_restricted: let restricted users in.
        allow_anonymous: let anonymous users in; implies restricted ones, as in Stack Auth.
        leeway: seconds of clock difference granted to ``exp`` and ``nbf``, 0 to 300.
        timeout: seconds that all upstream work may take before the handler of a request runs, and again
            for each profile that the handler loads; DNS look-ups excepted.
        profile_ttl: seconds for which a profile is remembered.
        token_cache_size: how many verified tokens are remembered.
        profile_cache_size: how many profiles are remembered.
        profile_cache_bytes: bytes that the remembered profiles may take, by an estimate that is never too low
            for JSON of the usual shapes; 64 MiB by default. A single profile that is larger is kept all the same.
        token_sources: where a token is looked for.
        trust_env_proxies: use the proxies that the environment names.
        rules: access rules; the first that matches wins.
        default_access: for what no rule matches.
        error_body: None for ``{"error": …, "code": …}``; ``"problem"`` for RFC 9457; a mapping from
            `ErrorCode` or status to JSON; a function of the `ErrorCode` and a `RefusalInfo`.
        cors_origins: origins whose preflights are answered here, and whose pages may read a refusal:
            ``"https://app.example.com"``, ``"https://*.example.com"`` for exactly one label, or ``"*"``.
        cors_credentials: allow pages of `cors_origins` to send cookies and client certificates along.
        pass_preflights: let CORS preflights run the app's handlers, without a user; of the answer only status
            and CORS headers are relayed. For CORS tools inside the app.
        private_responses: mark the app's answers on routes that are not public as depending on the user, by
            ``Vary`` and ``Cache-Control: private``. Django's middleware always does.
        state_key: the user's name in ``scope["state"]``, or None for no such entry.
        request_user: also fill ``scope["user"]`` and ``scope["auth"]`` in Starlette's form.
        realm: of the ``WWW-Authenticate`` challenge.
        prefetch_keys: fetch the key set at the start of the lifespan.
        root_path: where the app is mounted, as in ``"/api"``; rules are relative to it. A request whose
            scope says otherwise has to meet every rule, since some servers take it from a header;
            ``"scope"`` trusts the scope. What ``FastAPI(root_path=...)`` says needs no setting.
        websocket_refusal: ``"close"`` refuses before accepting; ``"accept"`` accepts and closes with
            3000, 3003 or 1013, for browsers that must tell them apart.
        observers: functions called with an `Event` after each verdict.

    Raises:
        ConfigError: a setting is missing or wrong.
    """

    project_id: str = ""
    secret_server_key: str = ""
    publishable_client_key: str = ""
    mode: Literal["jwt", "rest"] = "jwt"
    api_url: str = ""
    issuer_url: str | Sequence[str] = ()
    allow_http: bool = False
    allow_restricted: bool = False
    allow_anonymous: bool = False
    leeway: float = 5
    timeout: float = 5
    profile_ttl: float = 30
    token_cache_size: int = 10_000
    profile_cache_size: int = 10_000
    profile_cache_bytes: int = 64 * 1024 * 1024
    token_sources: Collection[TokenSource] = ("x-stack-access-token", "bearer", "x-stack-auth")
    trust_env_proxies: bool = False
    rules: Sequence[Rule] = ()
    default_access: Access = "required"
    error_body: ErrorBody = None
    cors_origins: Sequence[str] = ()
    cors_credentials: bool = False
    pass_preflights: bool = False
    private_responses: bool = False
    state_key: str | None = "user"
    request_user: bool = False
    realm: str = "stack-auth"
    prefetch_keys: bool = True
    root_path: str = ""
    websocket_refusal: Literal["close", "accept"] = "close"
    observers: Sequence[Observer] = ()

    audiences: Mapping[str, UserType] = field(init=False)
    """The three audiences of the project, and the user type that each belongs to."""
    issuers: Mapping[str, UserType] = field(init=False)
    """The issuers that are accepted, and the user type that each belongs to."""
    key_set_url: str = field(init=False)
    """The address of the plain key set."""
    users_me_url: str = field(init=False)
    policy: Matcher = field(init=False)
    """Finds the policy that a method, path and root path fall under."""
    _owned: dict[object, object] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        settled: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        for name in ("project_id", "secret_server_key", "publishable_client_key", "api_url"):
            settled[name] = settled[name] or from_environment(name)
        settled = validation.settled(settled)
        if settled["mode"] == "rest" or any(rule.profile for rule in settled["rules"]):
            validation.some_key(settled["secret_server_key"], settled["publishable_client_key"])
        api_url, project_id = settled["api_url"], settled["project_id"]
        issuer_urls = settled["issuer_url"] or validation.issuer_bases(api_url)
        settled.update(
            token_sources=frozenset(settled["token_sources"]),
            audiences={project_id + suffix: kind for kind, suffix in _AUDIENCE_SUFFIXES.items()},
            issuers={
                f"{base}/api/v1/{path}/{project_id}": kind
                for base in issuer_urls
                for kind, path in _ISSUER_PATHS.items()
            },
            key_set_url=f"{api_url}/api/v1/projects/{project_id}/.well-known/jwks.json",
            users_me_url=f"{api_url}/api/v1/users/me",
            policy=Matcher(
                settled["rules"],
                Policy(
                    settled["default_access"],
                    profile=settled["mode"] == "rest",
                    allow_restricted=settled["allow_restricted"],
                    allow_anonymous=settled["allow_anonymous"],
                ),
            ),
        )
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        _living[next(_sequence)] = self

    def __repr__(self) -> str:
        shown = []
        for each in fields(self):
            value = getattr(self, each.name)
            if each.init and value != each.default:
                shown.append(f"{each.name}={'***' if each.name in validation.SECRETS else repr(value)}")
        return f"StackAuthConfig({', '.join(shown)})"

    def __copy__(self) -> StackAuthConfig:
        return self

    def __deepcopy__(self, memo: object) -> StackAuthConfig:
        return self

    def get_or_create(self, make: Callable[[StackAuthConfig], T]) -> T:
        """Return the one `make(config)` that this config owns, made when it is first asked for."""
        with _owning:
            if make not in self._owned:
                self._owned[make] = make(self)
            owned: Any = self._owned[make]
        return owned  # type: ignore[no-any-return]


def config_of(config: StackAuthConfig | None, settings: Settings) -> StackAuthConfig:
    """Return `config`, or one made of `settings`.

    Raises:
        ConfigError: both are given, or what is given is wrong.
    """
    if config is None:
        unknown = sorted(set(settings) - {each.name for each in fields(StackAuthConfig) if each.init})
        if unknown:
            raise ConfigError(f"unknown setting {unknown[0]!r}; see StackAuthConfig for the names")
        return StackAuthConfig(**settings)
    if not isinstance(config, StackAuthConfig):
        raise ConfigError(f"config is {type(config).__name__}; it must be a StackAuthConfig")
    if settings:
        raise ConfigError(f"config and {min(settings)!r} are both given; put every setting in the config")
    return config


_living: WeakValueDictionary[int, StackAuthConfig] = WeakValueDictionary()
_sequence = count()
_owning = threading.RLock()


def newest_config() -> StackAuthConfig | None:
    """Return the config made last of those that are still in use; for the pytest fixture."""
    return max(_living.items(), default=(0, None), key=lambda born: born[0])[1]


def _renew_lock() -> None:
    global _owning  # noqa: PLW0603
    _owning = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
