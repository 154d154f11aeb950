"""Checks of the settings that need more than a type and a range. See `Check` for their form."""

from __future__ import annotations

import inspect
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ..errors import ConfigError, ErrorCode
from .origins import checked_origins
from .paths import is_plain
from .rules import Rule, reject_hidden
from .settings import Check, is_list, plain_function

HOSTED_API_URL = "https://api.stack-auth.com"
_HOSTED_HOST = re.compile(r"(?:(api[123]?|r)|api\.(dev|staging))\.(?:stack-auth|hexclave)\.com")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PLACEHOLDER = re.compile(r"[<>{}\[\]]|your[-_ ]|xxx|\.\.\.|\A(?:changeme|none|null|undefined)\Z", re.IGNORECASE)


def project_id(name: str, value: Any) -> str:
    """Check that `value` is a UUID in lower case, or ``internal``."""
    if not value:
        raise ConfigError("project_id is not set; pass it, or set STACK_PROJECT_ID to the UUID of the project")
    if isinstance(value, str) and (value == "internal" or _UUID.fullmatch(value)):
        return value
    raise ConfigError(f"{name} is {value!r}; it must be the project's UUID, in lower case and nothing around it")


def api_key(prefix: str, *other_prefixes: str) -> Check:
    """Return a check that a key is empty, or printable and of the kind that starts with `prefix`.

    Keys without a prefix pass: self-hosted servers may use their own. The message never shows the key.
    """

    def check(name: str, value: Any) -> str:
        if not value:
            return ""
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
            raise ConfigError(f"{name} is set (hidden) but is no key: it must be printable ASCII without blanks")
        if value.startswith(other_prefixes):
            raise ConfigError(f"{name} is a key of another kind ({value[:4]}…, hidden); it must start with {prefix!r}")
        if not value.startswith(prefix) and _PLACEHOLDER.search(value):
            raise ConfigError(f"{name} is a placeholder (hidden); put in the key, which starts with {prefix!r}")
        return value

    return check


def api_url(name: str, value: Any) -> str:
    """Check that `value` is a base URL, or empty for the hosted service. The final form has no trailing slash."""
    parts = _base_url(name, value or HOSTED_API_URL)
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def issuer_urls(name: str, value: Any) -> tuple[str, ...]:
    """Check that `value` is a base URL, several, or none. The final form is a tuple of origins."""
    if value is None or isinstance(value, str):
        value = [value] if value else []
    if not is_list(value):
        raise ConfigError(f"{name} is {value!r}; it must be a base URL, or a list of them")
    return tuple(_issuer_base(name, base) for base in value)


def issuer_bases(url: str) -> tuple[str, ...]:
    """Return the base URLs of the issuers of the API at `url`: both brands' hosts for the hosted service.

    The server builds the issuer from its canonical host, and drops the path of its base URL
    (docs/stack-auth.md section 3).
    """
    hosted = _HOSTED_HOST.fullmatch(urlsplit(url).hostname or "")
    if hosted:
        host = f"api.{hosted[2]}" if hosted[2] else "api"
        return (f"https://{host}.stack-auth.com", f"https://{host}.hexclave.com")
    return (_issuer_base("api_url", url),)


def rules(name: str, value: Any) -> tuple[Rule, ...]:
    """Check that `value` is a list of `Rule`, none of which is hidden by an earlier one."""
    if not is_list(value) or not all(isinstance(each, Rule) for each in value):
        raise ConfigError(f"{name} is {value!r}; it must be a list of Rule")
    reject_hidden(tuple(value))
    return tuple(value)


def observers(name: str, value: Any) -> tuple[Any, ...]:
    """Check that `value` is a list of plain functions."""
    if not is_list(value):
        raise ConfigError(f"{name} is {value!r}; it must be a list of functions")
    return tuple(plain_function(name, each) for each in value)


def error_body(name: str, value: Any) -> Any:
    """Check that `value` is None, ``"problem"``, a mapping to JSON, or a function of two arguments."""
    if value is None or value == "problem":
        return value
    if isinstance(value, Mapping):
        statuses = {code.status for code in ErrorCode}
        for key, body in value.items():
            if not isinstance(key, ErrorCode) and (isinstance(key, bool) or key not in statuses):
                raise ConfigError(f"{name} has the key {key!r}; keys are ErrorCode members or {sorted(statuses)}")
            try:
                json.dumps(body, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{name} for {key!r} is {body!r}, which is not JSON: {error}") from None
        return dict(value)
    plain_function(name, value)
    try:
        inspect.signature(value).bind(ErrorCode.MISSING_TOKEN, None)
    except TypeError:
        raise ConfigError(f"{name} is {value!r}; it must take two arguments, (error, info)") from None
    except ValueError:
        return value  # a builtin without a signature; a wrong one fails at the first refusal
    return value


def cors_origins(name: str, value: Any) -> tuple[str, ...]:
    """Check that `value` is a list of origins that a browser can send."""
    return checked_origins(value, name)


def state_key(name: str, value: Any) -> str | None:
    """Check that `value` is an identifier or None."""
    if value is None or (isinstance(value, str) and value.isidentifier()):
        return value
    raise ConfigError(f"{name} is {value!r}; it must be a name such as 'user', or None")


def realm(name: str, value: Any) -> str:
    """Check that `value` can stand in a quoted string of a header (RFC 9110 section 5.6.4) without escapes."""
    if isinstance(value, str) and re.fullmatch(r"[\x20-\x7e]+", value) and not set(value) & set('"\\'):
        return value
    raise ConfigError(f"{name} is {value!r}; it must be printable ASCII without quotes and backslashes")


def root_path(name: str, value: Any) -> str:
    """Check that `value` is a plain path without a trailing slash, ``""`` or ``"scope"``."""
    if isinstance(value, str) and (value in ("", "scope") or (is_plain(value) and not value.endswith("/"))):
        return value
    raise ConfigError(
        f"{name} is {value!r}; it must be a path that does not end in '/', as in '/api/v2', or '', or 'scope'"
    )


def reject_contradictions(settings: Mapping[str, Any]) -> None:
    """Check the settings, each of which has passed its own check, against each other.

    Raises:
        ConfigError: they cannot work together.
    """
    url = urlsplit(settings["api_url"])
    if url.scheme == "http" and not settings["allow_http"] and not _is_loopback(url.hostname or ""):
        raise ConfigError(
            f"api_url is {settings['api_url']!r}; it must be https, since keys fetched over plain http can be forged "
            "on the way: pass allow_http=True where the network is your own"
        )
    if settings["explain"] and not _is_loopback(url.hostname or ""):
        raise ConfigError(
            "explain is True, which shows strangers what is wrong with a forged token; it is possible only with an "
            "api_url on a loopback address, such as that of the local Stack Auth"
        )
    if settings["cors_credentials"] and "*" in settings["cors_origins"]:
        raise ConfigError(
            "cors_credentials is True and cors_origins has '*'; browsers do not send credentials where every origin "
            "is allowed: name the origins"
        )
    _require_keys(settings)


def _require_keys(settings: Mapping[str, Any]) -> None:
    rules, secret = settings["rules"], settings["secret_server_key"]
    if not secret and (settings["api_keys"] or any(rule.api_keys or rule.permission for rule in rules)):
        raise ConfigError(
            "secret_server_key is not set; Stack Auth checks API keys and permissions for servers only: set "
            "STACK_SECRET_SERVER_KEY"
        )
    loads_profiles = settings["mode"] == "rest" or any(rule.profile for rule in rules)
    if loads_profiles and not (secret or settings["publishable_client_key"]):
        raise ConfigError(
            "secret_server_key is not set, nor is publishable_client_key; mode 'rest' and Rule(profile=True) ask "
            "Stack Auth for the profile and need one: set STACK_SECRET_SERVER_KEY"
        )


def _issuer_base(name: str, value: object) -> str:
    """Return scheme, lower-case host and a port other than the default, as JavaScript's ``URL.origin`` has them."""
    parts = _base_url(name, value)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[parts.scheme]
    port = "" if parts.port in (None, default) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _base_url(name: str, value: object) -> SplitResult:
    try:
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if not good or "@" in parts.netloc or "?" in value or "#" in value or "\\" in value:
            raise ValueError
    except ValueError:
        shown = re.sub("//.*@", "//***@", repr(value))  # user information may hold a password
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
        return host == "localhost"  # subdomains of localhost may be resolved by a DNS server
