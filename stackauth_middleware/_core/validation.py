"""Which settings are right. Every complaint names the setting, what it was, and what would be right."""

from __future__ import annotations

import inspect
import ipaddress
import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ..errors import ConfigError, ErrorCode
from .credentials import TOKEN_SOURCES
from .origins import checked_origins
from .paths import is_plain
from .rules import Rule, plain_function, reject_hidden

_FLAGS = (
    "allow_restricted",
    "allow_anonymous",
    "trust_env_proxies",
    "cors_credentials",
    "pass_preflights",
    "private_responses",
    "request_user",
    "prefetch_keys",
)
SECRETS = frozenset({"secret_server_key", "publishable_client_key"})

HOSTED_API_URL = "https://api.stack-auth.com"
_HOSTED_HOST = re.compile(r"(?:(api[123]?|r)|api\.(dev|staging))\.(?:stack-auth|hexclave)\.com")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PLACEHOLDER = re.compile(r"[<>{}\[\]]|your[-_ ]|xxx|\.\.\.|\A(?:changeme|none|null|undefined)\Z", re.IGNORECASE)


def settled(given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings in their final form.

    Raises:
        ConfigError: one of them is missing or wrong.
    """
    allow_http = _flag(given, "allow_http")
    for name in _FLAGS:
        _flag(given, name)
    return given | {
        "project_id": _project_id(given["project_id"]),
        "secret_server_key": _key(given, "secret_server_key", "ssk_", ("pck_", "sak_")),
        "publishable_client_key": _key(given, "publishable_client_key", "pck_", ("ssk_", "sak_")),
        "mode": _one_of(given, "mode", ("jwt", "rest")),
        "api_url": _api_url(given["api_url"] or HOSTED_API_URL, allow_http=allow_http),
        "issuer_url": _issuer_urls(given["issuer_url"]),
        "leeway": _number(given, "leeway", 0, 300),
        "timeout": _number(given, "timeout", 0.05, 60),
        "profile_ttl": _number(given, "profile_ttl", 0, 3600),
        "token_cache_size": _whole(given, "token_cache_size"),
        "profile_cache_size": _whole(given, "profile_cache_size"),
        "profile_cache_bytes": _whole(given, "profile_cache_bytes"),
        "token_sources": _some_of(given, "token_sources", TOKEN_SOURCES),
        "rules": _rules(given["rules"]),
        "default_access": _one_of(given, "default_access", ("required", "optional", "public")),
        "error_body": _error_body(given["error_body"]),
        "cors_origins": _origins(given),
        "state_key": _state_key(given["state_key"]),
        "realm": _realm(given["realm"]),
        "root_path": _root_path(given["root_path"]),
        "websocket_refusal": _one_of(given, "websocket_refusal", ("close", "accept")),
        "observers": _observers(given["observers"]),
    }


def some_key(secret_server_key: str, publishable_client_key: str) -> None:
    """Demand a key for users/me."""
    if not (secret_server_key or publishable_client_key):
        raise ConfigError(
            "secret_server_key is not set, nor is publishable_client_key; mode 'rest' and Rule(profile=True) ask "
            "Stack Auth for the profile and need one: set STACK_SECRET_SERVER_KEY"
        )


def issuer_bases(api_url: str) -> tuple[str, ...]:
    """Return the base URLs of the issuers behind `api_url`: both brands' hosts for the hosted service.

    The issuer's host is the API's canonical one, and `new URL(path, base)` drops the path of the base
    (contract.md sections 0 and 1).
    """
    hosted = _HOSTED_HOST.fullmatch(urlsplit(api_url).hostname or "")
    if hosted:
        host = f"api.{hosted[2]}" if hosted[2] else "api"
        return (f"https://{host}.stack-auth.com", f"https://{host}.hexclave.com")
    return (_issuer_base("api_url", api_url),)


def _project_id(value: object) -> str:
    if not value:
        raise ConfigError("project_id is not set; pass it, or set STACK_PROJECT_ID to the UUID of the project")
    if isinstance(value, str) and (value == "internal" or _UUID.fullmatch(value)):
        return value
    raise ConfigError(f"project_id is {value!r}; it must be the project's UUID, in lower case and nothing around it")


def _key(given: Mapping[str, Any], name: str, prefix: str, foreign: tuple[str, ...]) -> str:
    value = given[name]
    if not value:
        return ""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(f"{name} is set (hidden) but is no key: it must be printable ASCII without blanks")
    if value.startswith(foreign):
        raise ConfigError(f"{name} is a key of another kind ({value[:4]}…, hidden); it must start with {prefix!r}")
    if not value.startswith(prefix) and _PLACEHOLDER.search(value):
        raise ConfigError(f"{name} is a placeholder (hidden); put in the key, which starts with {prefix!r}")
    return value


def _api_url(value: object, *, allow_http: bool) -> str:
    parts = _base("api_url", value)
    if parts.scheme == "http" and not allow_http and not _is_loopback(parts.hostname or ""):
        raise ConfigError(
            f"api_url is {value!r}; it must be https, since keys fetched over plain http can be forged on the way: "
            "pass allow_http=True where the network is your own"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _issuer_urls(value: object) -> tuple[str, ...]:
    if value is None or isinstance(value, str):
        value = [value] if value else []
    if not isinstance(value, Collection):
        raise ConfigError(f"issuer_url is {value!r}; it must be a base URL, or a list of them")
    return tuple(_issuer_base("issuer_url", base) for base in value)


def _issuer_base(name: str, value: object) -> str:
    """Return scheme, lower-case host and the port that is not the default, as JavaScript's URL does."""
    parts = _base(name, value)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[parts.scheme]
    port = "" if parts.port in (None, default) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _base(name: str, value: object) -> SplitResult:
    try:
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if not good or "@" in parts.netloc or "?" in value or "#" in value or "\\" in value:
            raise ValueError
    except ValueError:
        shown = re.sub("//.*@", "//***@", repr(value))  # a password may stand there
        raise ConfigError(
            f"{name} is {shown}; it must be a base URL such as 'https://api.stack-auth.com', "
            "without user, query or fragment"
        ) from None
    if re.search(r"/api(?:/v\d+|/latest)?/*\Z", parts.path):
        raise ConfigError(f"{name} is {value!r}; leave out the path {parts.path!r}: it is added for each call")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"  # other names below it are up to the resolver, which may ask a server


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given[name]
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; it must be True or False")
    return value


def _one_of(given: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    value = given[name]
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}")
    return value


def _some_of(given: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    value = given[name]
    some = isinstance(value, Collection) and not isinstance(value, str) and bool(value)
    if not some or not all(each in choices for each in value):
        raise ConfigError(f"{name} is {value!r}; it must name some of {', '.join(map(repr, choices))}")
    return tuple(value)


def _number(given: Mapping[str, Any], name: str, least: float, most: float) -> float:
    value = given[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value < math.inf:
        raise ConfigError(f"{name} is {value!r}; it must be a number of seconds")
    if not least <= value <= most:
        raise ConfigError(f"{name} is {value!r}; it must be from {least} to {most} seconds")
    return value


def _whole(given: Mapping[str, Any], name: str) -> int:
    value = given[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{name} is {value!r}; it must be a whole number, 0 or more")
    return value


def _rules(value: object) -> tuple[Rule, ...]:
    if isinstance(value, Collection) and not isinstance(value, str) and all(isinstance(r, Rule) for r in value):
        rules = tuple(value)
        reject_hidden(rules)
        return rules
    raise ConfigError(f"rules is {value!r}; it must be a list of Rule")


def _observers(value: object) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Collection):
        raise ConfigError(f"observers is {value!r}; it must be a list of functions")
    return tuple(plain_function("observers", each) for each in value)


def _error_body(value: Any) -> Any:
    if value is None or value == "problem":
        return value
    if isinstance(value, Mapping):
        statuses = {row.status for row in ErrorCode}
        for key, body in value.items():
            if not isinstance(key, ErrorCode) and (isinstance(key, bool) or key not in statuses):
                raise ConfigError(f"error_body has the key {key!r}; keys are ErrorCode members or {sorted(statuses)}")
            try:
                json.dumps(body, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"error_body for {key!r} is {body!r}, which is not JSON: {error}") from None
        return dict(value)
    plain_function("error_body", value)
    try:
        inspect.signature(value).bind(ErrorCode.MISSING_TOKEN, None)
    except TypeError:
        raise ConfigError(f"error_body is {value!r}; it must take two arguments, (error, info)") from None
    except ValueError:
        return value  # a builtin without a signature: the first call will tell
    return value


def _origins(given: Mapping[str, Any]) -> tuple[str, ...]:
    origins = checked_origins(given["cors_origins"])
    if given["cors_credentials"] and "*" in origins:
        raise ConfigError(
            "cors_credentials is True and cors_origins has '*'; browsers do not send credentials where every origin "
            "is allowed: name the origins"
        )
    return origins


def _state_key(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value.isidentifier()):
        return value
    raise ConfigError(f"state_key is {value!r}; it must be a name such as 'user', or None")


def _realm(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[\x20-\x7e]+", value) and not set(value) & set('"\\'):
        return value
    raise ConfigError(f"realm is {value!r}; it must be printable ASCII without quotes and backslashes")


def _root_path(value: object) -> str:
    if isinstance(value, str) and (value in ("", "scope") or (is_plain(value) and not value.endswith("/"))):
        return value
    raise ConfigError(
        f"root_path is {value!r}; it must be a path that does not end in '/', as in '/api/v2', or '', or 'scope'"
    )
