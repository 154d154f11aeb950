"""The settings, and the URLs, issuers and audiences that follow from them (docs/stack-auth.md sections 3 and 4).

No other module builds a URL, issuer or audience, and none is ever built from a request.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar, get_args

from ..errors import ConfigError, ErrorCode, Event, RefusalInfo
from . import owned, rule_checks, validation
from .credentials import API_KEY_SOURCES, TOKEN_SOURCES, ApiKeySource, TokenSource
from .environment import TypedSettings, typed
from .pickling import check_picklable
from .policy import Access, KeyType, Policy
from .readers import types_of
from .rules import Matcher, Rule
from .settings import PRIVATE, PUBLIC, Given, flag, one_of, seconds, setting, some_of, whole_number
from .sources import with_defaults
from .users import UserType

if TYPE_CHECKING:
    from typing_extensions import Unpack

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
    """The settings as keyword arguments of the middlewares and verifiers. `StackAuthConfig` documents them.

    Type checkers need them spelled out; a test compares them with the fields of `StackAuthConfig`.
    """

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
    api_key_ttl: float
    permission_ttl: float
    token_cache_size: int
    profile_cache_size: int
    profile_cache_bytes: int
    token_sources: Collection[TokenSource]
    api_keys: Collection[KeyType]
    api_key_sources: Collection[ApiKeySource]
    trust_env_proxies: bool
    rules: Sequence[Rule]
    default_access: Access
    error_body: ErrorBody
    explain: bool
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
    """The settings, checked when the config is made, and the owner of caches and connection pools.

    Middlewares and verifiers that are given the same config share its caches and pools. Every setting is a
    keyword with a default. A setting that is not given is read from the environment, else from the TOML file that
    ``STACKAUTH_CONFIG`` names; docs/howto/configuration.md has the variables. Two configs are never equal, and a
    config cannot be changed. A copy is the same object. A pickle holds all settings, secrets included, and no cache;
    functions are pickled by name.

    Raises:
        ConfigError: a setting is missing or wrong.

    Example::

        config = StackAuthConfig(project_id="6fbbf22e-f4b2-4c6e-95a1-beab6fa41063", rules=[Rule("/health", "public")])
        app = StackAuthWSGIMiddleware(app, config)
        verifier = Verifier(config)  # shares the caches of the middleware
    """

    project_id: str = setting(validation.project_id, default="", prefixes=PUBLIC)
    """UUID of the project, or ``internal``."""
    secret_server_key: str = setting(
        validation.api_key("ssk_", "pck_", "sak_"), default="", prefixes=PRIVATE, secret=True
    )
    """Key for server access to the Stack Auth API."""
    publishable_client_key: str = setting(
        validation.api_key("pck_", "ssk_", "sak_"), default="", prefixes=PUBLIC, secret=True
    )
    """Key for client access to users/me, used where there is no secret key."""
    mode: Literal["jwt", "rest"] = setting(one_of("jwt", "rest"), default="jwt")
    """``"jwt"`` verifies tokens locally; ``"rest"`` also loads the profile from users/me."""
    api_url: str = setting(validation.api_url, default="", prefixes=PUBLIC)
    """Base URL of the Stack Auth API; empty for the hosted service."""
    issuer_url: str | Sequence[str] = setting(validation.issuer_urls, default=())
    """Base URL of the tokens' issuers, or a list of several, if it differs from `api_url`, as where `api_url` is a name
    in an internal network."""
    allow_http: bool = setting(flag, default=False)
    """Allow plain http to a host other than ``localhost`` and loopback addresses."""
    allow_restricted: bool = setting(flag, default=False)
    """Accept restricted users."""
    allow_anonymous: bool = setting(flag, default=False)
    """Accept anonymous users, and with them restricted ones, as Stack Auth does."""
    leeway: float = setting(seconds(0, 300), default=5)
    """Clock difference allowed for ``exp`` and ``nbf``, in seconds, 0 to 300."""
    timeout: float = setting(seconds(0.05, 60), default=5)
    """Time budget in seconds, 0.05 to 60, for all calls to Stack Auth before the handler of a request runs, and again
    for each profile that the handler loads. DNS look-ups are not covered."""
    profile_ttl: float = setting(seconds(0, 3600), default=30)
    """Time in seconds, 0 to 3600, for which a profile is cached."""
    api_key_ttl: float = setting(seconds(0, 3600), default=30)
    """Time in seconds, 0 to 3600, for which an API key that was found valid is not checked again, and its owner is
    cached; never beyond the expiry of the key."""
    permission_ttl: float = setting(seconds(0, 3600), default=30)
    """Time in seconds, 0 to 3600, for which the permissions and teams of a user are cached."""
    token_cache_size: int = setting(whole_number, default=10_000)
    """Maximum number of verified tokens in the cache; 0 turns it off."""
    profile_cache_size: int = setting(whole_number, default=10_000)
    """Maximum number of profiles in the cache; also of API keys, of their owners, and of users whose permissions or
    teams are cached."""
    profile_cache_bytes: int = setting(whole_number, default=64 * 1024 * 1024)
    """Maximum size in bytes of each cache that `profile_cache_size` limits, by an estimate that is never too low for
    JSON of the usual shapes. A single entry that is larger is cached all the same."""
    token_sources: Collection[TokenSource] = setting(
        some_of(*TOKEN_SOURCES), default=("x-stack-access-token", "bearer", "x-stack-auth")
    )
    """Where in a request the token is read from."""
    api_keys: Collection[KeyType] = setting(rule_checks.key_types, default=())
    """Types of API keys that are accepted beside tokens where a rule does not say: ``"user"``, ``"team"``, or both.
    Needs `secret_server_key`."""
    api_key_sources: Collection[ApiKeySource] = setting(some_of(*API_KEY_SOURCES), default=API_KEY_SOURCES)
    """Where in a request an API key is read from, on paths that accept API keys."""
    trust_env_proxies: bool = setting(flag, default=False)
    """Use the proxies that environment variables name."""
    rules: Sequence[Rule] = setting(validation.rules, default=())
    """Access rules; the first that matches wins."""
    default_access: Access = setting(one_of(*get_args(Access)), default="required")
    """Access of requests that no rule matches."""
    error_body: ErrorBody = setting(validation.error_body, default=None)
    """Body of a refusal: None for ``{"error": …, "code": …}``, ``"problem"`` for RFC 9457, a mapping from `ErrorCode`
    or status to JSON, or a function of the `ErrorCode` and a `RefusalInfo`."""
    explain: bool = setting(flag, default=False)
    """For development: add the reason of a refusal to its body, as ``reason``, where `error_body` is None or
    ``"problem"``. Possible only if `api_url` is a loopback address."""
    cors_origins: Sequence[str] = setting(validation.cors_origins, default=())
    """Origins whose preflights the middleware answers and whose pages may read a refusal: ``"https://app.example.com"``,
    ``"https://*.example.com"`` for exactly one label, or ``"*"``."""
    cors_credentials: bool = setting(flag, default=False)
    """Allow pages of `cors_origins` to send cookies and client certificates."""
    pass_preflights: bool = setting(flag, default=False)
    """Pass CORS preflights to the app, without a user, and relay only status and CORS headers of its response. For CORS
    tools inside the app; handlers run for unauthenticated requests."""
    private_responses: bool = setting(flag, default=False)
    """Mark responses of routes that are not public as depending on the user, by ``Vary`` and
    ``Cache-Control: private``. Django's middleware always does."""
    state_key: str | None = setting(validation.state_key, default="user")
    """Name under which the user is in ``scope["state"]``; None to set none."""
    request_user: bool = setting(flag, default=False)
    """Also set ``scope["user"]`` and ``scope["auth"]`` in Starlette's form."""
    realm: str = setting(validation.realm, default="stack-auth")
    """Realm of the ``WWW-Authenticate`` challenge."""
    prefetch_keys: bool = setting(flag, default=True)
    """Fetch the key set at the start of the ASGI lifespan."""
    root_path: str = setting(validation.root_path, default="")
    """Mount point of the app, as in ``"/api"``; rules are relative to it. A request whose scope states another one has
    to meet every rule, since some servers take it from a header. ``"scope"`` trusts the scope. An app that is
    ``FastAPI(root_path=...)`` needs no setting."""
    websocket_refusal: Literal["close", "accept"] = setting(one_of("close", "accept"), default="close")
    """``"close"`` refuses a WebSocket before it is accepted; ``"accept"`` accepts and closes it with 3000, 3003 or
    1013, for browsers that must tell the reasons apart."""
    observers: Sequence[Observer] = setting(validation.observers, default=())
    """Functions that are called with an `Event` after each outcome."""

    audiences: Mapping[str, UserType] = field(init=False)
    """The audiences of the project's tokens, each with its user type."""
    issuers: Mapping[str, UserType] = field(init=False)
    """The accepted issuers, each with its user type."""
    key_set_url: str = field(init=False)
    """URL of the key set of normal users."""
    users_me_url: str = field(init=False)
    """URL of users/me."""
    policy: Matcher = field(init=False)
    """Finds the policy of a method, path and root path."""
    _owned: dict[object, object] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        final: dict[str, Any] = {}
        for each in setting_fields():
            value, label = getattr(self, each.name), each.name
            if isinstance(value, Given):
                value, label = value.value, f"{each.name} ({value.source})"
            final[each.name] = each.metadata["check"](label, value)
        validation.reject_contradictions(final)
        self._settle(final)

    def _settle(self, settings: Mapping[str, Any]) -> None:
        """Set the attributes to `settings`, which are valid, and to what follows from them."""
        for name, value in settings.items():
            object.__setattr__(self, name, value)
        derived = {
            "audiences": {self.project_id + suffix: kind for kind, suffix in _AUDIENCE_SUFFIXES.items()},
            "issuers": {
                f"{base}/api/v1/{path}/{self.project_id}": kind
                for base in self.issuer_url or validation.issuer_bases(self.api_url)
                for kind, path in _ISSUER_PATHS.items()
            },
            "key_set_url": f"{self.api_url}/api/v1/projects/{self.project_id}/.well-known/jwks.json",
            "users_me_url": f"{self.api_url}/api/v1/users/me",
            "policy": Matcher(self.rules, self._default_policy()),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        owned.register(self)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **settings: Unpack[Settings]) -> StackAuthConfig:
        """Return a config with the settings of a TOML file; the one that ``STACKAUTH_CONFIG`` names is not read.

        The names are those of the keywords, and each rule is a table ``[[rules]]``.

        Args:
            path: the file.
            settings: settings as keywords. They win over the environment, and that wins over the file.

        Raises:
            ConfigError: the file cannot be read, or a setting is unknown, missing or wrong. The message has the line.

        Example::

            auth = StackAuthConfig.from_file("auth.toml")
        """
        config = cls.__new__(cls)
        _assign(config, **with_defaults(typed_settings(), settings, os.fspath(path)))
        return config

    def _default_policy(self) -> Policy:
        return Policy(
            self.default_access,
            self.mode == "rest",
            self.allow_restricted,
            self.allow_anonymous,
            api_keys=frozenset(self.api_keys),
        )

    def __repr__(self) -> str:
        shown = []
        for each in setting_fields():
            value = getattr(self, each.name)
            if value != each.default:
                shown.append(f"{each.name}={'***' if each.metadata['secret'] else repr(value)}")
        return f"StackAuthConfig({', '.join(shown)})"

    def __copy__(self) -> StackAuthConfig:
        return self

    def __deepcopy__(self, memo: object) -> StackAuthConfig:
        return self

    def __getstate__(self) -> dict[str, Any]:
        names = [each.name for each in setting_fields()]
        check_picklable(self, names)
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "_owned", {})
        self._settle(state)

    def get_or_create(self, make: Callable[[StackAuthConfig], T]) -> T:
        """Return `make(self)`, which is called once for each config and function."""
        return owned.get_or_create(self._owned, make, self)


def setting_fields() -> Iterator[Field[Any]]:
    """Yield the fields of `StackAuthConfig` that are settings."""
    return (each for each in fields(StackAuthConfig) if each.init)


@lru_cache(1)
def typed_settings() -> TypedSettings:
    """Return the settings, each with its type and its environment variables."""
    hints = types_of(StackAuthConfig)
    return {each.name: typed(each, hints[each.name]) for each in setting_fields()}


_assign = StackAuthConfig.__init__
"""The constructor that `dataclass` generated."""


@wraps(_assign)
def _init(self: StackAuthConfig, **settings: Any) -> None:
    _assign(self, **with_defaults(typed_settings(), settings))


StackAuthConfig.__init__ = _init  # type: ignore[method-assign]


def config_of(config: StackAuthConfig | None, keywords: Settings) -> StackAuthConfig:
    """Return `config`, or a config made of `keywords` where it is None.

    Raises:
        ConfigError: both are given, or a setting is unknown or wrong.
    """
    if config is None:
        unknown = sorted(set(keywords) - {each.name for each in setting_fields()})
        if unknown:
            raise ConfigError(f"unknown setting {unknown[0]!r}; see StackAuthConfig for the names")
        return StackAuthConfig(**keywords)
    if not isinstance(config, StackAuthConfig):
        raise ConfigError(f"config is {type(config).__name__}; it must be a StackAuthConfig")
    if keywords:
        raise ConfigError(f"config and {min(keywords)!r} are both given; put every setting in the config")
    return config


def newest_config() -> StackAuthConfig | None:
    """Return the config made last of those that still exist, or None. The pytest fixture issues tokens for it."""
    found: StackAuthConfig | None = owned.newest()
    return found
